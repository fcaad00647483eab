//! Everything that is stored of the key space up to a revision, page by page: the contents of etcd's `key` bucket.
//!
//! One moment, whatever is written between two pages; nothing that it needs is swept while it is held. Pages come in the
//! order of the rows, not of revisions: sorting is for the caller.

use bytes::Bytes;

use super::State;
use super::ahead::Naming;
use super::snapshot::Pin;
use crate::command::{Fault, KeyValue, Refusal, Revision, Stamp};
use crate::mvcc::{self, AsOf, LOG, PAST, RowSpan, Span, Version};

/// Bytes of rows after which a page ends: about a millisecond.
const PAGE_BYTES: usize = if cfg!(test) { 512 } else { 192 << 10 };

/// One change that is still stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// A key was put.
    Put {
        /// Where.
        at: Stamp,
        /// The pair that was put.
        pair: KeyValue,
        /// Whether it stood at the moment's revision.
        stands: bool,
    },
    /// A key was removed.
    Removed {
        /// Where.
        at: Stamp,
        /// The key.
        key: Bytes,
    },
}

/// A page of changes, or the reason why there is none.
#[derive(Debug)]
pub enum StoredPage {
    /// Some changes, perhaps none.
    Some(Vec<Stored>),
    /// All changes have been shown.
    End,
    /// Another state took this one's place: begin again.
    Replaced,
}

/// All that is stored up to a revision. Dropping it lets go of what it held.
#[derive(Debug)]
pub struct StoredReading {
    revision: Revision,
    floor: Option<Revision>,
    stage: Stage,
    pin: Pin,
}

#[derive(Debug)]
enum Stage {
    /// The versions that stand, from this key on.
    Standing(Bytes),
    /// The versions that were superseded, from this stored key on.
    Superseded(Bytes),
    /// The removals, from this stored key on.
    Removed(Bytes),
    End,
}

impl StoredReading {
    /// Up to where.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The compaction floor then; `None` if nothing was ever compacted.
    pub fn floor(&self) -> Option<Revision> {
        self.floor
    }
}

impl StoredReading {
    /// Names what its next page reads.
    pub(super) fn names(&self, naming: &mut Naming<'_>) {
        let (space, start) = match &self.stage {
            Stage::Standing(from) => {
                let span = Span {
                    start: from.clone(),
                    end: None,
                };
                naming.span(&span.start, None);
                return naming.past(&span, self.revision);
            }
            Stage::Superseded(from) => (PAST, from.clone()),
            Stage::Removed(from) => (LOG, from.clone()),
            Stage::End => return,
        };
        let end = None;
        naming.rows(RowSpan { space, start, end });
    }
}

impl State {
    /// Begins to read everything that is stored up to `revision`, the newest without one.
    ///
    /// Refusals: `Compacted` below the floor, `FutureRevision` above the newest.
    pub fn read_stored(&self, revision: Option<Revision>) -> Result<StoredReading, Refusal> {
        let newest = self.ledger.revision;
        super::view::check_revision(revision, newest, self.ledger.floor)?;
        let floor = self.ledger.floor;
        Ok(StoredReading {
            revision: revision.unwrap_or(newest),
            floor,
            stage: Stage::Standing(Bytes::new()),
            pin: self.pins.hold(floor.unwrap_or_default()),
        })
    }

    /// The next page. Reads disk for up to some milliseconds.
    pub fn next_stored(&self, reading: &mut StoredReading) -> Result<StoredPage, Fault> {
        if !reading.pin.is_of(&self.pins) {
            return Ok(StoredPage::Replaced);
        }
        let rows = self.disk.rows();
        let revision = reading.revision;
        // A version that ended at the floor or before is garbage, swept already or not.
        let floor = reading.floor.unwrap_or_default();
        let stage = std::mem::replace(&mut reading.stage, Stage::End);
        let (page, next) = match stage {
            Stage::Standing(from) => {
                let moment = AsOf {
                    revision,
                    top: self.top(),
                };
                let slice = self.mvcc.versions_at(&rows, &from, moment, PAGE_BYTES)?;
                let next = slice.next;
                let next = next.map_or(Stage::Superseded(Bytes::new()), Stage::Standing);
                (puts(slice.found, true), next)
            }
            Stage::Superseded(from) => {
                let slice = mvcc::superseded(&rows, &from, floor, revision, PAGE_BYTES)?;
                let next = slice.next;
                let next = next.map_or(Stage::Removed(Bytes::new()), Stage::Superseded);
                (puts(slice.found, false), next)
            }
            Stage::Removed(from) => {
                let removals = mvcc::removals(&rows, &from, floor, revision, PAGE_BYTES)?;
                let page = removals.found.into_iter();
                let page = page.map(|(at, key)| Stored::Removed { at, key });
                let next = removals.next.map_or(Stage::End, Stage::Removed);
                (page.collect(), next)
            }
            Stage::End => return Ok(StoredPage::End),
        };
        reading.stage = next;
        Ok(StoredPage::Some(page))
    }
}

fn puts(found: Vec<(Bytes, Version)>, stands: bool) -> Vec<Stored> {
    let put = |(key, version): (Bytes, Version)| Stored::Put {
        at: version.modified,
        pair: version.pair(key),
        stands,
    };
    found.into_iter().map(put).collect()
}
