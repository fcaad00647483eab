//! Linearizability of single keys: the search of Wing and Gong with Lowe's memory, key by key.
//!
//! Source: Lowe, "Testing for linearizability" (2017): calls are tried in real-time order; a pair of (calls placed,
//! state) that failed once is not tried again. Herlihy and Wing: a history is linearizable if each key's part is.

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use super::{Violation, require};
use crate::history::{Call, Outcome, Reply, Request, Version};

/// A call of any kind of object: when it ran, `ended` only if its answer was seen.
struct Span<'a, C> {
    began: Duration,
    ended: Option<Duration>,
    call: &'a C,
}

/// Finds an order of all calls, each between its begin and its end, that explains every answer.
///
/// Serializable reads promise nothing here and are left out. Keys under a lease may vanish by themselves: leave them out
/// of the history. Takes exponential time at worst, in the number of calls at the same time on one key; a search that gets
/// out of hand is given up, which says so and does not pass.
pub fn check(history: &[Call]) -> Result<(), Violation> {
    check_within(history, TRIED_MAX)
}

fn check_within(history: &[Call], tried_max: usize) -> Result<(), Violation> {
    let mut keys: BTreeMap<&str, Vec<Span<'_, Call>>> = BTreeMap::new();
    for call in history {
        if matches!(
            call.request,
            Request::Get {
                is_serializable: true,
                ..
            }
        ) {
            continue;
        }
        let ended = matches!(call.outcome, Outcome::Done { .. }).then_some(call.ended);
        keys.entry(call.request.key()).or_default().push(Span {
            began: call.began,
            ended,
            call,
        });
    }
    for (key, spans) in keys {
        if let Err(stuck) = order(&spans, Key::Absent, step, tried_max) {
            let Stuck {
                placed,
                call,
                state,
                is_given_up,
            } = stuck;
            let found = if is_given_up {
                "the search for an order was given up, of"
            } else {
                "no order explains all"
            };
            return Err(Violation(format!(
                "key {key}: {found} {} calls; after {placed} of them, with the key {state:?}, nothing explains {call:?}",
                spans.len()
            )));
        }
    }
    Ok(())
}

/// A key as the model knows it. The revision of an unanswered write is not known until a read tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Absent,
    Present {
        value: String,
        created: Option<i64>,
        changed: Option<i64>,
        version: Option<i64>,
    },
}

/// The key after `call`, or `None` if the call can't have its answer in this state.
fn step(key: &Key, call: &Call) -> Option<Key> {
    let done = match &call.outcome {
        Outcome::Unknown => None,
        Outcome::Done { revision, reply } => Some((*revision, reply)),
    };
    match (&call.request, done) {
        (Request::Get { .. }, Some((_, Reply::Found(found)))) => seen(key, found.as_ref()),
        (Request::Put { value, .. }, None) => written(key, value, None),
        (Request::Put { value, .. }, Some((revision, Reply::Put))) => {
            written(key, value, Some(revision))
        }
        (Request::Delete { .. }, None) => Some(Key::Absent),
        (Request::Delete { .. }, Some((_, Reply::Deleted(existed)))) => {
            (*existed == (*key != Key::Absent)).then_some(Key::Absent)
        }
        (
            Request::Swap {
                expected, value, ..
            },
            None,
        ) => may_be_at(key, *expected).then(|| written(key, value, None))?,
        (
            Request::Swap {
                expected, value, ..
            },
            Some((revision, Reply::Swapped)),
        ) => may_be_at(key, *expected).then(|| written(key, value, Some(revision)))?,
        (Request::Swap { expected, .. }, Some((_, Reply::NotSwapped(found)))) => {
            let found_at = found.as_ref().map_or(0, |version| version.mod_revision);
            (found_at != *expected).then(|| seen(key, found.as_ref()))?
        }
        // An answer of another kind than the question.
        _ => None,
    }
}

/// The key as it is known after `found` was read, if it can be that.
fn seen(key: &Key, found: Option<&Version>) -> Option<Key> {
    match (key, found) {
        (Key::Absent, None) => Some(Key::Absent),
        (
            Key::Present {
                value,
                created,
                changed,
                version,
            },
            Some(found),
        ) => {
            let agrees = |known: &Option<i64>, told| known.is_none_or(|known| known == told);
            let is_this = *value == found.value
                && agrees(created, found.create_revision)
                && agrees(changed, found.mod_revision)
                && agrees(version, found.version);
            is_this.then(|| Key::Present {
                value: found.value.clone(),
                created: Some(found.create_revision),
                changed: Some(found.mod_revision),
                version: Some(found.version),
            })
        }
        (Key::Absent, Some(_)) | (Key::Present { .. }, None) => None,
    }
}

/// The key after a write at `revision`, which must be later than the key's last change.
fn written(key: &Key, value: &str, revision: Option<i64>) -> Option<Key> {
    let (created, version) = match key {
        Key::Absent => (revision, Some(1)),
        Key::Present {
            changed: Some(changed),
            ..
        } if revision.is_some_and(|revision| revision <= *changed) => {
            return None;
        }
        Key::Present {
            created, version, ..
        } => (*created, version.map(|version| version + 1)),
    };
    Some(Key::Present {
        value: value.to_owned(),
        created,
        changed: revision,
        version,
    })
}

/// Whether the key's last change can have been at `revision`; 0 is a key that does not exist.
fn may_be_at(key: &Key, revision: i64) -> bool {
    match key {
        Key::Absent => revision == 0,
        Key::Present { changed, .. } => {
            revision != 0 && changed.is_none_or(|changed| changed == revision)
        }
    }
}

/// How far the search came.
struct Stuck<'a, C, S> {
    placed: usize,
    call: &'a C,
    state: S,
    /// There are orders that were not tried.
    is_given_up: bool,
}

/// Placements that one search may try: some hundred times what runs need, and about a gigabyte of memory.
const TRIED_MAX: usize = 4_000_000;

/// The search itself, for any object given by its first state and its `step`.
fn order<'a, C, S: Clone + Eq + Hash>(
    spans: &[Span<'a, C>],
    first: S,
    step: impl Fn(&S, &C) -> Option<S>,
    tried_max: usize,
) -> Result<(), Stuck<'a, C, S>> {
    let mut line = Line::new(spans);
    let mut state = first;
    let mut placed = Bits::new(spans.len());
    let mut placed_count = 0;
    let mut answered_left = spans.iter().filter(|span| span.ended.is_some()).count();
    let mut trail: Vec<(usize, S)> = Vec::new();
    let mut tried: HashSet<(Bits, S)> = HashSet::new();
    let mut furthest: Option<Stuck<'a, C, S>> = None;
    let mut at = line.first();
    // Calls without an answer may be left over: they never happened.
    while answered_left > 0 {
        let event =
            at.expect("the end of an answered call is on the line until the call is placed");
        if let Some(call) = line.begun(event) {
            let next = step(&state, spans[call].call).filter(|next| {
                placed.set(call);
                let is_new = tried.insert((placed.clone(), next.clone()));
                placed.clear(call);
                is_new
            });
            match next {
                Some(next) => {
                    placed.set(call);
                    placed_count += 1;
                    answered_left -= usize::from(spans[call].ended.is_some());
                    line.take(call);
                    trail.push((call, std::mem::replace(&mut state, next)));
                    at = line.first();
                }
                None => at = line.after(event),
            }
            continue;
        }
        // This call ended, so it had to be placed before now: undo the last placement and try what comes after it.
        let call = line.ended(event);
        if furthest
            .as_ref()
            .is_none_or(|furthest| furthest.placed < placed_count)
        {
            furthest = Some(Stuck {
                placed: placed_count,
                call: spans[call].call,
                state: state.clone(),
                is_given_up: false,
            });
        }
        let is_given_up = tried.len() > tried_max;
        let last = if is_given_up { None } else { trail.pop() };
        let Some((last, before)) = last else {
            let furthest = furthest.expect("set above");
            return Err(Stuck {
                is_given_up,
                ..furthest
            });
        };
        placed.clear(last);
        placed_count -= 1;
        answered_left += usize::from(spans[last].ended.is_some());
        state = before;
        line.put_back(last);
        at = line.after(line.begin_of(last));
    }
    Ok(())
}

/// Begins and ends of the calls that are not placed yet, in order of time: a doubly linked list over a fixed array.
struct Line {
    /// Per event: its call, and whether it is a begin.
    events: Vec<(usize, bool)>,
    next: Vec<usize>,
    previous: Vec<usize>,
    /// Per call: where it begins, and ends if it does.
    places: Vec<(usize, Option<usize>)>,
}

impl Line {
    fn new<C>(spans: &[Span<'_, C>]) -> Self {
        let mut events: Vec<(Duration, bool, usize)> = Vec::new();
        for (call, span) in spans.iter().enumerate() {
            // false sorts first: at the same moment calls overlap, which allows more.
            events.push((span.began, false, call));
            if let Some(ended) = span.ended {
                events.push((ended.max(span.began), true, call));
            }
        }
        events.sort_unstable();
        let mut places = vec![(0, None); spans.len()];
        for (place, (_, is_end, call)) in events.iter().enumerate() {
            if *is_end {
                places[*call].1 = Some(place);
            } else {
                places[*call].0 = place;
            }
        }
        let count = events.len();
        Self {
            events: events
                .into_iter()
                .map(|(_, is_end, call)| (call, !is_end))
                .collect(),
            // The place `count` is both before the first and after the last.
            next: (0..=count)
                .map(|place| if place == count { 0 } else { place + 1 })
                .collect(),
            previous: (0..=count)
                .map(|place| if place == 0 { count } else { place - 1 })
                .collect(),
            places,
        }
    }

    fn first(&self) -> Option<usize> {
        self.after(self.events.len())
    }

    fn after(&self, place: usize) -> Option<usize> {
        let next = self.next[place];
        (next != self.events.len()).then_some(next)
    }

    fn begun(&self, place: usize) -> Option<usize> {
        let (call, is_begin) = self.events[place];
        is_begin.then_some(call)
    }

    fn ended(&self, place: usize) -> usize {
        self.events[place].0
    }

    fn begin_of(&self, call: usize) -> usize {
        self.places[call].0
    }

    fn take(&mut self, call: usize) {
        let (begin, end) = self.places[call];
        for place in [Some(begin), end].into_iter().flatten() {
            let (previous, next) = (self.previous[place], self.next[place]);
            self.next[previous] = next;
            self.previous[next] = previous;
        }
    }

    /// Undoes [`Line::take`]; the last taken comes back first, in reverse order of its events.
    fn put_back(&mut self, call: usize) {
        let (begin, end) = self.places[call];
        for place in [end, Some(begin)].into_iter().flatten() {
            let (previous, next) = (self.previous[place], self.next[place]);
            self.next[previous] = place;
            self.previous[next] = place;
        }
    }
}

/// A set of calls.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Bits(Box<[u64]>);

impl Bits {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)].into())
    }

    fn set(&mut self, index: usize) {
        self.0[index / 64] |= 1 << (index % 64);
    }

    fn clear(&mut self, index: usize) {
        self.0[index / 64] &= !(1 << (index % 64));
    }
}

/// Fails unless the history has at least `answered_min` answered calls: an empty history is linearizable, and proves
/// nothing.
pub fn require_volume(history: &[Call], answered_min: usize) -> Result<(), Violation> {
    let answered = history
        .iter()
        .filter(|call| matches!(call.outcome, Outcome::Done { .. }))
        .count();
    require!(
        answered >= answered_min,
        "only {answered} calls were answered, {answered_min} are needed"
    );
    Ok(())
}

#[cfg(test)]
mod tests;
