//! Files that are looked at again when they are needed.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::load::files;
use super::settings::{Settings, Unfit};

/// The product of one side's files, made anew whenever one of them has changed.
pub(super) struct Reloading<T> {
    settings: Settings,
    make: fn(&Settings) -> Result<Arc<T>, Unfit>,
    files: Vec<PathBuf>,
    held: Mutex<Held<T>>,
}

struct Held<T> {
    /// Of the files when they were last read, well or in vain.
    stamps: Vec<Stamp>,
    current: Arc<T>,
}

/// The identity of a file. A file that is replaced has another inode, one that is written over another time or
/// length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    bytes: u64,
    changed: (i64, i64),
}

fn stamp(path: &Path) -> Stamp {
    // One that is missing has a stamp too: it may come back.
    fs::metadata(path).map_or_else(
        |_| Stamp::default(),
        |found| Stamp {
            inode: found.ino(),
            bytes: found.size(),
            changed: (found.mtime(), found.mtime_nsec()),
        },
    )
}

impl<T> Reloading<T> {
    /// Reads the files a first time.
    ///
    /// Errors: the flag whose file does not fit.
    pub(super) fn open(
        settings: Settings,
        make: fn(&Settings) -> Result<Arc<T>, Unfit>,
    ) -> Result<Self, Unfit> {
        let files = files(&settings);
        let stamps = files.iter().map(|path| stamp(path)).collect();
        let current = make(&settings)?;
        let held = Mutex::new(Held { stamps, current });
        Ok(Self {
            settings,
            make,
            files,
            held,
        })
    }

    /// The product of the files as they are now. A few calls to the kernel, and nothing else while no file has
    /// changed.
    ///
    /// Files that do not fit, such as a certificate whose key has not been replaced yet, change nothing: what they said
    /// before goes on to count, and the log says why.
    pub(super) fn current(&self) -> Arc<T> {
        // The stamps come first: a file that changes while it is read has another one the next time.
        let stamps: Vec<Stamp> = self.files.iter().map(|path| stamp(path)).collect();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.stamps != stamps {
            held.stamps = stamps;
            match (self.make)(&self.settings) {
                Ok(made) => {
                    tracing::info!(file = %self.files[0].display(), "read the TLS files again");
                    held.current = made;
                }
                Err(error) => {
                    tracing::warn!(%error, "TLS files do not fit, those read before still count");
                }
            }
        }
        held.current.clone()
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }
}
