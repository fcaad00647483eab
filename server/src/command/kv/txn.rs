//! Transactions: compares, then one of two lists of operations, which may be transactions again.

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
