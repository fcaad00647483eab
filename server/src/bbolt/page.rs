//! The bytes of pages. Numbers are little-endian.
//!
//! A page is a head of 16 bytes (number u64, flags u16, count of elements u16, pages that follow and belong to it u32),
//! then elements of 16 bytes each, then the keys and values that they point to, counted from the element's own place.

use super::PAGE_BYTES;

/// Flag of a leaf's element whose value is a bucket.
pub(super) const IS_BUCKET: u32 = 1;

const HEAD_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const META: u16 = 4;
const FREE: u16 = 16;

/// The kind of a page of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    /// Names other pages, each by its first key.
    Branch = 1,
    /// Holds pairs.
    #[default]
    Leaf = 2,
}

/// A page that is being filled.
#[derive(Debug, Default)]
pub(super) struct Page {
    kind: Kind,
    elements: Vec<Element>,
    /// Keys and values in a row.
    data: Vec<u8>,
}

/// One element, with where its bytes begin among the page's data.
#[derive(Debug)]
struct Element {
    at: usize,
    key_bytes: usize,
    /// Of a leaf: flags and value bytes. Of a branch: the child.
    what: What,
}

#[derive(Debug)]
enum What {
    Pair { flags: u32, value_bytes: usize },
    Child(u64),
}

impl Page {
    pub(super) fn of(kind: Kind) -> Self {
        Self {
            kind,
            ..Self::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Whether an element of `bytes` still fits. One too large for any page fits into an empty one.
    pub(super) fn fits(&self, bytes: usize) -> bool {
        let elements = (self.elements.len() + 1) * ELEMENT_BYTES;
        self.is_empty() || HEAD_BYTES + elements + self.data.len() + bytes <= PAGE_BYTES
    }

    /// The first key; empty if there is none.
    pub(super) fn first_key(&self) -> &[u8] {
        let first = self.elements.first();
        first.map_or(&[], |first| &self.data[..first.key_bytes])
    }

    pub(super) fn add_pair(&mut self, key: &[u8], value: &[u8], flags: u32) {
        let value_bytes = value.len();
        self.add(key, What::Pair { flags, value_bytes });
        self.data.extend_from_slice(value);
    }

    pub(super) fn add_child(&mut self, key: &[u8], child: u64) {
        self.add(key, What::Child(child));
    }

    fn add(&mut self, key: &[u8], what: What) {
        self.elements.push(Element {
            at: self.data.len(),
            key_bytes: key.len(),
            what,
        });
        self.data.extend_from_slice(key);
    }

    /// The bytes of page `number`: a whole number of pages.
    pub(super) fn finish(self, number: u64) -> Vec<u8> {
        let data_at = HEAD_BYTES + self.elements.len() * ELEMENT_BYTES;
        let pages = (data_at + self.data.len()).div_ceil(PAGE_BYTES);
        let mut bytes = head(number, self.kind as u16, self.elements.len(), pages - 1);
        bytes.reserve(pages * PAGE_BYTES);
        for element in &self.elements {
            let distance = data_at + element.at - bytes.len();
            match element.what {
                What::Pair { flags, value_bytes } => {
                    bytes.extend_from_slice(&flags.to_le_bytes());
                    bytes.extend_from_slice(&short(distance));
                    bytes.extend_from_slice(&short(element.key_bytes));
                    bytes.extend_from_slice(&short(value_bytes));
                }
                What::Child(child) => {
                    bytes.extend_from_slice(&short(distance));
                    bytes.extend_from_slice(&short(element.key_bytes));
                    bytes.extend_from_slice(&child.to_le_bytes());
                }
            }
        }
        bytes.extend_from_slice(&self.data);
        bytes.resize(pages * PAGE_BYTES, 0);
        bytes
    }
}

/// The value of a bucket in the root's leaf: its tree, and a counter that etcd does not use.
pub(super) fn bucket(root: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&root.to_le_bytes());
    bytes
}

/// A list of free pages that has none.
pub(super) fn free_list(number: u64) -> Vec<u8> {
    let mut bytes = head(number, FREE, 0, 0);
    bytes.resize(PAGE_BYTES, 0);
    bytes
}

/// Meta page `number`, 0 or 1, of transaction `number`: the root, the list of free pages, the first page beyond the file.
pub(super) fn meta(number: u64, root: u64, free: u64, end: u64) -> Vec<u8> {
    let mut bytes = head(number, META, 0, 0);
    for word in [MAGIC, VERSION, PAGE_BYTES as u32, 0] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    for word in [root, 0, free, end, number] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    let sum = fnv1a(&bytes[HEAD_BYTES..]);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes.resize(PAGE_BYTES, 0);
    bytes
}

fn head(number: u64, flags: u16, count: usize, more_pages: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PAGE_BYTES);
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&flags.to_le_bytes());
    let count = u16::try_from(count).expect("a page has room for some 250 elements");
    bytes.extend_from_slice(&count.to_le_bytes());
    bytes.extend_from_slice(&short(more_pages));
    bytes
}

/// A length or distance inside a page. Pairs are bounded by what a request may be.
fn short(number: usize) -> [u8; 4] {
    u32::try_from(number)
        .expect("no pair has four gigabytes")
        .to_le_bytes()
}

/// FNV-1a, 64 bits.
fn fnv1a(bytes: &[u8]) -> u64 {
    let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_fnv_1a() {
        // From the published test vectors.
        assert_eq!(fnv1a(b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(b"foobar"), 0x8594_4171_f739_67e8);
    }
}
