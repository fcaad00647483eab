//! Key ranges, and which of them hold a given key.
//!
//! A treap ordered by range, each node knowing the furthest end below it: insert, remove and look-up take logarithmic
//! time whatever the overlap, where a scan would cost every put one comparison per open watch.

use std::cmp::Ordering;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use bytes::Bytes;

/// `[start, end)`; no end is the end of the key space.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Interval {
    pub(super) start: Bytes,
    pub(super) end: Option<Bytes>,
}

impl Ord for Interval {
    fn cmp(&self, other: &Self) -> Ordering {
        self.start
            .cmp(&other.start)
            .then_with(|| cmp_ends(self.end.as_ref(), other.end.as_ref()))
    }
}

impl PartialOrd for Interval {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

fn cmp_ends(a: Option<&Bytes>, b: Option<&Bytes>) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

/// A map from ranges to values that finds every range around a key.
#[derive(Debug)]
pub(super) struct Intervals<T> {
    root: Link<T>,
    // Keyed, so that a client cannot choose ranges that make the tree a list.
    priorities: RandomState,
}

type Link<T> = Option<Box<Node<T>>>;

#[derive(Debug)]
struct Node<T> {
    interval: Interval,
    value: T,
    priority: u64,
    /// The furthest end in this subtree.
    furthest: Option<Bytes>,
    left: Link<T>,
    right: Link<T>,
}

impl<T> Default for Intervals<T> {
    fn default() -> Self {
        Self {
            root: None,
            priorities: RandomState::new(),
        }
    }
}

impl<T: Default> Intervals<T> {
    /// The value of a range, made if it is new.
    pub(super) fn entry(&mut self, interval: &Interval) -> &mut T {
        if self.get_mut(interval).is_none() {
            let node = Node {
                priority: self.priorities.hash_one(interval),
                furthest: interval.end.clone(),
                interval: interval.clone(),
                value: T::default(),
                left: None,
                right: None,
            };
            let (left, right) = split(self.root.take(), interval);
            self.root = merge(merge(left, Some(Box::new(node))), right);
        }
        self.get_mut(interval)
            .expect("it was there or has just been inserted")
    }

    /// The value of a range.
    pub(super) fn get_mut(&mut self, interval: &Interval) -> Option<&mut T> {
        let mut link = &mut self.root;
        while let Some(node) = link {
            link = match interval.cmp(&node.interval) {
                Ordering::Equal => return Some(&mut node.value),
                Ordering::Less => &mut node.left,
                Ordering::Greater => &mut node.right,
            };
        }
        None
    }

    /// Forgets a range.
    pub(super) fn remove(&mut self, interval: &Interval) {
        remove(&mut self.root, interval);
    }

    /// Calls `found` with the value of every range that holds `key`.
    pub(super) fn around(&self, key: &[u8], found: &mut impl FnMut(&T)) {
        around(self.root.as_deref(), key, found);
    }
}

impl<T> Node<T> {
    fn refresh(&mut self) {
        let mut furthest = &self.interval.end;
        for child in [&self.left, &self.right].into_iter().flatten() {
            if cmp_ends(child.furthest.as_ref(), furthest.as_ref()).is_gt() {
                furthest = &child.furthest;
            }
        }
        self.furthest = furthest.clone();
    }
}

fn around<T>(mut link: Option<&Node<T>>, key: &[u8], found: &mut impl FnMut(&T)) {
    while let Some(node) = link {
        if node
            .furthest
            .as_deref()
            .is_some_and(|furthest| furthest <= key)
        {
            return;
        }
        around(node.left.as_deref(), key, found);
        if node.interval.start.as_ref() > key {
            return;
        }
        if node.interval.end.as_deref().is_none_or(|end| key < end) {
            found(&node.value);
        }
        link = node.right.as_deref();
    }
}

/// Everything below `at`, and the rest.
fn split<T>(link: Link<T>, at: &Interval) -> (Link<T>, Link<T>) {
    let Some(mut node) = link else {
        return (None, None);
    };
    if node.interval < *at {
        let (left, right) = split(node.right.take(), at);
        node.right = left;
        node.refresh();
        (Some(node), right)
    } else {
        let (left, right) = split(node.left.take(), at);
        node.left = right;
        node.refresh();
        (left, Some(node))
    }
}

/// Joins two trees of which every range of the first is below every range of the second.
fn merge<T>(left: Link<T>, right: Link<T>) -> Link<T> {
    match (left, right) {
        (None, one) | (one, None) => one,
        (Some(mut left), Some(mut right)) => {
            if left.priority > right.priority {
                left.right = merge(left.right.take(), Some(right));
                left.refresh();
                Some(left)
            } else {
                right.left = merge(Some(left), right.left.take());
                right.refresh();
                Some(right)
            }
        }
    }
}

fn remove<T>(link: &mut Link<T>, interval: &Interval) {
    let Some(node) = link else { return };
    match interval.cmp(&node.interval) {
        Ordering::Equal => {
            let (left, right) = (node.left.take(), node.right.take());
            *link = merge(left, right);
            return;
        }
        Ordering::Less => remove(&mut node.left, interval),
        Ordering::Greater => remove(&mut node.right, interval),
    }
    node.refresh();
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn interval(start: u8, end: Option<u8>) -> Interval {
        Interval {
            start: Bytes::copy_from_slice(&[start]),
            end: end.map(|end| Bytes::copy_from_slice(&[end])),
        }
    }

    proptest! {
        #[test]
        fn the_ranges_around_a_key_are_those_a_scan_finds(
            steps in prop::collection::vec((any::<bool>(), 0u8..20, prop::option::of(0u8..20)), 1..120)
        ) {
            let mut tree = Intervals::<Vec<usize>>::default();
            let mut model: Vec<(Interval, usize)> = Vec::new();
            for (number, (insert, start, end)) in steps.into_iter().enumerate() {
                let interval = interval(start, end);
                if insert {
                    tree.entry(&interval).push(number);
                    model.push((interval, number));
                } else {
                    tree.remove(&interval);
                    model.retain(|(other, _)| *other != interval);
                }
                for key in 0..20u8 {
                    let mut found: Vec<usize> = Vec::new();
                    tree.around(&[key], &mut |numbers| found.extend(numbers));
                    found.sort_unstable();
                    let expected: Vec<usize> = model
                        .iter()
                        .filter(|(range, _)| {
                            range.start.as_ref() <= [key].as_slice()
                                && range.end.as_deref().is_none_or(|end| [key].as_slice() < end)
                        })
                        .map(|(_, number)| *number)
                        .collect();
                    prop_assert_eq!(found, expected);
                }
            }
        }
    }
}
