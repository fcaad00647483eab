//! The log, read as a start reads it.

use std::path::Path;
use std::sync::Arc;

use super::findings::Findings;
use crate::wal::{Ends, Leftover, ReadOnly, Wal};

/// A log that is whole.
pub(super) struct Log {
    pub(super) wal: Wal,
    /// Whether it goes back to the first entry of all.
    pub(super) is_complete: bool,
}

/// Reads all of it; `None` if it is damaged.
///
/// Errors: why it cannot be looked at.
pub(super) fn look(path: &Path, findings: &mut Findings) -> Result<Option<Log>, String> {
    let unfinished = path.with_extension("new");
    if unfinished.exists() {
        findings.note(
            "log",
            &unfinished,
            None,
            "a log that was never finished; a start makes it anew",
        );
    }
    let disk = Arc::new(ReadOnly::new(path));
    let opened = Wal::open_read_only(disk.clone());
    for Leftover { file, offset } in disk.leftovers() {
        let what = match offset {
            Some(_) => {
                "the newest write was not completed, and nobody was told that it was; a start drops it"
            }
            None => "a file that was never finished; a start removes it",
        };
        findings.note("log", &file, offset, what);
    }
    let wal = match opened {
        Ok(wal) => wal,
        Err(fault) => {
            findings.fault("log", fault);
            return Ok(None);
        }
    };
    let identity = wal.identity();
    findings.fact("member", identity.member.to_string());
    findings.fact("cluster", identity.cluster.to_string());
    findings.fact("token", identity.token.clone());
    if !identity.owner.is_empty() {
        findings.fact("owner", identity.owner.clone());
    }
    let Ends { purged, last } = wal.ends();
    findings.fact("logFirst", purged.map_or(0, |purged| purged.index + 1));
    findings.fact("logLast", last.map(|last| last.index));
    findings.fact(
        "logCommitted",
        wal.committed().map(|committed| committed.index),
    );
    findings.fact("term", wal.vote().map_or(0, |vote| vote.term));
    let is_complete = purged.is_none();
    Ok(Some(Log { wal, is_complete }))
}
