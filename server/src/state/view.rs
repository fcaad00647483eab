//! Reading, for queries and for the commands that read before they write.

use std::cmp::Ordering;

use crate::command::{
    Fault, KeyValue, Keys, Order, Range, RangeFilter, RangeResponse, Refusal, Revision, SortTarget,
};
use crate::disk::Rows;
use crate::mvcc::{Found, Mvcc};

/// The key space as one command or query sees it.
pub(super) struct View<'a> {
    pub(super) rows: &'a Rows<'a>,
    pub(super) mvcc: &'a Mvcc,
    /// Newest revision written, the one in the making included.
    pub(super) newest: Revision,
    pub(super) floor: Option<Revision>,
    /// Whether nothing more can be written in `newest`.
    pub(super) is_settled: bool,
}

impl View<'_> {
    /// Refuses revisions that cannot be read.
    pub(super) fn check_revision(&self, revision: Option<Revision>) -> Result<(), Refusal> {
        check_revision(revision, self.newest, self.floor)
    }

    /// Answers a range whose revision was checked.
    pub(super) fn range(&self, range: &Range) -> Result<RangeResponse, Fault> {
        self.page(range, usize::MAX)
    }

    /// As [`range`](Self::range), but ends early when it has about `bytes_max`, as if that had been the limit. Only
    /// what is read now and in the order of keys can end early.
    pub(super) fn page(&self, range: &Range, bytes_max: usize) -> Result<RangeResponse, Fault> {
        let Range {
            keys,
            revision,
            limit,
            sort,
            keys_only,
            count_only,
            filter,
        } = range;
        let revision = revision.filter(|revision| *revision < self.newest);
        if *count_only {
            let count = self.find(keys, revision, 0, bytes_max)?.count;
            return Ok(RangeResponse {
                count,
                ..RangeResponse::default()
            });
        }
        let limit = limit.map_or(usize::MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX)
        });
        let is_natural =
            *sort == (SortTarget::Key, Order::Ascending) && *filter == RangeFilter::default();
        // Filters and other orders need all of the range; the limit cuts what they leave.
        let (wanted, bytes_max) = if is_natural {
            (limit, bytes_max)
        } else {
            (usize::MAX, usize::MAX)
        };
        let Found { mut kvs, count } = self.find(keys, revision, wanted, bytes_max)?;
        if !is_natural {
            kvs.retain(|kv| passes(kv, filter));
            kvs.sort_by(|one, other| compare(one, other, *sort));
        }
        let more = if is_natural {
            count > kvs.len() as u64
        } else {
            kvs.len() > limit
        };
        kvs.truncate(limit);
        if is_natural
            && more
            && self.is_settled
            && let Some(last) = kvs.last()
        {
            let left = count - kvs.len() as u64;
            self.mvcc
                .remember(revision.unwrap_or(self.newest), keys, &last.key, left);
        }
        if *keys_only {
            for kv in &mut kvs {
                kv.value.clear();
            }
        }
        Ok(RangeResponse { kvs, more, count })
    }

    fn find(
        &self,
        keys: &Keys,
        revision: Option<Revision>,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Found, Fault> {
        match revision {
            None => self.mvcc.page(self.rows, keys, limit, bytes_max),
            Some(revision) => self
                .mvcc
                .range_at(self.rows, keys, revision, self.newest, limit),
        }
    }
}

/// Refuses revisions above `newest` or below `floor`.
pub(super) fn check_revision(
    revision: Option<Revision>,
    newest: Revision,
    floor: Option<Revision>,
) -> Result<(), Refusal> {
    match revision {
        // No revision is numbered 0: what a transaction asks for below 1, which etcd calls compacted.
        Some(Revision(0)) => Err(Refusal::Compacted {
            oldest: floor.unwrap_or_default(),
        }),
        Some(revision) if revision > newest => Err(Refusal::FutureRevision { current: newest }),
        Some(revision) => match floor {
            Some(oldest) if revision < oldest => Err(Refusal::Compacted { oldest }),
            Some(_) | None => Ok(()),
        },
        None => Ok(()),
    }
}

fn passes(kv: &KeyValue, filter: &RangeFilter) -> bool {
    let RangeFilter {
        min_mod,
        max_mod,
        min_create,
        max_create,
    } = filter;
    min_mod.is_none_or(|bound| kv.mod_revision >= bound)
        && max_mod.is_none_or(|bound| kv.mod_revision <= bound)
        && min_create.is_none_or(|bound| kv.create_revision >= bound)
        && max_create.is_none_or(|bound| kv.create_revision <= bound)
}

fn compare(one: &KeyValue, other: &KeyValue, (target, order): (SortTarget, Order)) -> Ordering {
    let ordering = match target {
        SortTarget::Key => one.key.cmp(&other.key),
        SortTarget::Version => one.version.cmp(&other.version),
        SortTarget::Create => one.create_revision.cmp(&other.create_revision),
        SortTarget::Mod => one.mod_revision.cmp(&other.mod_revision),
        SortTarget::Value => one.value.cmp(&other.value),
    };
    match order {
        Order::Ascending => ordering,
        Order::Descending => ordering.reverse(),
    }
}
