//! One key as it was, and what is remembered of lists that are paged through.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::Mvcc;
use super::PAST;
use super::row::{self, Version};
use crate::command::{Fault, Revision};
use crate::disk::Rows;

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
        if let Some(live) = self.get(rows, key)?
            && live.modified.main <= revision
        {
            return Ok(Some(live));
        }
        superseded_at(rows, key, revision)
    }
}

/// The version that stood at `revision` of a key that changed since.
pub(super) fn superseded_at(
    rows: &Rows<'_>,
    key: &[u8],
    revision: Revision,
) -> Result<Option<Version>, Fault> {
    // The first version that ended later was the one then, if it had begun.
    let from = row::past_key(key, revision.next());
    let mut upto = row::past_prefix(key);
    upto.extend_from_slice(&row::BEHIND_VERSIONS);
    let mut found = None;
    rows.scan(PAST, &from, Some(&upto), &mut |_, version| {
        found = Some(Bytes::copy_from_slice(version));
        ControlFlow::Break(())
    })?;
    let version = found.map(Version::decode).transpose()?;
    Ok(version.filter(|version| version.modified.main <= revision))
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
