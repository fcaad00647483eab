//! The disk that `failpoints::disk` describes: slow when told to, and with a cache that a kill empties.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::disk::{Aligned, Directory, Disk, SegmentFile};
use crate::failpoints::{self, Bug};

/// How long a write that nobody syncs stays in memory only. An operating system takes up to half a minute.
const WRITE_BACK: Duration = Duration::from_secs(1);

/// A directory in front of which writes may wait, or be forgotten.
pub(super) struct Faulty {
    under: Directory,
    cache: Arc<Cache>,
}

/// Writes that were acknowledged and are not done, in order.
#[derive(Default)]
struct Cache(Mutex<Vec<(Arc<dyn SegmentFile>, u64, Aligned)>>);

struct FaultySegment {
    under: Arc<dyn SegmentFile>,
    cache: Arc<Cache>,
}

impl Faulty {
    pub(super) fn new(path: &Path) -> Self {
        let cache = Arc::new(Cache::default());
        if failpoints::has(Bug::AckBeforeFsync) {
            let cache = cache.clone();
            // Lives as long as the process, as a write-back thread of the operating system does.
            std::thread::spawn(move || {
                loop {
                    std::thread::sleep(WRITE_BACK);
                    cache
                        .write_back()
                        .expect("this build's disk does not fail by itself");
                }
            });
        }
        Self {
            under: Directory::new(path),
            cache,
        }
    }

    fn segment(&self, under: Arc<dyn SegmentFile>) -> Arc<dyn SegmentFile> {
        Arc::new(FaultySegment {
            under,
            cache: self.cache.clone(),
        })
    }
}

impl Cache {
    fn lock(&self) -> MutexGuard<'_, Vec<(Arc<dyn SegmentFile>, u64, Aligned)>> {
        self.0
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    fn keep(&self, file: &Arc<dyn SegmentFile>, offset: u64, bytes: &[u8]) {
        let mut kept = Aligned::default();
        kept.resize(bytes.len());
        kept.bytes_mut().copy_from_slice(bytes);
        self.lock().push((file.clone(), offset, kept));
    }

    fn write_back(&self) -> io::Result<()> {
        for (file, offset, bytes) in self.lock().drain(..) {
            file.write_durably(offset, &bytes)?;
        }
        Ok(())
    }
}

impl Disk for Faulty {
    fn names(&self) -> io::Result<Vec<String>> {
        self.under.names()
    }

    fn create_segment(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(self.segment(self.under.create_segment(name, bytes)?))
    }

    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        Ok(self.segment(self.under.open_segment(name)?))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.cache.write_back()?;
        self.under.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.cache.write_back()?;
        self.under.remove(name)
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.under.read_small(name)
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.under.write_small(name, bytes)
    }

    fn place(&self) -> PathBuf {
        self.under.place()
    }
}

impl SegmentFile for FaultySegment {
    fn bytes(&self) -> io::Result<u64> {
        self.under.bytes()
    }

    fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        self.cache.write_back()?;
        self.under.read(offset, bytes)
    }

    fn write_durably(&self, offset: u64, bytes: &Aligned) -> io::Result<()> {
        std::thread::sleep(failpoints::disk::write_delay());
        if failpoints::has(Bug::AckBeforeFsync) {
            self.cache.keep(&self.under, offset, bytes.bytes());
            return Ok(());
        }
        self.under.write_durably(offset, bytes)
    }
}
