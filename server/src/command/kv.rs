//! Keys, ranges, transactions and events of the etcd key space.

use bytes::Bytes;

use super::{LeaseId, Revision};

/// Which keys an operation means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Exactly one.
    One(Bytes),
    /// `[start, end)`, to the end of the key space if `end` is `None`. Empty if `end <= start`.
    Range {
        /// First key.
        start: Bytes,
        /// First key not meant.
        end: Option<Bytes>,
    },
}

impl Keys {
    /// Whether `key` is among them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Range { start, end } => {
                key >= start.as_ref() && end.as_ref().is_none_or(|end| key < end.as_ref())
            }
        }
    }
}

impl Keys {
    /// Whether some key could be among both.
    pub fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(key), keys) | (keys, Self::One(key)) => keys.contains(key),
            (
                Self::Range { start, end },
                Self::Range {
                    start: other_start,
                    end: other_end,
                },
            ) => {
                let is_before = |end: &Option<Bytes>, start: &Bytes| {
                    end.as_ref().is_some_and(|end| end <= start)
                };
                !is_before(end, other_start) && !is_before(other_end, start)
            }
        }
    }
}

/// A stored pair with its etcd metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Revision of the put that created it.
    pub create_revision: Revision,
    /// Revision of the last put.
    pub mod_revision: Revision,
    /// Puts since creation, from 1.
    pub version: u64,
    /// The value.
    pub value: Bytes,
    /// The lease it is attached to, if any.
    pub lease: Option<LeaseId>,
}

/// What a put does to the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutValue {
    /// Stores this.
    Set(Bytes),
    /// Keeps what is there; refused if the key is missing.
    Keep,
}

/// What a put does to the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutLease {
    /// Attaches to this lease, or detaches.
    Set(Option<LeaseId>),
    /// Keeps what is there; refused if the key is missing.
    Keep,
}

/// Stores one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The key, 1 byte to 32 KiB.
    pub key: Bytes,
    /// New value.
    pub value: PutValue,
    /// New lease.
    pub lease: PutLease,
    /// Whether to answer the replaced pair.
    pub prev_kv: bool,
}

/// Removes keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    /// Which.
    pub keys: Keys,
    /// Whether to answer the removed pairs.
    pub prev_kv: bool,
}

/// What a range is sorted by.
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
    /// Which.
    pub keys: Keys,
    /// As of when; `None` is now.
    pub revision: Option<Revision>,
    /// At most so many pairs; `None` is all.
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

/// What a range found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The pairs.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit cut something.
    pub more: bool,
    /// All keys of the range at that revision, whatever limit and filters say.
    pub count: u64,
}

/// How a compare compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// Equal.
    Equal,
    /// What is stored is greater.
    Greater,
    /// What is stored is less.
    Less,
    /// Differs.
    NotEqual,
}

/// What a compare looks at, and what it is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareOperand {
    /// Version; a missing key has 0.
    Version(i64),
    /// Create revision; a missing key has 0.
    Create(i64),
    /// Mod revision; a missing key has 0.
    Mod(i64),
    /// Value; a missing key never compares true.
    Value(Bytes),
    /// Lease id; a missing or detached key has 0.
    Lease(i64),
}

/// One condition of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key.
    pub key: Bytes,
    /// How.
    pub result: CompareResult,
    /// Against what.
    pub operand: CompareOperand,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads; sees the writes before it in the same transaction.
    Range(Range),
    /// Stores.
    Put(Put),
    /// Removes.
    DeleteRange(DeleteRange),
}

/// What one operation of a transaction answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResponse {
    /// To [`Op::Range`].
    Range(RangeResponse),
    /// To [`Op::Put`].
    Put {
        /// The replaced pair, if asked for.
        prev: Option<KeyValue>,
    },
    /// To [`Op::DeleteRange`].
    DeleteRange {
        /// How many keys are gone.
        deleted: u64,
        /// The removed pairs, if asked for.
        prevs: Vec<KeyValue>,
    },
}

/// Compares, then one of two lists of operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Txn {
    /// All must hold for `success`.
    pub compares: Vec<Compare>,
    /// Applied if they do.
    pub success: Vec<Op>,
    /// Applied if not.
    pub failure: Vec<Op>,
}

impl Txn {
    /// Whether neither branch can change anything.
    pub fn is_read_only(&self) -> bool {
        self.success
            .iter()
            .chain(&self.failure)
            .all(|op| matches!(op, Op::Range(_)))
    }
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was stored.
    Put,
    /// It was removed; the event's pair then holds only key and mod revision.
    Delete,
}

/// One change, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The pair after the change.
    pub kv: KeyValue,
    /// The pair before it; `None` if the key did not exist or, in history, if its version is compacted.
    pub prev: Option<KeyValue>,
}
