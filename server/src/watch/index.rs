//! Which watchers want a key.

use std::collections::HashMap;

use bytes::Bytes;

use super::intervals::{Interval, Intervals};
use crate::command::Keys;

/// Watchers by the keys they want: exact keys in a map, ranges in a tree.
#[derive(Debug, Default)]
pub(super) struct Index<S> {
    exact: HashMap<Bytes, Vec<S>>,
    ranges: Intervals<Vec<S>>,
    len: usize,
}

impl<S: Copy + Ord + Default> Index<S> {
    /// Adds a watcher that is not in it.
    pub(super) fn insert(&mut self, keys: &Keys, slot: S) {
        let slots = match keys {
            Keys::One(key) => self.exact.entry(key.clone()).or_default(),
            Keys::Range { start, end } => self.ranges.entry(&Interval {
                start: start.clone(),
                end: end.clone(),
            }),
        };
        // Sorted, so that one of ten thousand watchers of the same key is found to be removed without a scan.
        if let Err(place) = slots.binary_search(&slot) {
            slots.insert(place, slot);
            self.len += 1;
        }
    }

    /// Removes a watcher.
    pub(super) fn remove(&mut self, keys: &Keys, slot: S) {
        match keys {
            Keys::One(key) => {
                let Some(slots) = self.exact.get_mut(key) else {
                    return;
                };
                self.len -= usize::from(take_out(slots, slot));
                if slots.is_empty() {
                    self.exact.remove(key);
                }
            }
            Keys::Range { start, end } => {
                let interval = Interval {
                    start: start.clone(),
                    end: end.clone(),
                };
                let Some(slots) = self.ranges.get_mut(&interval) else {
                    return;
                };
                self.len -= usize::from(take_out(slots, slot));
                if slots.is_empty() {
                    self.ranges.remove(&interval);
                }
            }
        }
    }

    /// Adds to `found` every watcher of `key`, each once.
    pub(super) fn watchers_of(&self, key: &[u8], found: &mut Vec<S>) {
        if let Some(slots) = self.exact.get(key) {
            found.extend_from_slice(slots);
        }
        self.ranges
            .around(key, &mut |slots| found.extend_from_slice(slots));
    }

    /// How many watchers are in it.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

fn take_out<S: Ord>(slots: &mut Vec<S>, slot: S) -> bool {
    let place = slots.binary_search(&slot);
    if let Ok(place) = place {
        slots.remove(place);
    }
    place.is_ok()
}
