//! Transactions: compares, then one of two lists of operations, which may be transactions again.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::{DeleteRange, KeyValue, Keys, Put, Range, RangeResponse};
use crate::command::codec::wire::{Reader, Sink};
use crate::command::codec::{Canonical, CodecError, read_list, unknown, write_list};

/// How deep transactions may stand in each other, the outermost counted as 1. A door that takes more than it can decode
/// recursively would let a client overflow a member's stack.
pub const TXN_DEPTH_MAX: usize = 64;

/// How a compare compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareResult {
    /// Equal.
    Equal,
    /// The stored value is greater.
    Greater,
    /// The stored value is less.
    Less,
    /// Differs.
    NotEqual,
}

/// The field that a compare looks at, and the value that it is held against.
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

/// One condition of a transaction. Over a range it holds if it holds for every key that is there, a value compare only
/// if there is one at least.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// The key, or the range of keys.
    pub keys: Keys,
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
    /// A transaction of its own; its compares look at what stands when the outer transaction begins.
    Txn(Txn),
}

/// The answer of one operation of a transaction.
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
    /// To [`Op::Txn`].
    Txn {
        /// Whether all its compares held.
        succeeded: bool,
        /// One per operation of the branch taken, in order.
        responses: Vec<OpResponse>,
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
    /// Whether nothing in it can change anything, whichever branches are taken.
    pub fn is_read_only(&self) -> bool {
        let mut ops = self.success.iter().chain(&self.failure);
        ops.all(|op| match op {
            Op::Range(_) => true,
            Op::Put(_) | Op::DeleteRange(_) => false,
            Op::Txn(inner) => inner.is_read_only(),
        })
    }

    /// Every put in it, of all branches, those of inner transactions included.
    pub fn puts(&self) -> Vec<&Put> {
        let mut puts = Vec::new();
        let mut left: Vec<&Op> = self.success.iter().chain(&self.failure).collect();
        while let Some(op) = left.pop() {
            match op {
                Op::Put(put) => puts.push(put),
                Op::Txn(inner) => left.extend(inner.success.iter().chain(&inner.failure)),
                Op::Range(_) | Op::DeleteRange(_) => {}
            }
        }
        puts
    }

    /// Whether some compare in it looks at a range of keys.
    pub fn compares_ranges(&self) -> bool {
        let inner = self.success.iter().chain(&self.failure);
        let is_range = |compare: &Compare| !matches!(compare.keys, Keys::One(_));
        self.compares.iter().any(is_range)
            || inner.into_iter().any(|op| match op {
                Op::Txn(inner) => inner.compares_ranges(),
                Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => false,
            })
    }

    /// Whether a key could change twice in one path through it: put twice, or put and deleted. Two deletes may overlap, and
    /// the two branches of one inner transaction may put the same key, for only one of them is taken.
    ///
    /// Source: etcd `server/etcdserver/api/v3rpc/key.go`, `checkIntervals`.
    pub fn changes_a_key_twice(&self) -> bool {
        changed(&self.success)
            .and_then(|_| changed(&self.failure))
            .is_none()
    }

    fn read_at(input: &mut Reader, depth: usize) -> Result<Self, CodecError> {
        if depth > TXN_DEPTH_MAX {
            return Err(CodecError::OutOfRange {
                what: "depth of a transaction",
                at: input.at(),
            });
        }
        Ok(Self {
            compares: read_list(input, 4, Compare::read)?,
            success: read_list(input, 4, |input| Op::read_at(input, depth))?,
            failure: read_list(input, 4, |input| Op::read_at(input, depth))?,
        })
    }
}

impl Canonical for Txn {
    fn write(&self, out: &mut impl Sink) {
        let Self {
            compares,
            success,
            failure,
        } = self;
        write_list(out, compares, Compare::write);
        for branch in [success, failure] {
            write_list(out, branch, Op::write);
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        Self::read_at(input, 1)
    }
}

impl Op {
    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Range(range) => {
                out.u8(1);
                range.write(out);
            }
            Self::Put(put) => {
                out.u8(2);
                put.write(out);
            }
            Self::DeleteRange(delete) => {
                out.u8(3);
                delete.write(out);
            }
            Self::Txn(txn) => {
                out.u8(4);
                txn.write(out);
            }
        }
    }

    fn read_at(input: &mut Reader, depth: usize) -> Result<Self, CodecError> {
        let at = input.at();
        Ok(match input.u8()? {
            1 => Self::Range(Range::read(input)?),
            2 => Self::Put(Put::read(input)?),
            3 => Self::DeleteRange(DeleteRange::read(input)?),
            4 => Self::Txn(Txn::read_at(input, depth + 1)?),
            tag => return Err(unknown("operation", tag, at)),
        })
    }
}

impl Canonical for Compare {
    fn write(&self, out: &mut impl Sink) {
        let Self {
            keys,
            result,
            operand,
        } = self;
        keys.write(out);
        out.u8(match result {
            CompareResult::Equal => 1,
            CompareResult::Greater => 2,
            CompareResult::Less => 3,
            CompareResult::NotEqual => 4,
        });
        match operand {
            CompareOperand::Version(number) => write_number(out, 1, *number),
            CompareOperand::Create(number) => write_number(out, 2, *number),
            CompareOperand::Mod(number) => write_number(out, 3, *number),
            CompareOperand::Value(value) => {
                out.u8(4);
                out.bytes(value);
            }
            CompareOperand::Lease(number) => write_number(out, 5, *number),
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let keys = Keys::read(input)?;
        let at = input.at();
        let result = match input.u8()? {
            1 => CompareResult::Equal,
            2 => CompareResult::Greater,
            3 => CompareResult::Less,
            4 => CompareResult::NotEqual,
            tag => return Err(unknown("compare result", tag, at)),
        };
        let at = input.at();
        let operand = match input.u8()? {
            1 => CompareOperand::Version(input.i64()?),
            2 => CompareOperand::Create(input.i64()?),
            3 => CompareOperand::Mod(input.i64()?),
            4 => CompareOperand::Value(input.bytes()?),
            5 => CompareOperand::Lease(input.i64()?),
            tag => return Err(unknown("compare operand", tag, at)),
        };
        Ok(Self {
            keys,
            result,
            operand,
        })
    }
}

fn write_number(out: &mut impl Sink, tag: u8, number: i64) {
    out.u8(tag);
    out.i64(number);
}

/// Keys that a list of operations may put, and those it may delete; `None` if one could change twice.
fn changed(ops: &[Op]) -> Option<(BTreeSet<&Bytes>, Vec<&Keys>)> {
    let mut puts: BTreeSet<&Bytes> = BTreeSet::new();
    // Most lists are one put: nothing to compare it with.
    if let [Op::Put(put)] = ops {
        puts.insert(&put.key);
        return Some((puts, Vec::new()));
    }
    let mut deletes: Vec<&Keys> = ops
        .iter()
        .filter_map(|op| match op {
            Op::DeleteRange(delete) => Some(&delete.keys),
            Op::Range(_) | Op::Put(_) | Op::Txn(_) => None,
        })
        .collect();
    let is_deleted = |deletes: &[&Keys], key: &Bytes| deletes.iter().any(|keys| keys.contains(key));
    for op in ops {
        let Op::Txn(inner) = op else { continue };
        let (then_puts, then_deletes) = changed(&inner.success)?;
        let (else_puts, else_deletes) = changed(&inner.failure)?;
        // Either branch against what stands beside it, never against the other one.
        let both: BTreeSet<&Bytes> = then_puts.union(&else_puts).copied().collect();
        let is_twice = both
            .iter()
            .any(|key| puts.contains(key) || is_deleted(&deletes, key));
        // etcd lets this pass, and then changes the key twice in one revision.
        let is_undone = puts
            .iter()
            .any(|key| is_deleted(&then_deletes, key) || is_deleted(&else_deletes, key));
        if is_twice || is_undone {
            return None;
        }
        puts.extend(both);
        deletes.extend(then_deletes);
        deletes.extend(else_deletes);
    }
    for op in ops {
        let Op::Put(put) = op else { continue };
        if is_deleted(&deletes, &put.key) || !puts.insert(&put.key) {
            return None;
        }
    }
    Some((puts, deletes))
}
