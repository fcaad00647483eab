//! One revision that is too large to be held, on its way to the watchers of one stream.
//!
//! First it is read once for all of them, to measure what each wants of it: where that begins and ends, and how large it is,
//! because a door may have to say the size before the first event. Then each is told its own, read again from its first
//! place to its last. Both readings are of the same held revision, so what was measured is what is told. Memory: a part of
//! the revision and a few numbers for each watcher. Work: the events told, and one reading.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::outlet::{Outlet, Wanted, WatcherId};
use super::piece::{Piece, Reader};
use super::pump::{Extent, Needs, Past, TOLD_BYTES, TURN_BYTES, Told};
use crate::command::{Event, Revision};

/// Steps of measuring in one turn, each one event of one watcher: about a millisecond.
const STEPS_MAX: usize = if cfg!(test) { 5 } else { 16 * 1024 };
/// Changes read in one turn while it is told; of a watcher that wants more of them, one part.
const CHANGES_MAX: usize = if cfg!(test) { 4 } else { 256 };

#[derive(Debug)]
pub(super) struct Large<L> {
    revision: Revision,
    large: L,
    /// The part that each watcher wants and has not been told yet.
    spans: BTreeMap<WatcherId, Span>,
    /// Whether any wants to see what was there before.
    prevs: bool,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    Measuring {
        part: Option<Measured>,
        /// Where the next part begins.
        next: Option<u32>,
    },
    Telling(Option<Current>),
}

/// The part that one watcher wants: places in the revision, `first` to `last`, among others; nothing while `first` is
/// above `last`.
#[derive(Debug)]
struct Span {
    wanted: Arc<Wanted>,
    first: u32,
    last: u32,
    bytes: u64,
}

/// A part that is being measured.
#[derive(Debug)]
struct Measured {
    piece: Piece,
    /// By place in the piece: place in the revision, size without and with what was there before.
    sizes: Vec<(u32, u64, u64)>,
    held_bytes: usize,
}

/// The watcher that is being told.
#[derive(Debug)]
struct Current {
    watcher: WatcherId,
    span: Span,
    next: u32,
    has_begun: bool,
}

impl Span {
    fn add(&mut self, at: u32, bytes: u64) {
        self.first = self.first.min(at);
        self.last = self.last.max(at);
        self.bytes += bytes;
    }

    fn is_empty(&self) -> bool {
        self.first > self.last
    }
}

impl<L> Large<L> {
    pub(super) fn new(
        revision: Revision,
        large: L,
        readers: &[Reader],
        watchers: &BTreeMap<WatcherId, Arc<Wanted>>,
    ) -> Self {
        let mut spans = BTreeMap::new();
        let mut prevs = false;
        for Reader { watcher, .. } in readers {
            if let Some(wanted) = watchers.get(watcher) {
                prevs |= wanted.prevs;
                let span = Span {
                    wanted: wanted.clone(),
                    first: u32::MAX,
                    last: 0,
                    bytes: 0,
                };
                spans.insert(*watcher, span);
            }
        }
        Self {
            revision,
            large,
            spans,
            prevs,
            stage: Stage::Measuring {
                part: None,
                next: Some(0),
            },
        }
    }

    /// Whether a watcher was told a part and not the rest.
    pub(super) fn is_inside(&self) -> bool {
        matches!(&self.stage, Stage::Telling(Some(current)) if current.has_begun)
    }

    pub(super) fn held_bytes(&self) -> usize {
        let part = match &self.stage {
            Stage::Measuring { part, .. } => part.as_ref().map_or(0, |part| part.held_bytes),
            Stage::Telling(_) => 0,
        };
        part + self.spans.len() * size_of::<(WatcherId, Span)>()
    }

    /// The parts that its next turn reads at most.
    pub(super) fn needs(&self, watchers: &BTreeMap<WatcherId, Arc<Wanted>>) -> Vec<Needs<'_, L>> {
        let part = |places, prevs| Needs::Part {
            large: &self.large,
            places,
            prevs,
        };
        match &self.stage {
            Stage::Measuring { part: Some(_), .. } => Vec::new(),
            Stage::Measuring { part: None, next } => {
                let next = next.iter();
                next.map(|from| part(*from..u32::MAX, self.prevs)).collect()
            }
            Stage::Telling(current) => {
                let current = current.iter();
                let current = current.map(|current| (current.next, &current.span));
                let behind = self.spans.iter();
                let behind = behind.filter(|(watcher, _)| watchers.contains_key(watcher));
                let behind = behind.map(|(_, span)| (span.first, span));
                let mut changes = 0;
                let mut needs = Vec::new();
                for (from, span) in current.chain(behind) {
                    if changes >= CHANGES_MAX {
                        break;
                    }
                    let places = from..span.last.saturating_add(1);
                    changes += 1 + places.len();
                    needs.push(part(places, span.wanted.prevs));
                }
                needs
            }
        }
    }

    /// Goes on for one turn; whether all has been told.
    pub(super) fn turn<P: Past<Large = L>>(
        &mut self,
        past: &P,
        outlet: &Outlet,
        watchers: &BTreeMap<WatcherId, Arc<Wanted>>,
        size: fn(&Event, bool) -> u64,
        told: &mut Vec<Told>,
    ) -> Result<bool, P::Error> {
        match &mut self.stage {
            Stage::Measuring { .. } => {
                self.measure(past, outlet, size)?;
                Ok(false)
            }
            Stage::Telling(_) => self.tell(past, watchers, told),
        }
    }

    fn measure<P: Past<Large = L>>(
        &mut self,
        past: &P,
        outlet: &Outlet,
        size: fn(&Event, bool) -> u64,
    ) -> Result<(), P::Error> {
        let Stage::Measuring { part, next } = &mut self.stage else {
            return Ok(());
        };
        if part.is_none() {
            let Some(from) = *next else {
                self.spans.retain(|_, span| !span.is_empty());
                self.stage = Stage::Telling(None);
                return Ok(());
            };
            let read = past.part(&self.large, from..u32::MAX, self.prevs)?;
            debug_assert!(read.next.is_none_or(|next| next > from), "it moves on");
            *next = read.next;
            *part = Some(Measured::new(read.changes, outlet, size));
        }
        let mut steps = 0;
        while let Some(measured) = part
            && steps < STEPS_MAX
        {
            let Some(Reader { watcher, .. }) = measured.piece.next_reader() else {
                *part = None;
                break;
            };
            steps += 1;
            let Some(span) = self.spans.get_mut(&watcher) else {
                continue;
            };
            for place in measured.piece.places_for(&span.wanted, Revision(0)) {
                steps += 1;
                let (at, without, with) = measured.sizes[place as usize];
                span.add(at, if span.wanted.prevs { with } else { without });
            }
        }
        Ok(())
    }

    fn tell<P: Past<Large = L>>(
        &mut self,
        past: &P,
        watchers: &BTreeMap<WatcherId, Arc<Wanted>>,
        told: &mut Vec<Told>,
    ) -> Result<bool, P::Error> {
        let Stage::Telling(current) = &mut self.stage else {
            return Ok(false);
        };
        let (mut bytes, mut changes) = (0, 0);
        while bytes < TURN_BYTES && changes < CHANGES_MAX {
            if current.is_none() {
                let Some((watcher, span)) = self.spans.pop_first() else {
                    return Ok(true);
                };
                if !watchers.contains_key(&watcher) {
                    continue;
                }
                *current = Some(Current {
                    watcher,
                    next: span.first,
                    span,
                    has_begun: false,
                });
            }
            let Some(now) = current else { continue };
            let wanted = &now.span.wanted;
            let places = now.next..now.span.last.saturating_add(1);
            // As what it needs is counted, so that it reads what was named.
            changes += 1 + places.len();
            let read = past.part(&self.large, places, wanted.prevs)?;
            let of_it = read.changes.into_iter().map(|(_, event)| event);
            let of_it = of_it.filter(|event| wanted.wants(event));
            let events: Vec<_> = of_it.map(Arc::new).collect();
            bytes += TOLD_BYTES + super::pump::bytes(&events);
            let extent = match (now.has_begun, read.next) {
                (false, None) => Extent::Whole,
                (false, Some(_)) => Extent::Begins {
                    bytes: now.span.bytes,
                },
                (true, Some(_)) => Extent::GoesOn,
                (true, None) => Extent::Ends,
            };
            if !events.is_empty() || extent == Extent::Ends {
                now.has_begun = true;
                told.push(Told {
                    watcher: now.watcher,
                    events,
                    through: self.revision,
                    extent,
                });
            }
            match read.next {
                Some(next) => {
                    now.next = next;
                    return Ok(false);
                }
                None => *current = None,
            }
        }
        Ok(false)
    }
}

impl Measured {
    fn new(changes: Vec<(u32, Event)>, outlet: &Outlet, size: fn(&Event, bool) -> u64) -> Self {
        let mut sizes = Vec::with_capacity(changes.len());
        let mut events = Vec::with_capacity(changes.len());
        for (at, event) in changes {
            sizes.push((at, size(&event, false), size(&event, true)));
            events.push(Arc::new(event));
        }
        let readers = outlet.readers(&events);
        let piece = Piece::new(events, readers, Revision(0));
        Self {
            held_bytes: piece.bytes(),
            piece,
            sizes,
        }
    }
}
