//! A log's directory that is looked at and not changed: what a start would put right there is noted instead.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use super::disk::{Aligned, Directory, Disk, SegmentFile};

/// A change that a start would make to a file, where nobody was told that it holds something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The file.
    pub file: PathBuf,
    /// The first byte that would be written; `None` if the file would be removed.
    pub offset: Option<u64>,
}

/// A directory of the file system of which not a byte is changed.
pub struct ReadOnly {
    path: PathBuf,
    directory: Directory,
    left: Arc<Mutex<Vec<Leftover>>>,
}

impl ReadOnly {
    /// One that exists.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            directory: Directory::new(path),
            left: Arc::default(),
        }
    }

    /// The changes that were held back until now.
    pub fn leftovers(&self) -> Vec<Leftover> {
        self.left.lock().expect("nothing panics in there").clone()
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::Error::other("the log is only looked at"))
}

impl Disk for ReadOnly {
    fn names(&self) -> io::Result<Vec<String>> {
        self.directory.names()
    }

    fn create_segment(&self, _: &str, _: u64) -> io::Result<Arc<dyn SegmentFile>> {
        refused()
    }

    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        let path = self.path.join(name);
        Ok(Arc::new(Segment {
            file: File::open(&path)?,
            path,
            left: self.left.clone(),
        }))
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        refused()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        note(&self.left, self.path.join(name), None);
        Ok(())
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.directory.read_small(name)
    }

    fn write_small(&self, _: &str, _: &[u8]) -> io::Result<()> {
        refused()
    }

    fn place(&self) -> PathBuf {
        self.path.clone()
    }
}

fn note(left: &Mutex<Vec<Leftover>>, file: PathBuf, offset: Option<u64>) {
    let mut left = left.lock().expect("nothing panics in there");
    left.push(Leftover { file, offset });
}

struct Segment {
    file: File,
    path: PathBuf,
    left: Arc<Mutex<Vec<Leftover>>>,
}

impl SegmentFile for Segment {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let mut content = vec![0; bytes];
        self.file.read_exact_at(&mut content, offset)?;
        Ok(content)
    }

    fn write_durably(&self, offset: u64, _: &Aligned) -> io::Result<()> {
        note(&self.left, self.path.clone(), Some(offset));
        Ok(())
    }
}
