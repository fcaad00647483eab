//! The revisions that can be read.

use crate::command::{KvRefusal, Refusal, Revision};

/// Refuses revisions above `newest` or below `floor`.
pub(super) fn check_revision(
    revision: Option<Revision>,
    newest: Revision,
    floor: Option<Revision>,
) -> Result<(), Refusal> {
    match revision {
        // No revision is numbered 0: etcd calls one below 1 in a transaction compacted.
        Some(Revision(0)) => Err(Refusal::Kv(KvRefusal::Compacted {
            oldest: floor.unwrap_or_default(),
        })),
        Some(revision) if revision > newest => {
            Err(Refusal::Kv(KvRefusal::FutureRevision { current: newest }))
        }
        Some(revision) => match floor {
            Some(oldest) if revision < oldest => Err(Refusal::Kv(KvRefusal::Compacted { oldest })),
            Some(_) | None => Ok(()),
        },
        None => Ok(()),
    }
}
