//! One stream's loop: queued events, else missing ones from history, told to its watchers in turns of bounded work.
//!
//! The owner of a [`Pump`] calls [`turn`](Pump::turn) while there is room towards its client, and converts what comes. It may
//! ask before what the turn [needs](Pump::needs) of history, and read that where waiting for a disk is allowed. A pump
//! holds one piece of the changes at a time, whatever they are and however many watchers want them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::catch_up::Gap;
use super::hub::Hub;
use super::large::Large;
use super::outlet::{Outlet, Wanted, WatcherId, cost};
use super::piece::{Piece, Reader};
use crate::command::{Event, Revision};

/// About how many bytes of events one turn tells.
pub(super) const TURN_BYTES: usize = 256 * 1024;
/// Bytes told to a watcher in one turn beside its events.
pub(super) const TOLD_BYTES: usize = 128;

/// Where changes are read that nobody queued.
pub trait Past {
    /// Keeps a large revision readable.
    type Large;
    /// Why nothing can be read now; the stream must end, its client resumes it.
    type Error;

    /// Changes of `[from, upto)` from its start: some whole revisions, or that the first is too large.
    fn changes(&self, from: Revision, upto: Revision) -> Result<Changes<Self::Large>, Self::Error>;

    /// Changes of a large revision at `places`, from their start on, with what was there before if `prevs` says so.
    fn part(
        &self,
        large: &Self::Large,
        places: Range<u32>,
        prevs: bool,
    ) -> Result<Part, Self::Error>;
}

/// The form in which a piece of history is had.
#[derive(Debug)]
pub enum Changes<L> {
    /// The changes before `next`, whole revisions.
    Kept {
        /// In order.
        events: Vec<Event>,
        /// Beyond where it was asked from.
        next: Revision,
    },
    /// The first revision that changed anything is read in parts.
    Large {
        /// The large revision.
        revision: Revision,
        /// To read it with.
        large: L,
    },
    /// It starts below the oldest kept revision.
    Compacted {
        /// That one.
        oldest: Revision,
    },
}

/// A piece of history that a turn reads.
#[derive(Debug)]
pub enum Needs<'a, L> {
    /// See [`Past::changes`].
    Changes {
        /// From this revision on.
        from: Revision,
        /// Up to before this one.
        upto: Revision,
    },
    /// See [`Past::part`].
    Part {
        /// The large revision.
        large: &'a L,
        /// Places in it.
        places: Range<u32>,
        /// Whether with what was there before.
        prevs: bool,
    },
}

/// Some changes of one revision.
#[derive(Debug, Default)]
pub struct Part {
    /// In order, each with its place in the revision.
    pub changes: Vec<(u32, Event)>,
    /// Where to go on; `None` if that was all.
    pub next: Option<u32>,
}

/// The outcome of a turn.
#[derive(Debug)]
pub enum Turn {
    /// Nothing is to be done until [`Pump::woken`].
    Idle,
    /// These watchers needed history below `oldest`, which is gone. They have ended.
    Lost {
        /// The watchers that have ended.
        watchers: Vec<WatcherId>,
        /// The oldest revision that is kept.
        oldest: Revision,
    },
    /// This is to be said now, in this order: perhaps nothing, but another turn is due.
    Told(Vec<Told>),
}

/// The events that a watcher is told.
#[derive(Debug)]
pub struct Told {
    /// The watcher; it may have been cancelled since its large revision began.
    pub watcher: WatcherId,
    /// In order.
    pub events: Vec<Arc<Event>>,
    /// It has been told everything up to here, once this is told to its end.
    pub through: Revision,
    /// Whether that is all.
    pub extent: Extent,
}

/// How what is told lies to revisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Whole revisions.
    Whole,
    /// The beginning of what this watcher wants of one revision. The rest follows before anything else, even if the watcher is
    /// cancelled meanwhile.
    Begins {
        /// Sum of all its events' sizes, as the owner measures them.
        bytes: u64,
    },
    /// More of it.
    GoesOn,
    /// The rest of it.
    Ends,
}

/// One stream's watchers, and what is on its way to them. Dropping it cancels them.
#[derive(Debug)]
pub struct Pump<L> {
    outlet: Outlet,
    watchers: BTreeMap<WatcherId, Arc<Wanted>>,
    /// Watchers opened so far: an id never comes back.
    opened: i64,
    /// The size of an event, and of one without what was there before.
    size: fn(&Event, bool) -> u64,
    telling: Telling<L>,
}

/// The history that is being told.
#[derive(Debug)]
enum Telling<L> {
    Nothing,
    Piece {
        piece: Piece,
        bytes: usize,
        current: Option<Told>,
    },
    Large(Box<Large<L>>),
}

impl<L> Pump<L> {
    /// Without watchers. `size` measures an event, with what was there before or not, for [`Extent::Begins`].
    pub fn new(hub: &Arc<Hub>, size: fn(&Event, bool) -> u64) -> Self {
        Self {
            outlet: hub.open(),
            watchers: BTreeMap::new(),
            opened: 0,
            size,
            telling: Telling::Nothing,
        }
    }

    /// Adds a watcher. It will see every change after the newest revision, which this answers too, and, if it starts earlier,
    /// those from its start.
    pub fn watch(&mut self, wanted: Wanted) -> (WatcherId, Revision) {
        self.opened += 1;
        let id = WatcherId(self.opened);
        let wanted = Arc::new(wanted);
        let revision = self.outlet.watch(id, wanted.clone());
        self.watchers.insert(id, wanted);
        (id, revision)
    }

    /// Cancels a watcher. A large revision that it was being told is told to its end.
    pub fn cancel(&mut self, id: WatcherId) {
        self.watchers.remove(&id);
        self.outlet.cancel(id);
    }

    /// The newest published revision.
    pub fn revision(&self) -> Revision {
        self.outlet.revision()
    }

    /// Waits until there may be something to do.
    pub async fn woken(&self) {
        self.outlet.woken().await;
    }

    /// Up to which revision all watchers have been told everything, if that can be said now; else wait until
    /// [`woken`](Self::woken) and ask again.
    pub fn progress(&mut self) -> Option<Revision> {
        self.is_idle().then(|| self.outlet.progress()).flatten()
    }

    /// Up to which revision one watcher has been told everything, if that can be said now.
    pub fn progress_of(&self, id: WatcherId) -> Option<Revision> {
        self.is_idle()
            .then(|| self.outlet.progress_of(id))
            .flatten()
    }

    /// Whether a large revision has begun for a watcher and not ended: nothing else may be said meanwhile.
    pub fn is_inside_a_revision(&self) -> bool {
        matches!(&self.telling, Telling::Large(large) if large.is_inside())
    }

    /// Whether its next turn reads history.
    pub fn reads_history(&self) -> bool {
        match &self.telling {
            Telling::Nothing => self.outlet.gap().is_some(),
            Telling::Piece { .. } => false,
            Telling::Large(_) => true,
        }
    }

    /// The pieces of history that its next turn reads, to be read ahead of it.
    pub fn needs(&self) -> Vec<Needs<'_, L>> {
        match &self.telling {
            Telling::Nothing => {
                let gap = self.outlet.gap().into_iter();
                gap.map(|Gap { from, upto }| Needs::Changes { from, upto })
                    .collect()
            }
            Telling::Piece { .. } => Vec::new(),
            Telling::Large(large) => large.needs(&self.watchers),
        }
    }

    /// Bytes of the changes that it holds between two turns.
    pub fn held_bytes(&self) -> usize {
        match &self.telling {
            Telling::Nothing => 0,
            Telling::Piece { bytes, .. } => *bytes,
            Telling::Large(large) => large.held_bytes(),
        }
    }

    /// About how many bytes of events the next turn tells at least.
    pub fn next_bytes(&mut self) -> usize {
        let Telling::Piece { piece, current, .. } = &mut self.telling else {
            return 0;
        };
        advance(piece, current, &self.watchers);
        current.as_ref().map_or(0, |told| bytes(&told.events))
    }

    /// The next turn: the rest of a piece of the changes, else the next piece, queued or from history for watchers that
    /// are behind.
    ///
    /// Errors: those of `past`.
    pub fn turn<P: Past<Large = L>>(&mut self, past: &P) -> Result<Turn, P::Error> {
        if self.is_idle() {
            if let Some(piece) = self.outlet.take(TURN_BYTES) {
                self.begin(piece);
            } else if let Some(gap) = self.outlet.gap() {
                match past.changes(gap.from, gap.upto)? {
                    Changes::Kept { events, next } => {
                        debug_assert!(next > gap.from, "history moves on");
                        let piece = self.outlet.fill(gap, events, next);
                        self.begin(piece);
                    }
                    Changes::Large { revision, large } => {
                        debug_assert!(revision >= gap.from, "history moves on");
                        let readers = self.outlet.pass(gap, revision);
                        let large = Large::new(revision, large, &readers, &self.watchers);
                        self.telling = Telling::Large(Box::new(large));
                        // Its first part was not named yet.
                        return Ok(Turn::Told(Vec::new()));
                    }
                    Changes::Compacted { oldest } => {
                        let watchers = self.outlet.lose(oldest);
                        debug_assert!(!watchers.is_empty(), "the gap starts where one stands");
                        for id in &watchers {
                            self.watchers.remove(id);
                        }
                        return Ok(Turn::Lost { watchers, oldest });
                    }
                }
            } else {
                return Ok(Turn::Idle);
            }
        }
        let mut told = Vec::new();
        let has_ended = match &mut self.telling {
            Telling::Nothing => true,
            Telling::Piece { piece, current, .. } => {
                let mut said = 0;
                loop {
                    advance(piece, current, &self.watchers);
                    match current.take() {
                        None => break true,
                        Some(now) if said == 0 || said < TURN_BYTES => {
                            said += TOLD_BYTES + bytes(&now.events);
                            told.push(now);
                        }
                        later => {
                            *current = later;
                            break false;
                        }
                    }
                }
            }
            Telling::Large(large) => {
                large.turn(past, &self.outlet, &self.watchers, self.size, &mut told)?
            }
        };
        if has_ended {
            self.telling = Telling::Nothing;
        }
        Ok(Turn::Told(told))
    }

    fn is_idle(&self) -> bool {
        matches!(self.telling, Telling::Nothing)
    }

    fn begin(&mut self, piece: Piece) {
        self.telling = Telling::Piece {
            bytes: piece.bytes(),
            piece,
            current: None,
        };
    }
}

/// Finds the next watcher of a piece that wants anything of it, unless one was found that is still there.
fn advance(
    piece: &mut Piece,
    current: &mut Option<Told>,
    watchers: &BTreeMap<WatcherId, Arc<Wanted>>,
) {
    if let Some(told) = current
        && !watchers.contains_key(&told.watcher)
    {
        *current = None;
    }
    while current.is_none() {
        let Some(Reader { watcher, from }) = piece.next_reader() else {
            return;
        };
        let Some(wanted) = watchers.get(&watcher) else {
            continue;
        };
        let events = piece.events_for(wanted, from);
        if let Some(last) = events.last() {
            *current = Some(Told {
                watcher,
                through: piece.through(last.kv.mod_revision),
                events,
                extent: Extent::Whole,
            });
        }
    }
}

/// Memory that these events hold.
pub(super) fn bytes(events: &[Arc<Event>]) -> usize {
    events.iter().map(|event| cost(event)).sum()
}
