//! The etcd key space: its commands and queries, each noun with its bytes beside it.

mod event;
mod keys;
mod range;
mod txn;
mod write;

use thiserror::Error;

pub use event::{Event, EventKind, KeyValue};
pub use keys::Keys;
pub use range::{Order, Range, RangeFilter, RangeResponse, SortTarget};
pub use txn::{Compare, CompareOperand, CompareResult, Op, OpResponse, TXN_DEPTH_MAX, Txn};
pub use write::{DeleteRange, Put, PutLease, PutValue};

use super::Revision;
use super::codec::wire::{Reader, Sink};
use super::codec::{Canonical, CodecError, unknown};

/// Longest key: the store takes 64 KiB with its own bytes. The door refuses longer ones, and so does the law.
pub const KEY_BYTES_MAX: usize = 32 << 10;

/// A change to the etcd key space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KvCommand {
    /// Stores one key.
    Put(Put),
    /// Removes the keys of a range in one revision.
    DeleteRange(DeleteRange),
    /// Compares, then applies one of two lists of operations in one revision.
    Txn(Txn),
    /// Raises the compaction floor: history below `revision` may be forgotten.
    Compact {
        /// The new floor.
        revision: Revision,
    },
}

/// Why the key space refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum KvRefusal {
    /// A key is empty where one is needed.
    #[error("key is empty")]
    EmptyKey,
    /// A key is longer than the store takes.
    #[error("key has {bytes} bytes, at most {max} are stored")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// An `ignore_value` or `ignore_lease` put of a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// The revision asked for is below the compaction floor.
    #[error("revision is compacted, the oldest kept is {oldest}")]
    Compacted {
        /// The floor.
        oldest: Revision,
    },
    /// The revision asked for does not exist yet.
    #[error("revision is in the future, the newest is {current}")]
    FutureRevision {
        /// The newest.
        current: Revision,
    },
    /// A transaction changes one key twice.
    #[error("a key is changed twice in one transaction")]
    DuplicateKey,
}

impl KvCommand {
    /// The tags that begin one.
    pub(super) const TAGS: std::ops::RangeInclusive<u8> = 1..=4;

    /// Every put that it may do.
    pub fn puts(&self) -> Vec<&Put> {
        match self {
            Self::Put(put) => vec![put],
            Self::Txn(txn) => txn.puts(),
            Self::DeleteRange(_) | Self::Compact { .. } => Vec::new(),
        }
    }
}

impl Canonical for KvCommand {
    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Put(put) => {
                out.u8(1);
                put.write(out);
            }
            Self::DeleteRange(delete) => {
                out.u8(2);
                delete.write(out);
            }
            Self::Txn(txn) => {
                out.u8(3);
                txn.write(out);
            }
            Self::Compact { revision } => {
                out.u8(4);
                out.u64(revision.0);
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let at = input.at();
        Ok(match input.u8()? {
            1 => Self::Put(Put::read(input)?),
            2 => Self::DeleteRange(DeleteRange::read(input)?),
            3 => Self::Txn(Txn::read(input)?),
            4 => Self::Compact {
                revision: Revision(input.u64()?),
            },
            tag => return Err(unknown("key-value command", tag, at)),
        })
    }
}
