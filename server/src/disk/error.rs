//! Why a store did not open, and what fjall's errors mean.

use std::io::ErrorKind;
use std::path::Path;

use fjall::LsmError;

use crate::command::Fault;

/// Where a write failed with less than this left, the next tables did not fit.
const FULL_BYTES: u64 = 16 << 20;

/// Why a store did not open.
pub(super) enum OpenError {
    /// It is damaged: set it aside.
    Damaged(String),
    /// Something else is wrong: leave it alone.
    Fault(Fault),
}

impl OpenError {
    /// Where there is nothing to set aside.
    pub(super) fn into_fault(self) -> Fault {
        match self {
            Self::Damaged(why) => Fault::Store(why),
            Self::Fault(fault) => fault,
        }
    }
}

/// Bytes that a user may still write where `path` is.
fn bytes_left(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether an error of the store at `path` means damage.
pub(super) fn classify(path: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Io(source) | fjall::Error::Storage(LsmError::Io(source)) => {
            match source.kind() {
                // Errors that fjall meets in files that are cut short or missing, never a disk's own.
                ErrorKind::NotFound
                | ErrorKind::AlreadyExists
                | ErrorKind::InvalidInput
                | ErrorKind::InvalidData
                | ErrorKind::UnexpectedEof => OpenError::Damaged(source.to_string()),
                _ => OpenError::Fault(Fault::Io {
                    path: path.to_owned(),
                    source,
                }),
            }
        }
        fjall::Error::Locked => OpenError::Fault(Fault::Store(format!(
            "{} is in use by another process",
            path.display()
        ))),
        fjall::Error::Poisoned => OpenError::Fault(Fault::Store(match bytes_left(path) {
            // fjall keeps the reason to itself.
            Some(left) if left < FULL_BYTES => format!(
                "a write failed before, and the disk has {left} bytes left: No space left on device"
            ),
            _ => "a write failed before; the disk may be full or failing, or a table is damaged: the next start checks".to_owned(),
        })),
        error => OpenError::Damaged(error.to_string()),
    }
}
