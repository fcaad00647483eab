//! Reading the key space as it was.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::history::{self, Change};
use super::leaves::LOADS_KEPT;
use super::row::{self, Version};
use super::{Found, Mvcc};
use crate::command::{Fault, Keys, Revision, Stamp};
use crate::disk::{Rows, Space};

/// Lists that are being paged through at the same time and remembered.
const REMAINDERS_MAX: usize = 128;
/// Changes looked at rather than counting a small range anew.
const CHANGES_CHEAP: u64 = 1024;

/// How many keys were left after the last page of a list at an old revision, so that the next page need not count.
#[derive(Default)]
pub(super) struct Remainders {
    left: VecDeque<Remainder>,
}

#[derive(PartialEq, Eq)]
struct Remainder {
    revision: Revision,
    start: Bytes,
    end: Option<Bytes>,
    left: u64,
}

impl Remainders {
    pub(super) fn remember(
        &mut self,
        revision: Revision,
        end: Option<&Bytes>,
        last: &[u8],
        left: u64,
    ) {
        let remainder = Remainder {
            revision,
            start: after(last),
            end: end.map(|end| Bytes::copy_from_slice(end)),
            left,
        };
        self.left.retain(|other| {
            (other.revision, &other.start, &other.end)
                != (remainder.revision, &remainder.start, &remainder.end)
        });
        if self.left.len() == REMAINDERS_MAX {
            self.left.pop_front();
        }
        self.left.push_back(remainder);
    }

    fn find(&self, revision: Revision, start: &[u8], end: Option<&[u8]>) -> Option<u64> {
        self.left
            .iter()
            .find(|one| one.revision == revision && one.start == start && one.end.as_deref() == end)
            .map(|one| one.left)
    }
}

impl Mvcc {
    /// A key's version as of `revision`, which is not below the compaction floor.
    pub fn get_at(
        &self,
        rows: &Rows<'_>,
        key: &[u8],
        revision: Revision,
    ) -> Result<Option<Version>, Fault> {
        if let Some(live) = self.get(rows, key)?
            && live.modified.main <= revision
        {
            return Ok(Some(live));
        }
        // The first version that ended later was the one then, if it had begun.
        let from = row::past_key(key, revision.next());
        let mut upto = row::past_prefix(key);
        upto.extend_from_slice(&[0, 2]);
        let mut found = None;
        rows.scan(Space::Past, &from, Some(&upto), &mut |_, version| {
            found = Some(Bytes::copy_from_slice(version));
            ControlFlow::Break(())
        })?;
        let version = found.map(Version::decode).transpose()?;
        Ok(version.filter(|version| version.modified.main <= revision))
    }

    /// The pairs of `keys` as of `revision`, at most `limit`. `newest` is the newest revision there is.
    pub fn range_at(
        &self,
        rows: &Rows<'_>,
        keys: &Keys,
        revision: Revision,
        newest: Revision,
        limit: usize,
    ) -> Result<Found, Fault> {
        let (start, end) = match keys {
            Keys::One(key) => {
                let found = self.get_at(rows, key, revision)?;
                return Ok(Found {
                    count: u64::from(found.is_some()),
                    kvs: found
                        .filter(|_| limit > 0)
                        .map(|version| version.pair(Bytes::copy_from_slice(key)))
                        .into_iter()
                        .collect(),
                });
            }
            Keys::Range { start, end } => (start, end.as_deref()),
        };
        if end.is_some_and(|end| end <= start.as_ref()) {
            return Ok(Found::default());
        }
        if limit == 0 {
            let count = self.count_at(rows, start, end, revision, newest)?;
            return Ok(Found {
                kvs: Vec::new(),
                count,
            });
        }
        let mut found = self.live_at(rows, start, end, revision, limit)?;
        self.superseded_since(rows, start, end, revision, limit, &mut found)?;
        let is_cut = found.len() > limit;
        let kvs: Vec<_> = found
            .into_iter()
            .take(limit)
            .map(|(key, version)| version.pair(key))
            .collect();
        let count = if is_cut {
            self.count_at(rows, start, end, revision, newest)?
        } else {
            kvs.len() as u64
        };
        Ok(Found { kvs, count })
    }

    /// The first keys whose live version stood already at `revision`: one more than `limit`, if there are so many.
    fn live_at(
        &self,
        rows: &Rows<'_>,
        start: &[u8],
        end: Option<&[u8]>,
        revision: Revision,
        limit: usize,
    ) -> Result<BTreeMap<Bytes, Version>, Fault> {
        let mut found = BTreeMap::new();
        self.leaves
            .borrow_mut()
            .visit(rows, start, end, LOADS_KEPT, &mut |key, row| {
                let version = Version::decode(row.clone())?;
                if version.modified.main <= revision {
                    found.insert(key.clone(), version);
                }
                Ok(if found.len() > limit {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                })
            })?;
        Ok(found)
    }

    /// Adds the keys that were changed after `revision`, as they were: as many as can be among the first `limit + 1`.
    fn superseded_since(
        &self,
        rows: &Rows<'_>,
        start: &[u8],
        end: Option<&[u8]>,
        revision: Revision,
        limit: usize,
        found: &mut BTreeMap<Bytes, Version>,
    ) -> Result<(), Fault> {
        let mut upto = end.map(row::past_prefix);
        if found.len() > limit
            && let Some((last, _)) = found.last_key_value()
        {
            upto = Some(row::past_prefix(last));
        }
        let mut added = 0;
        let mut seen: Vec<u8> = Vec::new();
        let mut is_first = true;
        let mut failed = None;
        rows.scan(
            Space::Past,
            &row::past_prefix(start),
            upto.as_deref(),
            &mut |stored, version| {
                let Some((key, ended)) = row::split_past_key(stored) else {
                    failed = Some(damaged_past());
                    return ControlFlow::Break(());
                };
                // Of the versions that ended after `revision` only a key's first can have stood then.
                if ended <= revision || (!is_first && key == seen) {
                    return ControlFlow::Continue(());
                }
                match Version::decode(Bytes::copy_from_slice(version)) {
                    Ok(version) if version.modified.main <= revision => {
                        found.insert(Bytes::copy_from_slice(&key), version);
                        added += 1;
                    }
                    Ok(_) => {}
                    Err(fault) => failed = Some(fault),
                }
                is_first = false;
                seen = key;
                if added > limit || failed.is_some() {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            },
        )?;
        failed.map_or(Ok(()), Err)
    }

    fn count_at(
        &self,
        rows: &Rows<'_>,
        start: &[u8],
        end: Option<&[u8]>,
        revision: Revision,
        newest: Revision,
    ) -> Result<u64, Fault> {
        if let Some(left) = self.remainders.borrow().find(revision, start, end) {
            return Ok(left);
        }
        let now = self.leaves.borrow_mut().count(rows, start, end)?;
        if newest.0 - revision.0 > now.saturating_mul(2) + CHANGES_CHEAP {
            let mut found = self.live_at(rows, start, end, revision, usize::MAX)?;
            self.superseded_since(rows, start, end, revision, usize::MAX, &mut found)?;
            return Ok(found.len() as u64);
        }
        // Undo what came later: a creation takes one away, a removal brings one back.
        let (mut created, mut removed) = (0, 0);
        let in_range = |key: &[u8]| key >= start && end.is_none_or(|end| key < end);
        history::scan(rows, revision.next(), None, &mut |_: Stamp, change, key| {
            match change {
                Change::Create if in_range(key) => created += 1,
                Change::Delete if in_range(key) => removed += 1,
                Change::Create | Change::Delete | Change::Update => {}
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(now + removed - created)
    }
}

pub(super) fn after(key: &[u8]) -> Bytes {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    Bytes::from(next)
}

pub(super) fn damaged_past() -> Fault {
    Fault::Corrupt {
        what: "a past version in the state store".to_owned(),
        why: "its key is none".to_owned(),
    }
}
