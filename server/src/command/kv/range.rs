//! Reads of keys.

use super::{KeyValue, Keys};
use crate::command::Revision;
use crate::command::codec::wire::{Reader, Sink};
use crate::command::codec::{Canonical, CodecError, read_optional, unknown, write_optional};

/// The field that a range is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortTarget {
    /// The key.
    Key,
    /// Version.
    Version,
    /// Create revision.
    Create,
    /// Mod revision.
    Mod,
    /// Value bytes.
    Value,
}

/// Direction of a sort.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Smallest first.
    Ascending,
    /// Largest first.
    Descending,
}

/// Inclusive bounds on revisions; `None` does not bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RangeFilter {
    /// Smallest mod revision.
    pub min_mod: Option<Revision>,
    /// Largest mod revision.
    pub max_mod: Option<Revision>,
    /// Smallest create revision.
    pub min_create: Option<Revision>,
    /// Largest create revision.
    pub max_create: Option<Revision>,
}

/// Reads keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The keys to read.
    pub keys: Keys,
    /// As of when; `None` is now.
    pub revision: Option<Revision>,
    /// The number of pairs, at most; `None` is all.
    pub limit: Option<u64>,
    /// Sort, `(Key, Ascending)` being the natural order.
    pub sort: (SortTarget, Order),
    /// Leave values out.
    pub keys_only: bool,
    /// Count only.
    pub count_only: bool,
    /// Bounds applied after counting and before the limit.
    pub filter: RangeFilter,
}

/// The answer of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The pairs.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut something.
    pub more: bool,
    /// All keys of the range at that revision, whatever limit and filters say.
    pub count: u64,
}

impl Canonical for Range {
    fn write(&self, out: &mut impl Sink) {
        let Self {
            keys,
            revision,
            limit,
            sort: (target, order),
            keys_only,
            count_only,
            filter,
        } = self;
        let RangeFilter {
            min_mod,
            max_mod,
            min_create,
            max_create,
        } = filter;
        keys.write(out);
        write_optional(out, revision.map(|revision| revision.0));
        write_optional(out, *limit);
        out.u8(match target {
            SortTarget::Key => 1,
            SortTarget::Version => 2,
            SortTarget::Create => 3,
            SortTarget::Mod => 4,
            SortTarget::Value => 5,
        });
        out.u8(match order {
            Order::Ascending => 1,
            Order::Descending => 2,
        });
        out.bool(*keys_only);
        out.bool(*count_only);
        for bound in [min_mod, max_mod, min_create, max_create] {
            write_optional(out, bound.map(|revision| revision.0));
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let keys = Keys::read(input)?;
        let revision = read_optional(input)?.map(Revision);
        let limit = read_optional(input)?;
        let at = input.at();
        let target = match input.u8()? {
            1 => SortTarget::Key,
            2 => SortTarget::Version,
            3 => SortTarget::Create,
            4 => SortTarget::Mod,
            5 => SortTarget::Value,
            tag => return Err(unknown("sort target", tag, at)),
        };
        let at = input.at();
        let order = match input.u8()? {
            1 => Order::Ascending,
            2 => Order::Descending,
            tag => return Err(unknown("sort order", tag, at)),
        };
        Ok(Self {
            keys,
            revision,
            limit,
            sort: (target, order),
            keys_only: input.bool()?,
            count_only: input.bool()?,
            filter: RangeFilter {
                min_mod: read_optional(input)?.map(Revision),
                max_mod: read_optional(input)?.map(Revision),
                min_create: read_optional(input)?.map(Revision),
                max_create: read_optional(input)?.map(Revision),
            },
        })
    }
}
