//! A disk in memory: for tests and simulation. It keeps every durable write in order, so that a test can ask what a
//! power cut between any two of them, or inside one, would have left.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use super::disk::{Aligned, Disk, SegmentFile};
use super::sector::{self, BLOCK};

/// The files of a [`MemoryDisk`]: name to content.
pub type Files = BTreeMap<String, Vec<u8>>;

/// The content of a new segment of `bytes`.
pub fn blank_segment(bytes: u64) -> Vec<u8> {
    let mut content = vec![0; usize::try_from(bytes).expect("segments fit in memory")];
    sector::blank(&mut content, 0);
    content
}

/// One durable write to a segment.
#[derive(Clone, Debug)]
pub struct Write {
    /// All files just before it.
    pub before: Files,
    /// The segment's file name.
    pub name: String,
    /// Where.
    pub offset: usize,
    /// The bytes written.
    pub bytes: Vec<u8>,
}

#[derive(Default)]
struct Inner {
    files: Files,
    recording: Option<Vec<Write>>,
    failing: bool,
}

/// Files in memory. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Inner>>);

impl MemoryDisk {
    /// One with these files.
    pub fn with(files: Files) -> Self {
        let disk = Self::default();
        disk.lock().files = files;
        disk
    }

    /// All files as they are.
    pub fn files(&self) -> Files {
        self.lock().files.clone()
    }

    /// Starts to remember writes.
    pub fn record(&self) {
        self.lock().recording = Some(Vec::new());
    }

    /// The writes since [`Self::record`].
    pub fn recorded(&self) -> Vec<Write> {
        self.lock().recording.take().unwrap_or_default()
    }

    /// Makes every write from now on fail.
    pub fn fail_writes(&self) {
        self.lock().failing = true;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0
            .lock()
            .expect("nothing panics while it holds the lock")
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

impl Disk for MemoryDisk {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().files.keys().cloned().collect())
    }

    fn create_segment(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let content = blank_segment(bytes);
        self.lock().files.insert(name.to_owned(), content);
        self.open_segment(name)
    }

    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        if !self.lock().files.contains_key(name) {
            return Err(missing(name));
        }
        Ok(Arc::new(MemoryFile {
            disk: self.clone(),
            name: name.to_owned(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let content = inner.files.remove(from).ok_or_else(|| missing(from))?;
        inner.files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = self.lock().files.remove(name);
        removed.map(|_| ()).ok_or_else(|| missing(name))
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock().files.get(name).cloned())
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.lock().files.insert(name.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn place(&self) -> PathBuf {
        PathBuf::from("memory")
    }
}

struct MemoryFile {
    disk: MemoryDisk,
    name: String,
}

impl SegmentFile for MemoryFile {
    fn bytes(&self) -> io::Result<u64> {
        let inner = self.disk.lock();
        let content = inner.files.get(&self.name);
        Ok(content.ok_or_else(|| missing(&self.name))?.len() as u64)
    }

    fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let inner = self.disk.lock();
        let content = inner
            .files
            .get(&self.name)
            .ok_or_else(|| missing(&self.name))?;
        let start = offset as usize;
        let part = content.get(start..start + bytes);
        Ok(part.ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
    }

    fn write_durably(&self, offset: u64, bytes: &Aligned) -> io::Result<()> {
        debug_assert_eq!(offset % BLOCK as u64, 0);
        let mut inner = self.disk.lock();
        if inner.failing {
            return Err(io::Error::other("the disk was told to fail"));
        }
        if inner.recording.is_some() {
            let write = Write {
                before: inner.files.clone(),
                name: self.name.clone(),
                offset: offset as usize,
                bytes: bytes.bytes().to_vec(),
            };
            inner.recording.as_mut().expect("checked").push(write);
        }
        let content = inner
            .files
            .get_mut(&self.name)
            .ok_or_else(|| missing(&self.name))?;
        let start = offset as usize;
        content[start..start + bytes.bytes().len()].copy_from_slice(bytes.bytes());
        Ok(())
    }
}
