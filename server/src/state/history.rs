//! The history of changes, for watchers that are behind: whole revisions while they are small, one that is large part
//! by part.
//!
//! The reader of a large revision holds it: nothing that its events show is swept meanwhile, and they show the same in
//! every reading, whatever is compacted between two parts.

use std::ops::Range;

use super::ahead::Naming;
use super::snapshot::Pin;
use super::{No, State};
use crate::command::{Event, Fault, KvRefusal, Revision, Stamp};
use crate::failpoints::{self, Bug};
use crate::mvcc::Budget;

/// Changes read at once: about a millisecond, each with what it superseded. Tests must come to the end of one.
const CHANGES_MAX: usize = if cfg!(test) { 3 } else { 128 };

/// A piece of history.
#[derive(Debug)]
pub enum History {
    /// Changes in order, whole revisions.
    Changes {
        /// Of a revision all or none.
        events: Vec<Event>,
        /// The revision to go on from.
        next: Revision,
    },
    /// The first revision that changed anything is larger than one piece: it is read with [`State::part`].
    Large(LargeRevision),
}

/// A part of history that is read next.
#[derive(Debug)]
pub enum Piece<'a> {
    /// See [`State::history`].
    Changes {
        /// From this revision on.
        from: Revision,
        /// Up to before this one.
        upto: Revision,
    },
    /// See [`State::part`].
    Part {
        /// The large revision.
        large: &'a LargeRevision,
        /// Places in it.
        places: Range<u32>,
        /// Whether with what was there before.
        prevs: bool,
    },
}

/// A revision that is read part by part, and that stays readable as long as this is there.
#[derive(Debug)]
pub struct LargeRevision {
    revision: Revision,
    /// The compaction floor when it was first read: a version hidden then is not seen later.
    floor: Revision,
    pin: Pin,
}

/// Some changes of one revision.
#[derive(Debug, Default)]
pub struct Part {
    /// In order, each with its place in the revision.
    pub changes: Vec<(u32, Event)>,
    /// The place to go on from; `None` if there is nothing more.
    pub next: Option<u32>,
}

impl LargeRevision {
    /// The revision.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    fn at(&self, sub: u32) -> Stamp {
        Stamp {
            main: self.revision,
            sub,
        }
    }
}

impl State {
    /// Events of `[from, upto)` until they are about `bytes_max`, or some hundred.
    ///
    /// An event's `prev` is missing only for creations and, at the compaction floor itself, because it is compacted.
    /// Refusals: [`KvRefusal::Compacted`] if `from` lies below the floor.
    pub fn history(&self, from: Revision, upto: Revision, bytes_max: usize) -> Result<History, No> {
        if let Some(oldest) = self.ledger.floor
            && from < oldest
            && !failpoints::has(Bug::EventLostAtCompaction)
        {
            return Err(KvRefusal::Compacted { oldest }.into());
        }
        let upto = upto.min(self.ledger.revision.next()).max(from);
        let floor = self.ledger.floor.unwrap_or_default();
        let rows = self.disk.rows();
        let mut budget = Budget {
            rows: CHANGES_MAX,
            bytes: bytes_max,
        };
        let (first, end) = (start_of(from), start_of(upto));
        let (mut changes, next) = self
            .mvcc
            .changes(&rows, first, end, floor, true, &mut budget)?;
        let next = next.unwrap_or(end);
        if next.sub > 0 {
            // Of the revision that it ends in, nothing is told yet.
            let whole = changes.partition_point(|(at, _)| at.main < next.main);
            if whole == 0 {
                return Ok(History::Large(LargeRevision {
                    revision: next.main,
                    floor,
                    // The versions that its changes superseded stood until the revision before.
                    pin: self.pins.hold(Revision(next.main.0.saturating_sub(1))),
                }));
            }
            changes.truncate(whole);
        }
        Ok(History::Changes {
            events: changes.into_iter().map(|(_, event)| event).collect(),
            next: next.main,
        })
    }

    /// The changes of a large revision at `places`, until they are about `bytes_max`, or some hundred; `prevs` says whether
    /// with what was there before. `None` if another state took this one's place since: a snapshot was installed.
    pub fn part(
        &self,
        large: &LargeRevision,
        places: Range<u32>,
        prevs: bool,
        bytes_max: usize,
    ) -> Result<Option<Part>, Fault> {
        if !large.pin.is_of(&self.pins) {
            return Ok(None);
        }
        let mut budget = Budget {
            rows: CHANGES_MAX,
            bytes: bytes_max,
        };
        let rows = self.disk.rows();
        let (from, upto) = (large.at(places.start), large.at(places.end));
        let (changes, next) =
            self.mvcc
                .changes(&rows, from, upto, large.floor, prevs, &mut budget)?;
        let changes = changes.into_iter().map(|(at, event)| (at.sub, event));
        Ok(Some(Part {
            changes: changes.collect(),
            next: next.map(|at| at.sub),
        }))
    }
}

impl State {
    /// Names what a piece reads. A revision that is read in parts was too large for memory before it was old.
    pub(super) fn name_history(&self, piece: Piece<'_>, bytes_max: usize, naming: &mut Naming<'_>) {
        let budget = Budget {
            rows: CHANGES_MAX,
            bytes: bytes_max,
        };
        match piece {
            Piece::Changes { from, .. } if self.is_recent(from) && self.mvcc.is_near() => {}
            Piece::Changes { from, upto } => {
                naming.changes(start_of(from), start_of(upto), true, budget);
            }
            Piece::Part {
                large,
                places,
                prevs,
            } => {
                let (from, upto) = (large.at(places.start), large.at(places.end));
                naming.changes(from, upto, prevs, budget);
            }
        }
    }
}

fn start_of(main: Revision) -> Stamp {
    Stamp { main, sub: 0 }
}
