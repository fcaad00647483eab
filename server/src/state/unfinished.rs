//! A revision that did not end before a crash is undone when the state is opened.

use std::time::Duration;

use bytes::Bytes;

use super::lease;
use super::spaces::SYSTEM;
use crate::command::{Fault, Revision, Stamp};
use crate::disk::Disk;
use crate::mvcc;

/// Changes undone in one batch of rows.
const BATCH: usize = 1024;
/// Bytes that may wait for the disk meanwhile.
const PENDING_BYTES_MAX: usize = 16 << 20;
const PAUSE: Duration = Duration::from_millis(2);

/// Undoes what was changed after `newest`, the newest revision that ended. Before the index of keys is read. Blocks.
///
/// It may be cut short by another crash: undone changes are no longer in the log, and the rest is undone next time.
pub(super) fn undo(disk: &Disk, newest: Revision) -> Result<(), Fault> {
    let mut from = Stamp {
        main: newest.next(),
        sub: 0,
    };
    let mut changes = 0;
    loop {
        let mut rows = disk.rows();
        let (undone, next) = mvcc::undo(&mut rows, from, BATCH)?;
        for mvcc::Undone { key, from, to } in &undone {
            if from == to {
                continue;
            }
            if let Some(id) = from {
                rows.delete(SYSTEM, lease::attachment_key(*id, key));
            }
            if let Some(id) = to {
                rows.put(SYSTEM, lease::attachment_key(*id, key), Bytes::new());
            }
        }
        rows.check()?;
        drop(rows);
        if undone.is_empty() {
            break;
        }
        changes += undone.len();
        from = next;
        while disk.pending_bytes() > PENDING_BYTES_MAX {
            std::thread::sleep(PAUSE);
        }
    }
    if changes > 0 {
        tracing::info!(changes, revision = %newest.next(), "undid a change that was cut short");
    }
    Ok(())
}
