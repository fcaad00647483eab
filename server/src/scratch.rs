//! Files without a name, and sorting more than memory should hold.
//!
//! A file here is unlinked as soon as it is open: the disk has it back when it is dropped, or the process ends, however
//! it ends. [`Sorter`] keeps a bounded number of bytes in memory and the rest in such a file, in sorted runs.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Bytes of a run that are read at a time. Eight gigabytes are 500 runs of 16 MiB: 16 MiB in memory.
const READ_BYTES: usize = if cfg!(test) { 64 } else { 32 << 10 };
/// Bytes that are sorted in memory, beyond them on disk.
const SORT_BYTES: usize = 16 << 20;
/// On a small machine, this part of its memory: two copies and a checksum may be made at once.
const SORT_PART_OF_MEMORY: u64 = 64;
/// Key and length before each record of a run.
const HEAD_BYTES: usize = 20;

/// Where work is done that needs more than memory should hold.
#[derive(Clone, Debug)]
pub struct Room {
    /// Where files are.
    pub dir: PathBuf,
    /// Bytes that are sorted in memory.
    pub sort_bytes: usize,
}

impl Room {
    /// In `dir`, of a process that may take `memory_bytes`.
    pub fn new(dir: PathBuf, memory_bytes: u64) -> Self {
        let part = usize::try_from(memory_bytes / SORT_PART_OF_MEMORY);
        Self {
            dir,
            sort_bytes: part.map_or(SORT_BYTES, |part| part.min(SORT_BYTES)),
        }
    }
}

/// An empty file in `dir` that has no name any more.
pub fn file(dir: &Path) -> io::Result<File> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Relaxed);
    let path = dir.join(format!("scratch-{}-{number}.tmp", std::process::id()));
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true);
    let file = file.open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(file)
}

/// Bytes left to the log and the state on a disk that files here fill: two segments, the tables that are being written,
/// and time for an operator to act.
const LEFT_BYTES: u64 = 128 << 20;
/// Written between two looks at what is left.
const LOOK_BYTES: u64 = 4 << 20;

/// Writes to a file here, as long as the disk has room for more than that.
///
/// Errors: `StorageFull` before the log and the state would run out of room.
pub struct Sparing<'a> {
    file: &'a File,
    until_look: u64,
}

impl<'a> Sparing<'a> {
    /// Looks at the disk before the first byte.
    pub fn new(file: &'a File) -> Self {
        let until_look = 0;
        Self { file, until_look }
    }

    fn look(&self) -> io::Result<()> {
        let disk = rustix::fs::fstatvfs(self.file)?;
        let left = disk.f_bavail.saturating_mul(disk.f_frsize);
        if left < LEFT_BYTES + LOOK_BYTES {
            let why = format!(
                "the disk has {left} bytes left, of which {LEFT_BYTES} are kept for the log and the state"
            );
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        Ok(())
    }
}

impl Write for Sparing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.until_look == 0 {
            self.look()?;
            self.until_look = LOOK_BYTES;
        }
        let written = self.file.write(bytes)?;
        self.until_look = self.until_look.saturating_sub(written as u64);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Takes records in any order.
#[derive(Debug)]
pub struct Sorter {
    room: Room,
    entries: Vec<Entry>,
    data: Vec<u8>,
    spilled: Option<Spilled>,
}

/// A record in memory.
#[derive(Clone, Copy, Debug)]
struct Entry {
    key: u128,
    at: usize,
    bytes: u32,
}

#[derive(Debug)]
struct Spilled {
    file: File,
    /// Where each run begins and ends.
    runs: Vec<(u64, u64)>,
}

impl Sorter {
    /// Without records.
    pub fn new(room: Room) -> Self {
        Self {
            room,
            entries: Vec::new(),
            data: Vec::new(),
            spilled: None,
        }
    }

    /// Adds a record. No two have the same key.
    pub fn push(&mut self, key: u128, record: &[u8]) -> io::Result<()> {
        let bytes = u32::try_from(record.len()).map_err(io::Error::other)?;
        let at = self.data.len();
        self.entries.push(Entry { key, at, bytes });
        self.data.extend_from_slice(record);
        if self.data.len() + self.entries.len() * size_of::<Entry>() >= self.room.sort_bytes {
            self.spill()?;
        }
        Ok(())
    }

    /// Shows all records in the order of their keys.
    pub fn each(mut self, mut show: impl FnMut(u128, &[u8]) -> io::Result<()>) -> io::Result<()> {
        if self.spilled.is_none() {
            self.entries.sort_unstable_by_key(|entry| entry.key);
            for entry in &self.entries {
                show(entry.key, self.record(entry))?;
            }
            return Ok(());
        }
        self.spill()?;
        let Some(Spilled { file, runs }) = self.spilled.take() else {
            return Ok(());
        };
        let mut runs: Vec<Run> = runs.into_iter().map(Run::new).collect();
        let mut heads = BinaryHeap::new();
        for (number, run) in runs.iter_mut().enumerate() {
            heads.extend(run.head(&file)?.map(|key| Reverse((key, number))));
        }
        while let Some(Reverse((key, number))) = heads.pop() {
            let run = &mut runs[number];
            show(key, run.take(&file)?)?;
            heads.extend(run.head(&file)?.map(|key| Reverse((key, number))));
        }
        Ok(())
    }

    fn record(&self, entry: &Entry) -> &[u8] {
        &self.data[entry.at..entry.at + entry.bytes as usize]
    }

    fn spill(&mut self) -> io::Result<()> {
        self.entries.sort_unstable_by_key(|entry| entry.key);
        let Spilled { file, runs } = match self.spilled.take() {
            Some(spilled) => spilled,
            None => Spilled {
                file: file(&self.room.dir)?,
                runs: Vec::new(),
            },
        };
        let begin = runs.last().map_or(0, |(_, end)| *end);
        let mut end = begin;
        let mut out = BufWriter::with_capacity(256 << 10, Sparing::new(&file));
        for entry in &self.entries {
            out.write_all(&entry.key.to_be_bytes())?;
            out.write_all(&entry.bytes.to_be_bytes())?;
            out.write_all(self.record(entry))?;
            end += (HEAD_BYTES + entry.bytes as usize) as u64;
        }
        out.flush()?;
        drop(out);
        self.entries.clear();
        self.data.clear();
        let mut spilled = Spilled { file, runs };
        spilled.runs.push((begin, end));
        self.spilled = Some(spilled);
        Ok(())
    }
}

/// A run that is being read.
struct Run {
    /// The part that is not read yet.
    next: u64,
    end: u64,
    window: Vec<u8>,
    /// Where the next record begins in the window.
    at: usize,
}

impl Run {
    fn new((begin, end): (u64, u64)) -> Self {
        Self {
            next: begin,
            end,
            window: Vec::new(),
            at: 0,
        }
    }

    /// The key of the next record.
    fn head(&mut self, file: &File) -> io::Result<Option<u128>> {
        if self.at == self.window.len() && self.next == self.end {
            return Ok(None);
        }
        self.fill(file, HEAD_BYTES)?;
        Ok(self.window[self.at..]
            .first_chunk()
            .map(|key| u128::from_be_bytes(*key)))
    }

    /// The next record.
    fn take(&mut self, file: &File) -> io::Result<&[u8]> {
        self.fill(file, HEAD_BYTES)?;
        let length = self.window[self.at + 16..].first_chunk();
        let length = length.map_or(0, |length| u32::from_be_bytes(*length)) as usize;
        self.fill(file, HEAD_BYTES + length)?;
        let begin = self.at + HEAD_BYTES;
        self.at = begin + length;
        Ok(&self.window[begin..begin + length])
    }

    /// Reads on until `bytes` are there.
    fn fill(&mut self, file: &File, bytes: usize) -> io::Result<()> {
        let there = self.window.len() - self.at;
        if there >= bytes {
            return Ok(());
        }
        self.window.drain(..self.at);
        self.at = 0;
        let left = usize::try_from(self.end - self.next).unwrap_or(usize::MAX);
        let more = (bytes - there).max(READ_BYTES).min(left);
        self.window.resize(there + more, 0);
        file.read_exact_at(&mut self.window[there..], self.next)?;
        self.next += more as u64;
        if self.window.len() < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;
    use rand::seq::SliceRandom;

    use super::*;

    #[test]
    fn records_come_in_order_whatever_was_spilled() {
        let mut random = StdRng::seed_from_u64(1);
        for bytes_max in [usize::MAX, 10_000, 300, 1] {
            let dir = tempfile::tempdir().unwrap();
            let room = Room {
                dir: dir.path().to_owned(),
                sort_bytes: bytes_max,
            };
            let mut sorter = Sorter::new(room);
            let mut numbers: Vec<u16> = (0..500).collect();
            numbers.shuffle(&mut random);
            let record = |number: u16| vec![number.to_le_bytes()[0]; usize::from(number)];
            for number in numbers {
                sorter.push(number.into(), &record(number)).unwrap();
            }
            let mut next = 0;
            let check = |key: u128, found: &[u8]| {
                assert_eq!((key, found), (u128::from(next), record(next).as_slice()));
                next += 1;
                Ok(())
            };
            sorter.each(check).unwrap();
            assert_eq!(next, 500);
            let left = std::fs::read_dir(dir.path()).unwrap().count();
            assert_eq!(left, 0, "a file has no name");
        }
    }

    #[test]
    fn nothing_is_no_record() {
        let sorter = Sorter::new(Room::new(PathBuf::new(), 0));
        sorter.each(|_, _| panic!("there is none")).unwrap();
    }
}
