//! Cuts off what a power cut left of the last batches in fjall 3.1's newest journal: whole batches stay, up to the first
//! that is not whole.
//!
//! fjall does so where the rest cannot be read at all, but refuses the journal where only some sectors of a batch
//! reached the disk. Nothing is lost: entries that the log no longer has were synced before. Where it is not a power
//! cut's work but damage further up, the state then ends before the log begins, and a start, which opens both, finds
//! that.
//!
//! And cuts at a batch whose sequence number no batch can have: no checksum covers the numbers, and fjall would panic at each
//! start once it has taken such a one for the newest.
//!
//! A batch: a start (tag, 4 bytes of count, 8 of sequence number), that count of items (tag, type, compression, 8
//! bytes of keyspace; 2, 4 and 4 bytes of lengths: key, value, value as stored; key, value), an end (tag, XXH3 of the
//! items, magic). Numbers are little-endian.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::error::OpenError;
use crate::command::Fault;

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const MAGIC: [u8; 4] = *b"FJL\x03";

/// fjall counts up from zero and panics from twice this on.
const NUMBERS_END: u64 = 1 << 62;

/// The next thing in a journal.
enum Next {
    /// A whole batch, with its bytes.
    Whole(u64),
    /// A batch of which a part is missing.
    Torn,
    /// A batch with a number that none can have.
    Misnumbered,
    /// No batch: the end, or the zeros of a file that is larger than its content.
    Nothing,
}

/// Cuts the newest journal of the database at `path`, if there is one and it must be cut. No batch of an older one is in part:
/// it was synced before the next was begun.
pub(super) fn cut(path: &Path) -> Result<(), OpenError> {
    let mut journals = journals(path).map_err(fault(path))?;
    let Some(journal) = journals.pop() else {
        return Ok(());
    };
    for older in journals {
        if let (_, Next::Misnumbered) = whole(&older).map_err(fault(&older))? {
            let why = format!(
                "{}: a batch with a number that none can have",
                older.display()
            );
            return Err(OpenError::Damaged(why));
        }
    }
    let (length, end) = whole(&journal).map_err(fault(&journal))?;
    if let Next::Nothing = end {
        return Ok(());
    }
    tracing::warn!(path = %journal.display(), length, "the newest rows were only partly written and are taken from the log");
    let cut = || {
        let file = OpenOptions::new().write(true).open(&journal)?;
        file.set_len(length)?;
        file.sync_all()
    };
    cut().map_err(fault(&journal))
}

fn fault(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Fault(Fault::Io { path, source })
}

/// Bytes of the disk that the journals of a database take.
pub(super) fn allocated_bytes(path: &Path) -> io::Result<u64> {
    // Of stat(2), whatever the file system's own blocks are.
    const BLOCK_BYTES: u64 = 512;
    let mut bytes = 0;
    for journal in journals(path)? {
        // One that is no longer needed may be gone by now.
        bytes += fs::metadata(journal).map_or(0, |journal| journal.blocks() * BLOCK_BYTES);
    }
    Ok(bytes)
}

/// The journals of a database, oldest first.
fn journals(path: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut journals = BTreeMap::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_suffix(".jnl")?.parse::<u64>().ok());
        if let Some(number) = number {
            journals.insert(number, path);
        }
    }
    Ok(journals.into_values().collect())
}

/// The length of the whole batches that a journal begins with, and what follows them.
fn whole(journal: &Path) -> io::Result<(u64, Next)> {
    let file = File::open(journal)?;
    let length = file.metadata()?.len();
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let mut whole = 0;
    loop {
        match next(&mut reader, length - whole) {
            Ok(Next::Whole(bytes)) => whole += bytes,
            Ok(end) => return Ok((whole, end)),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Ok((whole, Next::Torn));
            }
            Err(error) => return Err(error),
        }
    }
}

fn next(reader: &mut impl Read, left: u64) -> io::Result<Next> {
    if left == 0 || take::<1>(reader)? != [START] {
        return Ok(Next::Nothing);
    }
    let count = u32::from_le_bytes(take(reader)?);
    if u64::from_le_bytes(take(reader)?) >= NUMBERS_END {
        return Ok(Next::Misnumbered);
    }
    let mut bytes = 13;
    let mut sum = Xxh3::new();
    for _ in 0..count {
        let tag: [u8; 1] = take(reader)?;
        sum.update(&tag);
        bytes += 1;
        let rest = match tag {
            [ITEM] => {
                let head: [u8; 20] = take(reader)?;
                sum.update(&head);
                let [.., k0, k1, _, _, _, _, v0, v1, v2, v3] = head;
                bytes += 20;
                u64::from(u16::from_le_bytes([k0, k1]))
                    + u64::from(u32::from_le_bytes([v0, v1, v2, v3]))
            }
            [CLEAR] => 8,
            _ => return Ok(Next::Torn),
        };
        if rest > left.saturating_sub(bytes) {
            return Ok(Next::Torn);
        }
        bytes += rest;
        copy(reader, rest, &mut sum)?;
    }
    let is_end = take(reader)? == [END];
    let expected = u64::from_le_bytes(take(reader)?);
    let is_whole = is_end && expected == sum.digest() && take(reader)? == MAGIC;
    Ok(match is_whole {
        true => Next::Whole(bytes + 13),
        false => Next::Torn,
    })
}

fn take<const N: usize>(reader: &mut impl Read) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn copy(reader: &mut impl Read, mut bytes: u64, sum: &mut Xxh3) -> io::Result<()> {
    let mut piece = [0; 4096];
    while bytes > 0 {
        let length = usize::try_from(bytes).map_or(piece.len(), |bytes| bytes.min(piece.len()));
        reader.read_exact(&mut piece[..length])?;
        sum.update(&piece[..length]);
        bytes -= length as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use fjall::{Database, KeyspaceCreateOptions, PersistMode};

    use super::*;

    const ROWS: u8 = 20;

    /// A database whose rows are all in its journal; the journal, and where each of its batches ends.
    fn filled(dir: &Path) -> (PathBuf, Vec<u64>) {
        let db = Database::builder(dir).open().unwrap();
        let rows = db.keyspace("rows", KeyspaceCreateOptions::default).unwrap();
        for number in 0..ROWS {
            // Some are long enough to be compressed.
            let value = vec![number; if number % 3 == 0 { 9000 } else { 700 }];
            rows.insert([number], value).unwrap();
        }
        db.persist(PersistMode::SyncAll).unwrap();
        drop((rows, db));
        let journal = journals(dir).unwrap().pop().unwrap();
        let mut reader = BufReader::new(File::open(&journal).unwrap());
        let mut ends = vec![0];
        while let Next::Whole(bytes) = next(&mut reader, u64::MAX).unwrap() {
            ends.push(ends.last().unwrap() + bytes);
        }
        (journal, ends)
    }

    fn rows(dir: &Path) -> usize {
        let db = Database::builder(dir).open().unwrap();
        let rows = db.keyspace("rows", KeyspaceCreateOptions::default).unwrap();
        rows.iter().count()
    }

    #[test]
    fn the_journal_of_fjall_is_read_as_it_writes_it() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, ends) = filled(dir.path());
        assert_eq!(ends.len(), usize::from(ROWS) + 1);
        assert!(matches!(whole(&journal).unwrap(), (_, Next::Nothing)));
        cut(dir.path()).map_err(OpenError::into_fault).unwrap();
        assert_eq!(rows(dir.path()), usize::from(ROWS));
    }

    #[test]
    fn sectors_that_are_missing_cost_the_batch_and_what_comes_after_it() {
        // Where in a batch zeros begin, and how many there are.
        for (from, zeros) in [(0, 1), (1, 30), (14, 512), (40, 1), (200, 512), (690, 40)] {
            let dir = tempfile::tempdir().unwrap();
            let (journal, ends) = filled(dir.path());
            let mut file = OpenOptions::new().write(true).open(&journal).unwrap();
            file.seek(SeekFrom::Start(ends[10] + from)).unwrap();
            file.write_all(&vec![0; zeros]).unwrap();
            drop(file);
            cut(dir.path()).map_err(OpenError::into_fault).unwrap();
            assert_eq!(rows(dir.path()), 10, "{zeros} zeros at {from}");
        }
    }

    #[test]
    fn a_number_that_no_batch_can_have_costs_the_batch_or_the_database() {
        for is_older in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let (journal, ends) = filled(dir.path());
            let mut file = OpenOptions::new().write(true).open(&journal).unwrap();
            // The highest byte of the number of the eleventh batch.
            file.seek(SeekFrom::Start(ends[10] + 12)).unwrap();
            file.write_all(&[0x80]).unwrap();
            drop(file);
            if is_older {
                fs::write(dir.path().join("1000000.jnl"), []).unwrap();
                let refused = cut(dir.path());
                assert!(matches!(refused, Err(OpenError::Damaged(why)) if why.contains("number")));
            } else {
                cut(dir.path()).map_err(OpenError::into_fault).unwrap();
                assert_eq!(rows(dir.path()), 10);
            }
        }
    }

    #[test]
    fn a_database_that_does_not_exist_yet_has_nothing_to_cut() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none");
        cut(&none).map_err(OpenError::into_fault).unwrap();
        assert!(!none.exists());
    }
}
