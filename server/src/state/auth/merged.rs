//! A user's permissions on keys: those of all its roles in one, so that several that adjoin cover a range that none of
//! them covers alone.

use bytes::Bytes;

use crate::command::{Access, Keys, Permission};

/// Ranges `[start, end)` in order, disjoint and not adjoining; `None` is to the end of the key space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<(Bytes, Option<Bytes>)>);

/// A user's permissions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Merged {
    read: Ranges,
    write: Ranges,
}

impl Merged {
    pub(super) fn of<'a>(permissions: impl Iterator<Item = &'a Permission>) -> Self {
        let mut read = Vec::new();
        let mut write = Vec::new();
        for Permission { access, keys } in permissions {
            let range = range(keys);
            match access {
                Access::Read => read.push(range),
                Access::Write => write.push(range),
                Access::ReadWrite => {
                    read.push(range.clone());
                    write.push(range);
                }
            }
        }
        Self {
            read: Ranges::of(read),
            write: Ranges::of(write),
        }
    }

    /// Whether all of `keys` may be read, or written.
    pub(super) fn covers(&self, access: Access, keys: &Keys) -> bool {
        match access {
            Access::Read => self.read.cover(keys),
            Access::Write => self.write.cover(keys),
            Access::ReadWrite => self.read.cover(keys) && self.write.cover(keys),
        }
    }

    /// The first key after `key` that may not be covered, given that `key` is; `None` if all that follow are.
    pub(super) fn covered_upto(&self, access: Access, key: &[u8]) -> Option<Bytes> {
        let ranges = match access {
            Access::Read => &self.read,
            Access::Write | Access::ReadWrite => &self.write,
        };
        match ranges.around(key) {
            Some((_, end)) => end.clone(),
            None => Some(Bytes::copy_from_slice(key)),
        }
    }
}

fn range(keys: &Keys) -> (Bytes, Option<Bytes>) {
    match keys {
        Keys::One(key) => (
            key.clone(),
            Some(Bytes::from([key.as_ref(), &[0]].concat())),
        ),
        Keys::Range { start, end } => (start.clone(), end.clone()),
    }
}

impl Ranges {
    fn of(mut ranges: Vec<(Bytes, Option<Bytes>)>) -> Self {
        ranges.sort();
        let mut merged: Vec<(Bytes, Option<Bytes>)> = Vec::with_capacity(ranges.len());
        for (start, end) in ranges {
            match merged.last_mut() {
                Some((_, last)) if last.as_ref().is_none_or(|last| start <= *last) => {
                    *last = match (last.take(), end) {
                        (Some(last), Some(end)) => Some(last.max(end)),
                        (None, _) | (_, None) => None,
                    };
                }
                Some(_) | None => merged.push((start, end)),
            }
        }
        Self(merged)
    }

    /// The range that `key` is in.
    fn around(&self, key: &[u8]) -> Option<&(Bytes, Option<Bytes>)> {
        let after = self.0.partition_point(|(start, _)| start.as_ref() <= key);
        let found = self.0.get(after.checked_sub(1)?)?;
        let is_in = found.1.as_ref().is_none_or(|end| key < end.as_ref());
        is_in.then_some(found)
    }

    fn cover(&self, keys: &Keys) -> bool {
        match keys {
            Keys::One(key) => self.around(key).is_some(),
            Keys::Range { start, end } => match (self.around(start), end) {
                (Some((_, None)), _) => true,
                (Some((_, Some(upto))), Some(end)) => end <= upto,
                (Some((_, Some(_))), None) | (None, _) => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn permission(access: Access, start: &str, end: Option<&str>) -> Permission {
        let start = Bytes::copy_from_slice(start.as_bytes());
        let keys = match end {
            None => Keys::One(start),
            Some("") => Keys::Range { start, end: None },
            Some(end) => Keys::Range {
                start,
                end: Some(Bytes::copy_from_slice(end.as_bytes())),
            },
        };
        Permission { access, keys }
    }

    fn keys(start: &str, end: Option<&str>) -> Keys {
        permission(Access::Read, start, end).keys
    }

    #[test]
    fn permissions_that_adjoin_cover_what_none_covers_alone() {
        let merged = Merged::of(
            [
                permission(Access::Read, "a", Some("c")),
                permission(Access::ReadWrite, "c", Some("e")),
                permission(Access::Write, "e", None),
                permission(Access::Read, "x", Some("")),
            ]
            .iter(),
        );
        let read = |start, end| merged.covers(Access::Read, &keys(start, end));
        let write = |start, end| merged.covers(Access::Write, &keys(start, end));
        assert!(read("a", Some("e")) && read("b", Some("d")) && read("d", None));
        assert!(!read("a", Some("f")) && !read("e", None) && !read("a", Some("")));
        assert!(read("x", Some("")) && read("y", Some("z")) && read("zz", None));
        assert!(write("c", Some("e\0")) && write("e", None) && !write("e", Some("f")));
        assert!(!write("a", None) && !write("x", None));
        assert_eq!(
            merged.covered_upto(Access::Write, b"d"),
            Some(Bytes::from_static(b"e\0"))
        );
        assert_eq!(merged.covered_upto(Access::Read, b"y"), None);
    }

    proptest! {
        #[test]
        fn a_range_is_covered_exactly_if_each_of_its_keys_is(
            granted in proptest::collection::vec((0u8..8, proptest::option::of(0u8..9)), 0..6),
            start in 0u8..8,
            end in 0u8..9,
        ) {
            prop_assume!(start < end);
            let letter = |at: u8| Bytes::from(vec![b'a' + at]);
            let granted = granted.into_iter().filter(|(start, end)| end.is_none_or(|end| *start < end));
            let granted: Vec<Permission> = granted
                .map(|(start, end)| Permission {
                    access: Access::Read,
                    keys: Keys::Range { start: letter(start), end: end.map(letter) },
                })
                .collect();
            let merged = Merged::of(granted.iter());
            let each = (start..end).all(|at| granted.iter().any(|one| one.keys.contains(&letter(at))));
            let asked = Keys::Range { start: letter(start), end: Some(letter(end)) };
            prop_assert_eq!(merged.covers(Access::Read, &asked), each);
            prop_assert!(!merged.covers(Access::Write, &asked));
        }
    }
}
