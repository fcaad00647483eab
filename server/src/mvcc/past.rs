//! One key as it was, and what is remembered of lists that are paged through.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::Mvcc;
use super::PAST;
use super::row::{self, Version};
use crate::command::{Fault, Revision};
use crate::disk::{Rows, Scan};

/// Lists that are being paged through at the same time and remembered.
const REMAINDERS_MAX: usize = 128;

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

    pub(super) fn find(&self, revision: Revision, start: &[u8], end: Option<&[u8]>) -> Option<u64> {
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
        let live = self.get(rows, key)?;
        stood_at(live, rows, key, revision)
    }

    /// As [`get_at`](Self::get_at), for readers that pass by once: nothing is kept in memory for them.
    pub(super) fn glimpse_at(
        &self,
        rows: &Rows<'_>,
        key: &[u8],
        revision: Revision,
    ) -> Result<Option<Version>, Fault> {
        let live = self.leaves.borrow().glimpse(rows, key)?;
        let live = live.map(Version::decode).transpose()?;
        stood_at(live, rows, key, revision)
    }
}

fn stood_at(
    live: Option<Version>,
    rows: &Rows<'_>,
    key: &[u8],
    revision: Revision,
) -> Result<Option<Version>, Fault> {
    match live {
        Some(live) if live.modified.main <= revision => Ok(Some(live)),
        Some(_) | None => superseded_at(rows, key, revision),
    }
}

/// The version that stood at `revision` of a key that changed since.
pub(super) fn superseded_at(
    rows: &dyn Scan,
    key: &[u8],
    revision: Revision,
) -> Result<Option<Version>, Fault> {
    let (from, upto) = ended_after(key, revision);
    let mut found = None;
    rows.scan(PAST, &from, Some(&upto), &mut |_, version| {
        found = Some(Bytes::copy_from_slice(version));
        ControlFlow::Break(())
    })?;
    let version = found.map(Version::decode).transpose()?;
    Ok(version.filter(|version| version.modified.main <= revision))
}

/// Where the versions of a key are that ended after `revision`. The first of them was the one then, if it had begun.
pub(super) fn ended_after(key: &[u8], revision: Revision) -> (Bytes, Bytes) {
    let from = row::past_key(key, revision.next());
    let mut upto = row::past_prefix(key);
    upto.extend_from_slice(&row::BEHIND_VERSIONS);
    (from, upto.into())
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
