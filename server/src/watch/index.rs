//! An index from keys to those that watch them.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::intervals::{Interval, Intervals};
use crate::command::Keys;

/// Holders by the keys they want: exact keys in a map, ranges in a tree. A holder may want the same keys several times.
#[derive(Debug)]
pub(super) struct Index<H> {
    exact: HashMap<Bytes, Holders<H>>,
    ranges: Intervals<Holders<H>>,
}

/// Holders of the same keys, each with how often. Mostly one; ten thousand are found and removed as fast.
#[derive(Debug)]
enum Holders<H> {
    One(H, u32),
    Many(BTreeMap<H, u32>),
}

impl<H> Default for Index<H> {
    fn default() -> Self {
        Self {
            exact: HashMap::new(),
            ranges: Intervals::default(),
        }
    }
}

impl<H: Copy + Ord> Index<H> {
    /// Adds a holder once more.
    pub(super) fn insert(&mut self, keys: &Keys, holder: H) {
        match keys {
            Keys::One(key) => self.exact.entry(key.clone()).or_default().insert(holder),
            Keys::Range { start, end } => {
                let interval = Interval {
                    start: start.clone(),
                    end: end.clone(),
                };
                self.ranges.entry(&interval).insert(holder);
            }
        }
    }

    /// Removes a holder once.
    pub(super) fn remove(&mut self, keys: &Keys, holder: H) {
        match keys {
            Keys::One(key) => {
                if let Some(holders) = self.exact.get_mut(key)
                    && holders.remove(holder)
                {
                    self.exact.remove(key);
                }
            }
            Keys::Range { start, end } => {
                let interval = Interval {
                    start: start.clone(),
                    end: end.clone(),
                };
                if let Some(holders) = self.ranges.get_mut(&interval)
                    && holders.remove(holder)
                {
                    self.ranges.remove(&interval);
                }
            }
        }
    }

    /// Adds to `found` every holder of `key`, as often as different ranges of it hold the key.
    pub(super) fn holders_of(&self, key: &[u8], found: &mut Vec<H>) {
        if let Some(holders) = self.exact.get(key) {
            holders.add_to(found);
        }
        self.ranges
            .around(key, &mut |holders| holders.add_to(found));
    }
}

impl<H> Default for Holders<H> {
    fn default() -> Self {
        Self::Many(BTreeMap::new())
    }
}

impl<H: Copy + Ord> Holders<H> {
    fn insert(&mut self, holder: H) {
        match self {
            Self::Many(all) if all.is_empty() => *self = Self::One(holder, 1),
            Self::Many(all) => *all.entry(holder).or_default() += 1,
            Self::One(one, count) if *one == holder => *count += 1,
            Self::One(one, count) => {
                *self = Self::Many(BTreeMap::from([(*one, *count), (holder, 1)]));
            }
        }
    }

    /// Returns whether nobody is left.
    fn remove(&mut self, holder: H) -> bool {
        match self {
            Self::One(one, count) if *one == holder => {
                *count -= 1;
                *count == 0
            }
            Self::One(..) => false,
            Self::Many(all) => {
                if let Some(count) = all.get_mut(&holder) {
                    *count -= 1;
                    if *count == 0 {
                        all.remove(&holder);
                    }
                }
                all.is_empty()
            }
        }
    }

    fn add_to(&self, found: &mut Vec<H>) {
        match self {
            Self::One(one, _) => found.push(*one),
            Self::Many(all) => found.extend(all.keys()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_found_until_it_is_removed_as_often_as_it_was_added() {
        let (key, other) = (Bytes::from_static(b"k"), Bytes::from_static(b"l"));
        let range = Keys::Range {
            start: key.clone(),
            end: Some(other),
        };
        for keys in [Keys::One(key.clone()), range] {
            let mut index = Index::default();
            let found = |index: &Index<u8>| {
                let mut found = Vec::new();
                index.holders_of(&key, &mut found);
                found
            };
            for holder in [2, 1, 2, 3] {
                index.insert(&keys, holder);
            }
            assert_eq!(found(&index), [1, 2, 3]);
            for (holder, left) in [
                (2, vec![1, 2, 3]),
                (1, vec![2, 3]),
                (2, vec![3]),
                (3, vec![]),
            ] {
                index.remove(&keys, holder);
                assert_eq!(found(&index), left);
            }
            index.remove(&keys, 3);
        }
    }
}
