//! The hub and its watchers without a wire.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;

mod pump;

use super::catch_up::Gap;
use super::outlet::Outlet;
use super::piece::{Piece, Reader};
use super::*;
use crate::command::{Event, EventKind, KeyValue, Keys, Revision};

static BIG: [u8; 300_000] = [7; 300_000];

fn event(key: u8, revision: u64, kind: EventKind, big: bool) -> Event {
    let kv = KeyValue {
        key: Bytes::copy_from_slice(&[key]),
        create_revision: Revision(0),
        mod_revision: Revision(revision),
        version: 1,
        value: if big {
            Bytes::from_static(&BIG)
        } else {
            Bytes::new()
        },
        lease: None,
    };
    Event {
        kind,
        kv,
        prev: None,
    }
}

fn keys(start: u8, width: u8) -> Keys {
    let start_key = Bytes::copy_from_slice(&[start]);
    match width {
        0 => Keys::One(start_key),
        1 => Keys::Range {
            start: start_key,
            end: None,
        },
        width => Keys::Range {
            start: start_key,
            end: Some(Bytes::copy_from_slice(&[start + width])),
        },
    }
}

fn all(start: Option<u64>) -> Arc<Wanted> {
    let keys = Keys::Range {
        start: Bytes::from_static(b"\0"),
        end: None,
    };
    Arc::new(Wanted {
        keys,
        start: start.map(Revision),
        puts: true,
        deletes: true,
        prevs: false,
    })
}

/// The revisions that a piece tells watchers of everything.
fn seen(piece: Option<Piece>) -> Vec<u64> {
    let mut seen = Vec::new();
    let Some(mut piece) = piece else { return seen };
    while let Some(reader) = piece.next_reader() {
        let events = piece.events_for(&all(None), reader.from);
        seen.extend(events.iter().map(|event| event.kv.mod_revision.0));
    }
    seen
}

#[derive(Clone, Debug)]
enum Step {
    Publish {
        revisions: Vec<Vec<(u8, bool)>>,
        big: bool,
    },
    Watch {
        key: u8,
        width: u8,
        back: Option<i64>,
        puts: bool,
        deletes: bool,
    },
    Cancel(usize),
    Take(usize),
    CatchUp(usize),
    Reset(Vec<Vec<(u8, bool)>>),
}

fn revisions() -> impl Strategy<Value = Vec<Vec<(u8, bool)>>> {
    prop::collection::vec(prop::collection::vec((0u8..6, any::<bool>()), 1..4), 1..4)
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (revisions(), prop::bool::weighted(0.3)).prop_map(|(revisions, big)| Step::Publish { revisions, big }),
        3 => (0u8..6, 0u8..4, prop::option::of(-3i64..8), prop::bool::weighted(0.8), prop::bool::weighted(0.8))
            .prop_map(|(key, width, back, puts, deletes)| Step::Watch { key, width, back, puts, deletes }),
        1 => (0usize..8).prop_map(Step::Cancel),
        3 => (0usize..500_000).prop_map(Step::Take),
        3 => (1usize..6).prop_map(Step::CatchUp),
        1 => revisions().prop_map(Step::Reset),
    ]
}

/// The whole history in a list, every watcher with what it was told.
struct Model {
    hub: Arc<Hub>,
    outlet: Outlet,
    history: Vec<Event>,
    revision: u64,
    wanted: BTreeMap<WatcherId, (Arc<Wanted>, u64)>,
    told: BTreeMap<WatcherId, Vec<Event>>,
    next_id: i64,
}

impl Model {
    fn new() -> Self {
        let hub = Hub::new(Revision(1));
        let outlet = hub.open();
        Self {
            hub,
            outlet,
            history: Vec::new(),
            revision: 1,
            wanted: BTreeMap::new(),
            told: BTreeMap::new(),
            next_id: 0,
        }
    }

    fn change(&mut self, revisions: Vec<Vec<(u8, bool)>>, big: bool) -> Vec<Event> {
        let mut events = Vec::new();
        for keys in revisions {
            self.revision += 1;
            for (key, put) in keys {
                let kind = if put {
                    EventKind::Put
                } else {
                    EventKind::Delete
                };
                events.push(event(key, self.revision, kind, big));
            }
        }
        self.history.extend(events.iter().cloned());
        events
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Publish { revisions, big } => {
                let events = self.change(revisions, big);
                self.hub.publish(Revision(self.revision), events);
            }
            Step::Reset(revisions) => {
                self.change(revisions, false);
                self.hub.reset(Revision(self.revision));
            }
            Step::Watch {
                key,
                width,
                back,
                puts,
                deletes,
            } => {
                let now = i64::try_from(self.revision).unwrap();
                let start = back.map(|back| u64::try_from((now - back).max(1)).unwrap());
                let wanted = Arc::new(Wanted {
                    keys: keys(key, width),
                    start: start.map(Revision),
                    puts,
                    deletes,
                    prevs: false,
                });
                let id = WatcherId(self.next_id);
                self.next_id += 1;
                assert_eq!(
                    self.outlet.watch(id, wanted.clone()),
                    Revision(self.revision)
                );
                self.wanted
                    .insert(id, (wanted, start.unwrap_or(self.revision + 1)));
                self.told.insert(id, Vec::new());
            }
            Step::Cancel(place) => {
                let Some(id) = self.wanted.keys().nth(place).copied() else {
                    return;
                };
                assert!(self.outlet.cancel(id));
                self.wanted.remove(&id);
            }
            Step::Take(bytes) => {
                if let Some(piece) = self.outlet.take(bytes) {
                    self.note(piece);
                }
            }
            Step::CatchUp(revisions) => {
                let Some(gap) = self.outlet.gap() else { return };
                let next = Revision(gap.upto.0.min(gap.from.0 + revisions as u64));
                let events = self
                    .history
                    .iter()
                    .filter(|event| (gap.from..next).contains(&event.kv.mod_revision));
                let events = events.cloned().collect();
                let piece = self.outlet.fill(gap, events, next);
                self.note(piece);
            }
        }
    }

    fn note(&mut self, mut piece: Piece) {
        while let Some(Reader { watcher, from }) = piece.next_reader() {
            let (wanted, _) = self.wanted.get(&watcher).expect("told a cancelled watcher");
            let events = piece.events_for(wanted, from);
            let (Some(first), Some(last)) = (events.first(), events.last()) else {
                continue;
            };
            let (first, last) = (first.kv.mod_revision, last.kv.mod_revision);
            let told = self.told.get_mut(&watcher).unwrap();
            assert!(
                told.last()
                    .is_none_or(|last: &Event| last.kv.mod_revision < first),
                "a revision was torn"
            );
            told.extend(events.iter().map(|event| Event::clone(event)));
            let due = self.due(watcher, piece.through(last).0);
            assert_eq!(self.told[&watcher], due, "through is what was told");
        }
    }

    fn due(&self, id: WatcherId, through: u64) -> Vec<Event> {
        let (wanted, start) = &self.wanted[&id];
        let due = self.history.iter().filter(|event| {
            let shown = if event.kind == EventKind::Put {
                wanted.puts
            } else {
                wanted.deletes
            };
            let revision = event.kv.mod_revision.0;
            shown
                && revision >= *start
                && revision <= through
                && wanted.keys.contains(&event.kv.key)
        });
        due.cloned().collect()
    }

    fn drain(&mut self) {
        for _ in 0..1000 {
            self.apply(Step::Take(usize::MAX));
            self.apply(Step::CatchUp(3));
        }
        assert_eq!(self.outlet.gap(), None);
        for (id, (_, start)) in &self.wanted {
            assert_eq!(
                self.told[id],
                self.due(*id, self.revision),
                "watcher {id:?}"
            );
            let is_future = self.wanted[id].0.start.is_some() && *start > self.revision;
            assert_eq!(
                self.outlet.progress_of(*id),
                (!is_future).then_some(Revision(self.revision))
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn every_watcher_sees_each_event_once_and_in_order(steps in prop::collection::vec(step(), 1..60)) {
        let mut model = Model::new();
        for step in steps {
            model.apply(step);
        }
        model.drain();
    }
}

#[test]
fn a_full_queue_makes_a_watcher_lag_at_a_whole_revision() {
    let hub = Hub::new(Revision(1));
    let mut outlet = hub.open();
    outlet.watch(WatcherId(1), all(None));
    for revision in 2..8 {
        hub.publish(
            Revision(revision),
            vec![
                event(1, revision, EventKind::Put, true),
                event(2, revision, EventKind::Put, true),
            ],
        );
    }
    assert_eq!(outlet.gap(), None, "what is queued goes first");
    assert_eq!(
        hub.counts(),
        HubCounts {
            outlets: 1,
            watchers: 1,
            lagging: 1,
            queued: 4
        }
    );
    assert_eq!(seen(outlet.take(usize::MAX)), [2, 2, 3, 3]);
    assert_eq!(
        outlet.gap(),
        Some(Gap {
            from: Revision(4),
            upto: Revision(8)
        })
    );
    assert_eq!(outlet.progress(), None);
}

#[test]
fn outlets_that_are_not_emptied_lag_when_all_queues_together_are_full() {
    let hub = Hub::new(Revision(1));
    let mut outlets: Vec<_> = (0..1000).map(|_| hub.open()).collect();
    for outlet in &mut outlets {
        outlet.watch(WatcherId(1), all(None));
    }
    let reader = outlets.last_mut().unwrap();
    let mut read = Vec::new();
    for revision in 2..10 {
        hub.publish(
            Revision(revision),
            vec![event(1, revision, EventKind::Put, true)],
        );
        read.extend(seen(reader.take(usize::MAX)));
    }
    assert_eq!(
        read,
        [2, 3, 4, 5, 6, 7, 8, 9],
        "whoever reads misses nothing"
    );
    let counts = hub.counts();
    assert_eq!(counts.lagging, 999);
    // One event each, whatever there is; below the limit of each queue alone.
    let bytes = counts.queued * BIG.len();
    assert!(
        bytes <= super::outlet::ALL_QUEUES_BYTES_MAX + 1000 * BIG.len(),
        "{bytes}"
    );
    drop(outlets);
    let mut outlet = hub.open();
    outlet.watch(WatcherId(1), all(None));
    for revision in 10..13 {
        hub.publish(
            Revision(revision),
            vec![event(1, revision, EventKind::Put, true)],
        );
    }
    assert_eq!(hub.counts().lagging, 0, "closed outlets hold nothing");
}

#[test]
fn watchers_of_one_outlet_share_an_event_in_its_bound() {
    let hub = Hub::new(Revision(1));
    let mut outlet = hub.open();
    for id in 0..1000 {
        outlet.watch(WatcherId(id), all(None));
    }
    hub.publish(Revision(2), vec![event(1, 2, EventKind::Put, true)]);
    assert_eq!(hub.counts().lagging, 0);
    assert_eq!(hub.counts().queued, 1);
    assert_eq!(seen(outlet.take(usize::MAX)).len(), 1000);
}

/// Deletes 20,000 keys at once, of which 5,000 watchers of one stream each want one, and 200 all of them.
#[test]
fn a_revision_that_is_too_large_to_be_queued_is_read_from_history_by_all_who_want_it() {
    let hub = Hub::new(Revision(1));
    let (mut outlet, mut other) = (hub.open(), hub.open());
    for id in 0..200 {
        outlet.watch(WatcherId(id), all(None));
    }
    let key = |number: u64| Bytes::from(format!("key-{number:05}"));
    let of_one = |number| {
        Arc::new(Wanted {
            keys: Keys::One(key(number)),
            ..Wanted::clone(&all(None))
        })
    };
    for number in 0..5000 {
        outlet.watch(WatcherId(1000 + number), of_one(number.cast_unsigned() * 4));
    }
    other.watch(WatcherId(1), of_one(7));
    let removed: Vec<Event> = (0..20_000)
        .map(|number| {
            let mut event = event(0, 2, EventKind::Delete, false);
            event.kv.key = key(number);
            event
        })
        .collect();
    hub.publish(Revision(2), removed.clone());
    hub.publish(Revision(3), vec![event(1, 3, EventKind::Put, false)]);
    assert_eq!(hub.counts().queued, 1, "what the other wants");
    assert_eq!(hub.counts().lagging, 5200);
    assert!(outlet.take(usize::MAX).is_none());
    let gap = outlet.gap().unwrap();
    assert_eq!((gap.from, gap.upto), (Revision(2), Revision(4)));
    let mut piece = outlet.fill(gap, removed, Revision(3));
    let mut told = 0;
    while let Some(Reader { watcher, from }) = piece.next_reader() {
        let is_of_one = watcher.0 >= 1000;
        let wanted = match is_of_one {
            true => of_one((watcher.0.cast_unsigned() - 1000) * 4),
            false => all(None),
        };
        let events = piece.events_for(&wanted, from);
        assert_eq!(events.len(), if is_of_one { 1 } else { 20_000 });
        assert!(events.is_sorted_by_key(|event| &event.kv.key));
        told += 1;
    }
    assert_eq!(told, 5200);
    assert_eq!(
        seen(Some(outlet.fill(
            outlet.gap().unwrap(),
            vec![event(1, 3, EventKind::Put, false)],
            Revision(4)
        )))
        .len(),
        200
    );
    assert_eq!((outlet.gap(), outlet.progress()), (None, Some(Revision(3))));
    hub.publish(Revision(4), vec![event(1, 4, EventKind::Put, false)]);
    assert_eq!(hub.counts().lagging, 0, "it is live again");
    assert!(outlet.take(usize::MAX).is_some());
}

#[test]
fn progress_waits_for_the_revision_a_watcher_starts_at() {
    let hub = Hub::new(Revision(5));
    let mut outlet = hub.open();
    outlet.watch(WatcherId(1), all(Some(7)));
    assert_eq!(outlet.progress(), None);
    hub.publish(Revision(6), vec![event(1, 6, EventKind::Put, false)]);
    assert_eq!(outlet.progress(), None);
    assert!(seen(outlet.take(usize::MAX)).is_empty());
    hub.publish(Revision(7), vec![event(1, 7, EventKind::Put, false)]);
    assert_eq!(outlet.progress(), None, "the event goes first");
    assert_eq!(seen(outlet.take(usize::MAX)), [7]);
    assert_eq!(outlet.progress(), Some(Revision(7)));
}

#[test]
fn history_that_is_gone_ends_only_the_watchers_that_need_it() {
    let hub = Hub::new(Revision(9));
    let mut outlet = hub.open();
    outlet.watch(WatcherId(1), all(Some(3)));
    outlet.watch(WatcherId(2), all(Some(6)));
    outlet.watch(WatcherId(3), all(None));
    assert_eq!(outlet.lose(Revision(6)), [WatcherId(1)]);
    assert_eq!(
        outlet.gap(),
        Some(Gap {
            from: Revision(6),
            upto: Revision(10)
        })
    );
    assert_eq!(hub.counts().watchers, 2);
}

#[test]
fn a_dropped_outlet_leaves_nothing_behind() {
    let hub = Hub::new(Revision(9));
    let mut outlet = hub.open();
    outlet.watch(WatcherId(1), all(Some(3)));
    outlet.watch(WatcherId(2), all(None));
    drop(outlet);
    assert_eq!(hub.counts(), HubCounts::default());
}

#[tokio::test]
async fn a_publish_wakes_the_outlet_it_concerns() {
    let hub = Hub::new(Revision(1));
    let mut outlet = hub.open();
    outlet.watch(WatcherId(1), all(None));
    hub.publish(Revision(2), vec![event(1, 2, EventKind::Put, false)]);
    outlet.woken().await;
    assert_eq!(seen(outlet.take(usize::MAX)), [2]);
}

#[tokio::test]
async fn a_bell_rings_again_after_a_revision_that_was_too_large_to_be_queued() {
    let hub = Hub::new(Revision(1));
    let mut bell = Bell::new(&hub, Wanted::clone(&all(None)));
    assert!(futures::poll!(Box::pin(bell.rung())).is_pending());
    hub.publish_large(Revision(2), &keys(0, 1));
    bell.rung().await;
    hub.publish(Revision(3), vec![event(1, 3, EventKind::Put, false)]);
    bell.rung().await;
    assert!(futures::poll!(Box::pin(bell.rung())).is_pending());
}

#[test]
fn a_large_revision_is_left_to_history_for_those_whose_keys_it_changed() {
    let hub = Hub::new(Revision(5));
    let (mut outlet, mut other) = (hub.open(), hub.open());
    let of = |start| {
        Arc::new(Wanted {
            keys: keys(start, 3),
            ..Wanted::clone(&all(None))
        })
    };
    outlet.watch(WatcherId(1), of(b'a'));
    outlet.watch(WatcherId(2), of(b'm'));
    other.watch(WatcherId(1), of(b'x'));
    let touched = Keys::Range {
        start: Bytes::from_static(b"l"),
        end: Some(Bytes::from_static(b"n")),
    };
    hub.publish_large(Revision(6), &touched);
    let events = [
        event(b'a', 7, EventKind::Put, false),
        event(b'x', 7, EventKind::Put, false),
    ];
    hub.publish(Revision(7), events.to_vec());
    assert_eq!(seen(other.take(usize::MAX)), [7], "others go on");
    let gap = outlet.gap().unwrap();
    assert_eq!((gap.from, gap.upto), (Revision(6), Revision(8)));
    let mut history = vec![event(b'm', 6, EventKind::Delete, false)];
    history.extend(events);
    let mut piece = outlet.fill(gap, history, Revision(8));
    for revision in [7, 6] {
        let Reader { watcher, from } = piece.next_reader().unwrap();
        let wanted = of(if watcher.0 == 1 { b'a' } else { b'm' });
        let events = piece.events_for(&wanted, from);
        assert_eq!(events[0].kv.mod_revision, Revision(revision));
    }
    assert_eq!(outlet.gap(), None);
    hub.publish(Revision(8), vec![event(b'm', 8, EventKind::Put, false)]);
    assert_eq!(seen(outlet.take(usize::MAX)), [8], "it is live again");
}
