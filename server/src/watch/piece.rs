//! Some changes on their way to one stream's watchers.

use std::collections::VecDeque;
use std::sync::Arc;

use super::outlet::{Wanted, WatcherId, cost};
use crate::command::{Event, Keys, Revision};

/// Events up to which a watcher's own are found by looking at each.
const SCANNED_MAX: usize = 16;

/// Whole revisions in order, kept once, and the watchers that may want any of them. Each watcher's events are looked
/// for when its turn comes: a hundred watchers of a revision of a hundred thousand changes hold no more than one.
#[derive(Debug)]
pub(super) struct Piece {
    events: Vec<Arc<Event>>,
    /// Places of the events in the order of their keys; none where there are few.
    by_key: Vec<u32>,
    readers: VecDeque<Reader>,
    through: Revision,
}

/// A watcher of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reader {
    /// Its id.
    pub(super) watcher: WatcherId,
    /// It wants no event of the piece below.
    pub(super) from: Revision,
}

impl Piece {
    /// After `through` each reader has seen everything up to there, if it has no event beyond.
    pub(super) fn new(
        events: Vec<Arc<Event>>,
        readers: impl Into<VecDeque<Reader>>,
        through: Revision,
    ) -> Self {
        let readers = readers.into();
        let mut by_key = Vec::new();
        if events.len() > SCANNED_MAX && !readers.is_empty() {
            by_key = (0..u32::try_from(events.len()).unwrap_or(u32::MAX)).collect();
            // Stable, and quick where it is sorted already, as what one delete removed is.
            by_key.sort_by(|a: &u32, b: &u32| key(&events, *a).cmp(key(&events, *b)));
        }
        Self {
            events,
            by_key,
            readers,
            through,
        }
    }

    /// Memory that its events hold.
    pub(super) fn bytes(&self) -> usize {
        self.events.iter().map(|event| cost(event)).sum()
    }

    /// The next watcher that may want something of it.
    pub(super) fn next_reader(&mut self) -> Option<Reader> {
        self.readers.pop_front()
    }

    /// The events of it that `wanted` selects, from a reader's `from` on, in order.
    pub(super) fn events_for(&self, wanted: &Wanted, from: Revision) -> Vec<Arc<Event>> {
        let mut places = self.places_for(wanted, from);
        places.sort_unstable();
        let events = places.iter().map(|place| &self.events[*place as usize]);
        events.cloned().collect()
    }

    /// The places of what `wanted` means of it, from a reader's `from` on, in any order.
    pub(super) fn places_for(&self, wanted: &Wanted, from: Revision) -> Vec<u32> {
        let wants = |place: &u32| {
            let event = &self.events[*place as usize];
            event.kv.mod_revision >= from && wanted.shows(event)
        };
        if self.by_key.is_empty() {
            let few = (0..).zip(&self.events);
            let of_it = few.filter(|(_, event)| wanted.keys.contains(&event.kv.key));
            return of_it.map(|(place, _)| place).filter(wants).collect();
        }
        let of_it = self.places_of(&wanted.keys).iter().copied();
        of_it.filter(wants).collect()
    }

    /// After an event of this revision, its last, a reader has seen everything up to there.
    pub(super) fn through(&self, last: Revision) -> Revision {
        self.through.max(last)
    }

    fn places_of(&self, keys: &Keys) -> &[u32] {
        let below = |bound: &[u8]| {
            self.by_key
                .partition_point(|place| key(&self.events, *place) < bound)
        };
        let (start, end) = match keys {
            Keys::One(one) => {
                let upto = |place: &u32| key(&self.events, *place) <= one.as_ref();
                (below(one), self.by_key.partition_point(upto))
            }
            Keys::Range { start, end } => {
                let end = end.as_ref().map_or(self.by_key.len(), |end| below(end));
                (below(start), end)
            }
        };
        self.by_key.get(start..end).unwrap_or_default()
    }
}

fn key(events: &[Arc<Event>], place: u32) -> &[u8] {
    &events[place as usize].kv.key
}
