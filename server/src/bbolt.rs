//! Writes a bbolt database: the file that etcd keeps its state in, and that its tools read.
//!
//! Owns the page format. Keys come in ascending order, bucket by bucket; pages are written as they fill, children before
//! parents, so that memory holds one page for each level of the tree, however large the database becomes. The two meta
//! pages are written last. Every page is 4096 bytes, all of them are reachable, and the list of free ones is empty.
//! Source: bbolt `internal/common/page.go`, `meta.go`, `bucket.go`.

mod page;
mod tree;

use std::io::{self, Write};

use tree::Tree;

/// Bytes of a page.
pub const PAGE_BYTES: usize = 4096;
/// Pages before the first of a tree: two metas, and the list of free pages.
const FIRST: u64 = 3;
/// The list of free pages.
const FREE_LIST: u64 = 2;

/// A database in the making. Give it to [`finish`](Self::finish), or nothing of it can be opened.
pub struct Writer<W> {
    pages: Pages<W>,
    buckets: Vec<(Vec<u8>, u64)>,
}

/// A bucket that takes its keys.
pub struct Bucket<'a, W> {
    writer: &'a mut Writer<W>,
    tree: Tree,
}

/// Where pages go, in order.
struct Pages<W> {
    out: W,
    next: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a database; `out` must be at its start and empty. Leaves room for what is written last.
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&[0; PAGE_BYTES * 2])?;
        out.write_all(&page::free_list(FREE_LIST))?;
        let pages = Pages { out, next: FIRST };
        Ok(Self {
            pages,
            buckets: Vec::new(),
        })
    }

    /// Begins a bucket. Names may come in any order, each once.
    pub fn bucket(&mut self, name: &[u8]) -> Bucket<'_, W> {
        self.buckets.push((name.to_vec(), 0));
        Bucket {
            writer: self,
            tree: Tree::default(),
        }
    }

    /// Writes the directory of buckets. Returns what the pages were written to, with the bytes that belong at its start.
    pub fn finish(mut self) -> io::Result<(W, [u8; PAGE_BYTES * 2])> {
        self.buckets.sort();
        let mut root = Tree::default();
        for (name, at) in &self.buckets {
            root.add(&mut self.pages, name, &page::bucket(*at), page::IS_BUCKET)?;
        }
        let root = root.finish(&mut self.pages)?;
        let mut start = [0; PAGE_BYTES * 2];
        for (number, meta) in (0..).zip(start.chunks_exact_mut(PAGE_BYTES)) {
            meta.copy_from_slice(&page::meta(number, root, FREE_LIST, self.pages.next));
        }
        self.pages.out.flush()?;
        Ok((self.pages.out, start))
    }
}

impl<W: Write> Bucket<'_, W> {
    /// Adds a pair; its key is above all before it.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.tree.add(&mut self.writer.pages, key, value, 0)
    }

    /// Ends the bucket.
    pub fn end(self) -> io::Result<()> {
        let root = self.tree.finish(&mut self.writer.pages)?;
        let (_, at) = self
            .writer
            .buckets
            .last_mut()
            .expect("this bucket was pushed when it began");
        *at = root;
        Ok(())
    }
}

impl<W: Write> Pages<W> {
    /// Writes a page, which may go on over the pages after it. Returns its number.
    fn write(&mut self, page: page::Page) -> io::Result<u64> {
        let at = self.next;
        let bytes = page.finish(at);
        self.out.write_all(&bytes)?;
        self.next += (bytes.len() / PAGE_BYTES) as u64;
        Ok(at)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

    fn database(buckets: &BTreeMap<&str, Pairs>) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new()).unwrap();
        for (name, pairs) in buckets.iter().rev() {
            let mut bucket = writer.bucket(name.as_bytes());
            for (key, value) in pairs {
                bucket.add(key, value).unwrap();
            }
            bucket.end().unwrap();
        }
        let (mut file, start) = writer.finish().unwrap();
        file[..start.len()].copy_from_slice(&start);
        file
    }

    fn u16_at(bytes: &[u8], at: usize) -> usize {
        u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap()).into()
    }

    fn u32_at(bytes: &[u8], at: usize) -> usize {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize
    }

    fn u64_at(bytes: &[u8], at: usize) -> usize {
        usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
    }

    /// Reads what stands below a page as bbolt does, and counts the pages.
    fn read(file: &[u8], number: usize, found: &mut Pairs, pages: &mut usize) {
        let page = &file[number * PAGE_BYTES..];
        assert_eq!(u64_at(page, 0), number);
        *pages += 1 + u32_at(page, 12);
        for element in 0..u16_at(page, 10) {
            let at = 16 + element * 16;
            match u16_at(page, 8) {
                1 => {
                    let key = at + u32_at(page, at);
                    let key = &page[key..key + u32_at(page, at + 4)];
                    let mut below = Pairs::new();
                    read(file, u64_at(page, at + 8), &mut below, pages);
                    assert_eq!(below.keys().next().unwrap(), key);
                    found.extend(below);
                }
                2 => {
                    let key = at + u32_at(page, at + 4);
                    let value = key + u32_at(page, at + 8);
                    let end = value + u32_at(page, at + 12);
                    let last = found.last_key_value().map(|(key, _)| key.as_slice());
                    assert!(last.is_none_or(|last| last < &page[key..value]));
                    found.insert(page[key..value].to_vec(), page[value..end].to_vec());
                }
                flags => panic!("page {number} has flags {flags}"),
            }
        }
    }

    #[test]
    fn what_was_written_is_found_again_and_no_page_is_lost() {
        let number = |n: u32| n.to_be_bytes().to_vec();
        let many = (0..60_000).map(|n| (number(n), vec![7; n as usize % 90]));
        let large = (0..5).map(|n| (number(n), vec![9; 3000 * n as usize]));
        let buckets = BTreeMap::from([
            ("many", many.collect()),
            ("large", large.collect()),
            ("one", Pairs::from([(b"k".to_vec(), Vec::new())])),
            ("none", Pairs::new()),
        ]);
        let file = database(&buckets);
        assert_eq!(file.len() % PAGE_BYTES, 0);
        let meta = &file[16..];
        let mut pages = FIRST as usize;
        let mut root = Pairs::new();
        read(&file, u64_at(meta, 16), &mut root, &mut pages);
        assert_eq!(root.len(), buckets.len());
        for (name, pairs) in &buckets {
            let mut found = Pairs::new();
            let at = u64_at(&root[name.as_bytes()], 0);
            read(&file, at, &mut found, &mut pages);
            assert_eq!(&found, pairs, "{name}");
        }
        assert_eq!(pages * PAGE_BYTES, file.len(), "every page is reachable");
        assert_eq!(u64_at(meta, 40), pages, "the first page that is none");
    }

    #[test]
    fn the_bytes_of_a_small_database_are_bbolts() {
        let pairs = Pairs::from([(b"a".to_vec(), b"1".to_vec())]);
        let file = database(&BTreeMap::from([("b", pairs)]));
        let pages: Vec<&[u8]> = file.chunks(PAGE_BYTES).collect();
        assert_eq!(pages.len(), 5);
        // Page 1: its number, flags 4; magic, version, page size; root 4, free list 2, five pages, transaction 1.
        let meta = b"\x01\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\xed\xda\x0c\xed\x02\0\0\0\0\x10\0\0\0\0\0\0\
                     \x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0";
        assert_eq!(&pages[1][..meta.len()], meta);
        let leaf =
            b"\x03\0\0\0\0\0\0\0\x02\0\x01\0\0\0\0\0\0\0\0\0\x10\0\0\0\x01\0\0\0\x01\0\0\0a1\0";
        assert_eq!(&pages[3][..leaf.len()], leaf);
        let root = b"\x04\0\0\0\0\0\0\0\x02\0\x01\0\0\0\0\0\x01\0\0\0\x10\0\0\0\x01\0\0\0\x10\0\0\0b\x03\0";
        assert_eq!(&pages[4][..root.len()], root);
    }
}
