//! A folder for the copy and for what the log comes to, gone with whoever made it.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Those that there are, for a process that ends in the middle.
static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// Makes it below the folder for temporary files, for nobody else to read.
    pub(super) fn make() -> io::Result<Self> {
        let name = format!(
            "coord-check-{}-{:016x}",
            std::process::id(),
            rand::random::<u64>()
        );
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        MADE.lock()
            .expect("nothing panics in there")
            .push(path.clone());
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // The rest is left to the one that cleans the folder for temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes all there are: nothing will be dropped.
pub(super) fn remove_all() {
    let made = MADE.lock().map(|mut made| std::mem::take(&mut *made));
    for path in made.unwrap_or_default() {
        let _ = fs::remove_dir_all(path);
    }
}
