//! The pump against a list of all that was ever changed: whatever is large, cancelled or opened in between, every watcher is
//! told everything once and in order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

use super::{event, keys};
use crate::command::{Event, EventKind, KeyValue, Keys, Revision};
use crate::watch::{Changes, Extent, Hub, Needs, Part, Past, Pump, Told, Turn, Wanted, WatcherId};

/// Changes that are read at once; a revision with more is large.
const PART: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// Revisions of changes, one per key.
    Publish(Vec<Vec<(u8, bool)>>),
    /// One whose events nobody holds.
    PublishLarge(u8),
    Watch {
        key: u8,
        width: u8,
        back: Option<u64>,
        deletes: bool,
        prevs: bool,
    },
    Cancel(usize),
    Turns(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let changes = prop::collection::btree_map(0u8..12, any::<bool>(), 1..9);
    let changes = changes.prop_map(|changes| changes.into_iter().collect());
    prop_oneof![
        4 => prop::collection::vec(changes, 1..4).prop_map(Step::Publish),
        2 => (4u8..30).prop_map(Step::PublishLarge),
        3 => (0u8..12, 0u8..6, prop::option::of(0u64..6), any::<bool>(), any::<bool>())
            .prop_map(|(key, width, back, deletes, prevs)| Step::Watch { key, width, back, deletes, prevs }),
        1 => (0usize..6).prop_map(Step::Cancel),
        4 => (1usize..12).prop_map(Step::Turns),
    ]
}

fn size(event: &Event, prevs: bool) -> u64 {
    let prev = event.prev.as_ref().filter(|_| prevs);
    1 + u64::from(event.kv.key[0]) + prev.map_or(0, |prev| 1000 + u64::from(prev.key[0]))
}

/// All changes, in order, and what was read of them.
#[derive(Default)]
struct All(Vec<Event>, RefCell<Vec<Read>>);

/// A reading of history.
#[derive(Debug, PartialEq, Eq)]
enum Read {
    Changes(Revision, Revision),
    Part(Revision, Range<u32>, bool),
}

impl Read {
    fn of(needs: &Needs<'_, Revision>) -> Self {
        match needs {
            Needs::Changes { from, upto } => Self::Changes(*from, *upto),
            Needs::Part {
                large,
                places,
                prevs,
            } => Self::Part(**large, places.clone(), *prevs),
        }
    }
}

impl All {
    fn of(&self, revision: u64) -> impl Iterator<Item = &Event> {
        let all = self.0.iter();
        all.filter(move |event| event.kv.mod_revision.0 == revision)
    }
}

impl Past for All {
    type Large = Revision;
    type Error = Infallible;

    fn changes(&self, from: Revision, upto: Revision) -> Result<Changes<Revision>, Infallible> {
        self.1.borrow_mut().push(Read::Changes(from, upto));
        let mut events: Vec<Event> = Vec::new();
        for next in from.0..upto.0 {
            let more = self.of(next).count();
            if events.len() + more > PART {
                let next = Revision(next);
                return Ok(match events.is_empty() {
                    true => Changes::Large {
                        revision: next,
                        large: next,
                    },
                    false => Changes::Kept { events, next },
                });
            }
            events.extend(self.of(next).cloned());
        }
        Ok(Changes::Kept { events, next: upto })
    }

    fn part(&self, large: &Revision, places: Range<u32>, prevs: bool) -> Result<Part, Infallible> {
        let read = Read::Part(*large, places.clone(), prevs);
        self.1.borrow_mut().push(read);
        // Places have gaps between them.
        let of_it = (0..).step_by(3).zip(self.of(large.0));
        let mut rest = of_it.filter(|(at, _)| places.contains(at));
        let changes = rest.by_ref().take(PART).map(|(at, event)| {
            let mut event = event.clone();
            event.prev = event.prev.filter(|_| prevs);
            (at, event)
        });
        Ok(Part {
            changes: changes.collect(),
            next: rest.next().map(|(at, _)| at),
        })
    }
}

struct Watched {
    wanted: Wanted,
    start: u64,
    told: Vec<Event>,
    is_cancelled: bool,
}

/// A large revision that has begun.
struct Begun {
    watcher: WatcherId,
    bytes: u64,
}

struct Model {
    hub: Arc<Hub>,
    pump: Pump<Revision>,
    all: All,
    revision: u64,
    watched: BTreeMap<WatcherId, Watched>,
    begun: Option<Begun>,
}

impl Model {
    fn new() -> Self {
        let hub = Hub::new(Revision(1));
        let pump = Pump::new(&hub, size);
        Self {
            hub,
            pump,
            all: All::default(),
            revision: 1,
            watched: BTreeMap::new(),
            begun: None,
        }
    }

    fn change(&mut self, changes: impl IntoIterator<Item = (u8, bool)>) -> Vec<Event> {
        self.revision += 1;
        let changes = changes.into_iter().map(|(key, put)| {
            let kind = if put {
                EventKind::Put
            } else {
                EventKind::Delete
            };
            let mut event = event(key, self.revision, kind, false);
            event.prev = (!put).then(|| KeyValue {
                version: 9,
                ..event.kv.clone()
            });
            event
        });
        let events: Vec<Event> = changes.collect();
        self.all.0.extend(events.iter().cloned());
        events
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Publish(revisions) => {
                let mut events = Vec::new();
                for changes in revisions {
                    events.extend(self.change(changes));
                }
                self.hub.publish(Revision(self.revision), events);
            }
            Step::PublishLarge(upto) => {
                self.change((0..upto).map(|key| (key, false)));
                let of = Keys::Range {
                    start: Bytes::from_static(&[0]),
                    end: Some(Bytes::copy_from_slice(&[upto])),
                };
                self.hub.publish_large(Revision(self.revision), &of);
            }
            Step::Watch {
                key,
                width,
                back,
                deletes,
                prevs,
            } => {
                let start = back.map(|back| self.revision.saturating_sub(back).max(2));
                let wanted = Wanted {
                    keys: keys(key, width),
                    start: start.map(Revision),
                    puts: true,
                    deletes,
                    prevs,
                };
                let (id, revision) = self.pump.watch(wanted.clone());
                assert_eq!(revision, Revision(self.revision));
                let watched = Watched {
                    wanted,
                    start: start.unwrap_or(self.revision + 1),
                    told: Vec::new(),
                    is_cancelled: false,
                };
                assert!(
                    self.watched.insert(id, watched).is_none(),
                    "an id came back"
                );
            }
            Step::Cancel(place) => {
                let mut open = self.watched.iter_mut().filter(|(_, one)| !one.is_cancelled);
                if let Some((id, watched)) = open.nth(place) {
                    watched.is_cancelled = true;
                    self.pump.cancel(*id);
                }
            }
            Step::Turns(turns) => {
                for _ in 0..turns {
                    if !self.turn() {
                        return;
                    }
                }
            }
        }
    }

    fn turn(&mut self) -> bool {
        assert_eq!(self.pump.is_inside_a_revision(), self.begun.is_some());
        let needs = self.pump.needs();
        let named: Vec<_> = needs.iter().map(Read::of).collect();
        let Ok(turn) = self.pump.turn(&self.all);
        for read in self.all.1.take() {
            assert!(named.contains(&read), "{read:?} is not one of {named:?}");
        }
        match turn {
            Turn::Idle => false,
            Turn::Lost { .. } => panic!("nothing was compacted"),
            Turn::Told(told) => {
                for told in told {
                    self.note(told);
                }
                true
            }
        }
    }

    fn note(&mut self, told: Told) {
        let Told {
            watcher,
            events,
            through,
            extent,
        } = told;
        let watched = self.watched.get_mut(&watcher).unwrap();
        assert!(!events.is_empty(), "told nothing");
        let prevs = watched.wanted.prevs;
        let bytes: u64 = events.iter().map(|event| size(event, prevs)).sum();
        match extent {
            Extent::Whole => {
                assert!(self.begun.is_none(), "another came into a revision");
                assert!(!watched.is_cancelled, "told a cancelled watcher");
            }
            Extent::Begins { bytes: whole } => {
                assert!(self.begun.is_none(), "another came into a revision");
                assert!(!watched.is_cancelled, "told a cancelled watcher");
                let bytes = whole - bytes;
                self.begun = Some(Begun { watcher, bytes });
            }
            Extent::GoesOn | Extent::Ends => {
                let begun = self.begun.as_mut().expect("nothing has begun");
                assert_eq!(begun.watcher, watcher);
                begun.bytes -= bytes;
                if extent == Extent::Ends {
                    assert_eq!(begun.bytes, 0, "it is as long as was said");
                    self.begun = None;
                }
            }
        }
        let told = events.iter().map(|event| {
            let mut event = Event::clone(event);
            event.prev = event.prev.filter(|_| prevs);
            event
        });
        watched.told.extend(told);
        if self.begun.is_none() {
            let due = self.due(watcher, through.0);
            assert_eq!(self.watched[&watcher].told, due, "through is what was told");
        }
    }

    fn due(&self, id: WatcherId, through: u64) -> Vec<Event> {
        let Watched { wanted, start, .. } = &self.watched[&id];
        let due = self.all.0.iter().filter(|event| {
            let revision = event.kv.mod_revision.0;
            revision >= *start
                && revision <= through
                && wanted.keys.contains(&event.kv.key)
                && (wanted.deletes || event.kind == EventKind::Put)
        });
        let shown = due.cloned().map(|mut event| {
            event.prev = event.prev.filter(|_| wanted.prevs);
            event
        });
        shown.collect()
    }

    fn drain(&mut self) {
        while self.turn() {}
        assert!(self.begun.is_none());
        assert_eq!(self.pump.held_bytes(), 0);
        let now = self.revision;
        let mut open = self.watched.values().filter(|one| !one.is_cancelled);
        let has_started = open.all(|one| one.wanted.start.is_none_or(|start| start.0 <= now));
        assert_eq!(self.pump.progress(), has_started.then_some(Revision(now)));
        for (id, watched) in &self.watched {
            if !watched.is_cancelled {
                assert_eq!(watched.told, self.due(*id, now), "watcher {id:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn every_watcher_is_told_each_event_once_however_large_its_revision(
        steps in prop::collection::vec(step(), 1..50)
    ) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
        }
        model.drain();
    }
}

fn everything() -> Wanted {
    Wanted {
        keys: keys(0, 1),
        start: None,
        puts: true,
        deletes: true,
        prevs: true,
    }
}

#[test]
fn a_revision_that_has_begun_is_told_to_its_end_though_its_watcher_is_cancelled() {
    let mut model = Model::new();
    let (id, _) = model.pump.watch(everything());
    let watched = Watched {
        wanted: everything(),
        start: 2,
        told: Vec::new(),
        is_cancelled: false,
    };
    model.watched.insert(id, watched);
    model.apply(Step::PublishLarge(30));
    while !model.pump.is_inside_a_revision() {
        assert!(model.turn());
    }
    model.apply(Step::Cancel(0));
    model.drain();
    assert_eq!(model.watched[&id].told.len(), 30);
}

/// However many watch, one turn reads a part of a revision and holds a few numbers for each watcher.
#[test]
fn what_is_held_of_a_large_revision_does_not_grow_with_it() {
    let held = |changes: u32| {
        let hub = Hub::new(Revision(1));
        let mut pump = Pump::new(&hub, size);
        for _ in 0..100 {
            pump.watch(everything());
        }
        let mut all = All::default();
        all.0.extend((0..changes).map(|number| {
            let mut event = event(0, 2, EventKind::Delete, false);
            event.kv.key = Bytes::copy_from_slice(&number.to_be_bytes());
            event
        }));
        hub.publish_large(Revision(2), &keys(0, 1));
        let (mut most, mut told) = (0, 0);
        loop {
            let Ok(turn) = pump.turn(&all);
            match turn {
                Turn::Idle => break,
                Turn::Lost { .. } => panic!("nothing was compacted"),
                Turn::Told(now) => {
                    let now: usize = now.iter().map(|told| told.events.len()).sum();
                    assert!(now <= 10, "{now} events in a turn");
                    told += now;
                }
            }
            most = most.max(pump.held_bytes());
        }
        assert_eq!(told, 100 * changes as usize);
        most
    };
    assert_eq!(held(50), held(200));
}
