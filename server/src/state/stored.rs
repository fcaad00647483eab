//! Everything that is stored of the key space up to a revision, page by page: the contents of etcd's `key` bucket.
//!
//! One moment, whatever is written between two pages: it is read from a view of the disk, without the state's lock. Pages
//! come in the order of the rows, not of revisions: sorting is for the caller.

use bytes::Bytes;

use super::State;
use crate::command::{Fault, KeyValue, Refusal, Revision, Stamp};
use crate::disk::{Scan, View};
use crate::mvcc::{self, AsOf, Version};

/// Bytes of rows after which a page ends: about a millisecond. A store that is being closed waits that long.
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

/// All that is stored up to a revision, read beside what is written meanwhile. Dropping it lets go of what it held.
#[derive(Debug)]
pub struct StoredReading {
    revision: Revision,
    floor: Option<Revision>,
    stage: Stage,
    view: View,
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

    /// The next page. Blocks on the disk, and nobody waits for it: it needs no lock.
    pub fn next_page(&mut self) -> Result<StoredPage, Fault> {
        let stage = std::mem::replace(&mut self.stage, Stage::End);
        if matches!(stage, Stage::End) {
            return Ok(StoredPage::End);
        }
        // A version that ended at the floor or before is garbage, swept already or not.
        let floor = self.floor.unwrap_or_default();
        let read = self
            .view
            .read(|rows| page(rows, stage, floor, self.revision));
        let Some(read) = read else {
            return Ok(StoredPage::Replaced);
        };
        let (page, next) = read?;
        self.stage = next;
        Ok(StoredPage::Some(page))
    }
}

impl State {
    /// Begins to read everything that is stored up to `revision`, the newest without one. Returns once all of that is on
    /// disk; `None` if it can no longer be written.
    ///
    /// Refusals: `Compacted` below the floor, `FutureRevision` above the newest.
    pub fn read_stored(
        &self,
        revision: Option<Revision>,
    ) -> Result<impl Future<Output = Option<StoredReading>> + Send + use<>, Refusal> {
        let newest = self.ledger.revision;
        super::view::check_revision(revision, newest, self.ledger.floor)?;
        let floor = self.ledger.floor;
        // Until the view has them, nothing may be swept.
        let pin = self.pins.hold(floor.unwrap_or_default());
        let view = self.disk.view();
        Ok(async move {
            let view = view.await?;
            drop(pin);
            Some(StoredReading {
                revision: revision.unwrap_or(newest),
                floor,
                stage: Stage::Standing(Bytes::new()),
                view,
            })
        })
    }
}

/// The changes from a stage on, and the stage after them.
fn page(
    rows: &dyn Scan,
    stage: Stage,
    floor: Revision,
    revision: Revision,
) -> Result<(Vec<Stored>, Stage), Fault> {
    Ok(match stage {
        Stage::Standing(from) => {
            let moment = AsOf {
                revision,
                top: None,
            };
            let slice = mvcc::versions_at(rows, &from, moment, PAGE_BYTES)?;
            let next = slice.next;
            let next = next.map_or(Stage::Superseded(Bytes::new()), Stage::Standing);
            (puts(slice.found, true), next)
        }
        Stage::Superseded(from) => {
            let slice = mvcc::superseded(rows, &from, floor, revision, PAGE_BYTES)?;
            let next = slice.next;
            let next = next.map_or(Stage::Removed(Bytes::new()), Stage::Superseded);
            (puts(slice.found, false), next)
        }
        Stage::Removed(from) => {
            let removals = mvcc::removals(rows, &from, floor, revision, PAGE_BYTES)?;
            let page = removals.found.into_iter();
            let page = page.map(|(at, key)| Stored::Removed { at, key });
            let next = removals.next.map_or(Stage::End, Stage::Removed);
            (page.collect(), next)
        }
        Stage::End => (Vec::new(), Stage::End),
    })
}

fn puts(found: Vec<(Bytes, Version)>, stands: bool) -> Vec<Stored> {
    let put = |(key, version): (Bytes, Version)| Stored::Put {
        at: version.modified,
        pair: version.pair(key),
        stands,
    };
    found.into_iter().map(put).collect()
}
