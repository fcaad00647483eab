//! The data directory: made with private rights, held by one process at a time, never taken from another program.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::Stop;
use crate::command::Fault;

/// Holds the directory for this process until dropped.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

/// Raft's log inside the data directory.
pub(super) fn wal(data_dir: &Path) -> PathBuf {
    data_dir.join("wal")
}

/// The state store inside the data directory.
pub(super) fn state(data_dir: &Path) -> PathBuf {
    data_dir.join("state")
}

/// Makes the directory if it is missing and takes it.
///
/// Errors: `Refused` if another process holds it or if it is etcd's; `Fault` if it cannot be made.
pub(super) fn open(data_dir: &Path) -> Result<Lock, Stop> {
    let io = |source| Fault::Io {
        path: data_dir.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data_dir)
        .map_err(io)?;
    if data_dir.join("member").exists() {
        return Err(Stop::Refused(format!(
            "{} holds an etcd member; its files are not ours to read: start with another --data-dir",
            data_dir.display()
        )));
    }
    let path = data_dir.join("LOCK");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| Fault::Io { path, source })?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Err(Stop::Refused(format!(
            "{} is in use by another process; stop it, or start with another --data-dir",
            data_dir.display()
        )));
    }
    Ok(Lock(file))
}

/// Whether a member has lived here.
pub(super) fn has_data(data_dir: &Path) -> bool {
    fs::read_dir(wal(data_dir)).is_ok_and(|mut entries| entries.next().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = open(dir.path()).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("in use by another process"), "{error}");
        drop(held);
        open(dir.path()).unwrap();
    }

    #[test]
    fn an_etcd_directory_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("member")).unwrap();
        let error = open(dir.path()).unwrap_err().to_string();
        assert!(error.contains("holds an etcd member"), "{error}");
    }
}
