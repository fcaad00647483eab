//! The data directory: made with private rights, held by one process at a time, never taken from another program.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use tokio::time::Instant;

use super::Stop;
use crate::command::Fault;

/// How long a process that holds the directory may take to be gone. One that was killed still waits for the disk writes
/// that it has begun, and a supervisor that starts the next one at once must not find the door shut for that.
const RELEASE_MAX: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The file that a process holds while it has the directory.
pub(super) const LOCK: &str = "LOCK";

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

/// Makes the directory if it is missing and takes it, as soon as a process that is just ending lets go of it.
///
/// Errors: `Refused` if another process keeps it or if it is etcd's; `Fault` if it cannot be made.
pub(super) async fn open(data_dir: &Path) -> Result<Lock, Stop> {
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
    let path = data_dir.join(LOCK);
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| Fault::Io { path, source })?;
    let given_up = Instant::now() + RELEASE_MAX;
    while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        if Instant::now() < given_up {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        return Err(Stop::Refused(format!(
            "{} is in use by another process; stop it, or start with another --data-dir",
            data_dir.display()
        )));
    }
    Ok(Lock(file))
}

/// Whether a member has lived here.
///
/// Errors: `Corrupt` if its log is gone as a whole. A new one would begin beside the old state, with a vote that was
/// forgotten and without the newest entries.
pub(super) fn has_data(data_dir: &Path) -> Result<bool, Fault> {
    let has_entries =
        |path: &Path| fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_some());
    let (wal, state) = (wal(data_dir), state(data_dir));
    if has_entries(&wal) {
        return Ok(true);
    }
    if has_entries(&state) {
        let why = format!("it is missing, but there is a state in {}", state.display());
        return Err(Fault::irreparable(wal.display().to_string(), why));
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_directory_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = open(dir.path()).await.unwrap();
        let error = open(dir.path()).await.unwrap_err().to_string();
        assert!(error.contains("in use by another process"), "{error}");
        drop(held);
        open(dir.path()).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_is_taken_over_from_a_process_that_is_ending() {
        let dir = tempfile::tempdir().unwrap();
        let held = open(dir.path()).await.unwrap();
        let ending = async {
            tokio::time::sleep(RELEASE_MAX / 2).await;
            drop(held);
        };
        let (taken, ()) = tokio::join!(open(dir.path()), ending);
        taken.unwrap();
    }

    #[test]
    fn a_state_without_a_log_is_no_new_member() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!has_data(dir.path()).unwrap());
        fs::create_dir_all(state(dir.path()).join("1")).unwrap();
        let error = has_data(dir.path()).unwrap_err().to_string();
        assert!(error.contains("add it again as a new member"), "{error}");
        fs::create_dir_all(wal(dir.path())).unwrap();
        has_data(dir.path()).unwrap_err();
        fs::write(wal(dir.path()).join("identity"), "").unwrap();
        assert!(has_data(dir.path()).unwrap());
    }

    #[tokio::test]
    async fn an_etcd_directory_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("member")).unwrap();
        let error = open(dir.path()).await.unwrap_err().to_string();
        assert!(error.contains("holds an etcd member"), "{error}");
    }
}
