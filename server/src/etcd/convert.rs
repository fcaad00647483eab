//! Wire messages into commands and back.
//!
//! A decoded message shares the buffer it was received in with its neighbours. Small bytes that commands keep are
//! copied out of it, or one stored key would hold the whole buffer.

mod reply;

use bytes::Bytes;
use coord_proto::etcd::etcdserverpb as pb;
use prost::Message;

use super::check;
use super::error::Invalid;
use crate::command::{
    Compare, CompareOperand, CompareResult, DeleteRange, Keys, KvRefusal, LeaseId, Op, Order, Put,
    PutLease, PutValue, Range, RangeFilter, Refusal, Revision, SortTarget, TXN_DEPTH_MAX, Txn,
};
use crate::config::Requests;

pub(super) use reply::{
    delete_range_response, event, key_value, put_response, range_response, txn_response,
};

/// Bytes from which a value keeps its receive buffer. It was larger than an HTTP/2 frame, so its message was put together
/// in a buffer of its own, and most of that is the value.
const SHARED_BYTES_MIN: usize = 16 * 1024;

/// The keys that a request means.
pub(super) fn keys(key: &Bytes, range_end: &Bytes) -> Keys {
    match range_end.as_ref() {
        [] => Keys::One(owned(key)),
        [0] => Keys::Range {
            start: owned(key),
            end: None,
        },
        _ => Keys::Range {
            start: owned(key),
            end: Some(owned(range_end)),
        },
    }
}

/// A read.
pub(super) fn range(request: &pb::RangeRequest) -> Result<Range, Invalid> {
    check::key(&request.key)?;
    check::bounds(&request.key, &request.range_end)?;
    let order = pb::range_request::SortOrder::try_from(request.sort_order)
        .map_err(|_| Invalid::SortOption)?;
    let target = pb::range_request::SortTarget::try_from(request.sort_target)
        .map_err(|_| Invalid::SortOption)?;
    let order = match order {
        // No order and a target other than the key means ascending; for the key that is the natural order.
        pb::range_request::SortOrder::None | pb::range_request::SortOrder::Ascend => {
            Order::Ascending
        }
        pb::range_request::SortOrder::Descend => Order::Descending,
    };
    let target = match target {
        pb::range_request::SortTarget::Key => SortTarget::Key,
        pb::range_request::SortTarget::Version => SortTarget::Version,
        pb::range_request::SortTarget::Create => SortTarget::Create,
        pb::range_request::SortTarget::Mod => SortTarget::Mod,
        pb::range_request::SortTarget::Value => SortTarget::Value,
    };
    Ok(Range {
        keys: keys(&request.key, &request.range_end),
        revision: positive(request.revision).map(Revision),
        limit: positive(request.limit),
        sort: (target, order),
        keys_only: request.keys_only,
        count_only: request.count_only,
        filter: RangeFilter {
            min_mod: bound(request.min_mod_revision),
            max_mod: bound(request.max_mod_revision),
            min_create: bound(request.min_create_revision),
            max_create: bound(request.max_create_revision),
        },
    })
}

/// A put.
pub(super) fn put(request: &pb::PutRequest) -> Result<Put, Invalid> {
    check::stored_key(&request.key)?;
    if request.ignore_value && !request.value.is_empty() {
        return Err(Invalid::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(Invalid::LeaseProvided);
    }
    Ok(Put {
        key: owned(&request.key),
        value: if request.ignore_value {
            PutValue::Keep
        } else {
            PutValue::Set(value(&request.value))
        },
        lease: if request.ignore_lease {
            PutLease::Keep
        } else {
            PutLease::Set(lease(request.lease))
        },
        prev_kv: request.prev_kv,
    })
}

/// A delete.
pub(super) fn delete_range(request: &pb::DeleteRangeRequest) -> Result<DeleteRange, Invalid> {
    check::key(&request.key)?;
    check::bounds(&request.key, &request.range_end)?;
    Ok(DeleteRange {
        keys: keys(&request.key, &request.range_end),
        prev_kv: request.prev_kv,
    })
}

/// A transaction, checked in etcd's order: number of operations, compares, each branch, those inside likewise; then keys
/// changed twice, and size.
pub(super) fn txn(request: &pb::TxnRequest, requests: Requests) -> Result<Txn, Invalid> {
    let txn = inner_txn(request, requests.txn_ops_max, 1)?;
    if txn.changes_a_key_twice() {
        return Err(Invalid::Refused(Refusal::Kv(KvRefusal::DuplicateKey)));
    }
    check::request_size(request.encoded_len(), requests)?;
    Ok(txn)
}

/// The `depth`th transaction inside another, of at most `ops_max` operations.
fn inner_txn(request: &pb::TxnRequest, ops_max: usize, depth: usize) -> Result<Txn, Invalid> {
    let ops_left = check::op_count(
        request.compare.len(),
        request.success.len(),
        request.failure.len(),
        ops_max,
    )?;
    // gRPC's decoder takes some fifty.
    if depth > TXN_DEPTH_MAX {
        return Err(Invalid::TooManyOps);
    }
    let compares = request.compare.iter().map(compare);
    let compares = compares.collect::<Result<Vec<_>, _>>()?;
    let ops = |ops: &[pb::RequestOp]| {
        let ops = ops.iter().map(|op| self::op(op, ops_left, depth + 1));
        ops.collect::<Result<Vec<_>, _>>()
    };
    Ok(Txn {
        compares,
        success: ops(&request.success)?,
        failure: ops(&request.failure)?,
    })
}

/// Whether a transaction that only reads may be answered from this member alone.
///
/// Only if it reads something and every read says so: one of compares alone is linearizable.
pub(super) fn is_serializable(request: &pb::TxnRequest) -> bool {
    let mut ops = request.success.iter().chain(&request.failure).peekable();
    ops.peek().is_some()
        && ops.all(|op| {
            matches!(&op.request, Some(pb::request_op::Request::RequestRange(range)) if range.serializable)
        })
}

/// An operation; a transaction among them may have `ops_max` of its own, and is the `depth`th.
fn op(op: &pb::RequestOp, ops_max: usize, depth: usize) -> Result<Op, Invalid> {
    match &op.request {
        Some(pb::request_op::Request::RequestRange(request)) => {
            let mut range = range(request)?;
            // Alone it means now; here etcd compares it with what is compacted.
            if request.revision < 0 {
                range.revision = Some(Revision(0));
            }
            Ok(Op::Range(range))
        }
        Some(pb::request_op::Request::RequestPut(request)) => put(request).map(Op::Put),
        Some(pb::request_op::Request::RequestDeleteRange(request)) => {
            delete_range(request).map(Op::DeleteRange)
        }
        Some(pb::request_op::Request::RequestTxn(request)) => {
            inner_txn(request, ops_max, depth).map(Op::Txn)
        }
        // etcd's answer to an operation without a kind, whatever its words.
        None => Err(Invalid::Refused(Refusal::Kv(KvRefusal::KeyNotFound))),
    }
}

fn compare(request: &pb::Compare) -> Result<Compare, Invalid> {
    check::key(&request.key)?;
    check::bounds(&request.key, &request.range_end)?;
    let result =
        pb::compare::CompareResult::try_from(request.result).map_err(|_| Invalid::CompareOption)?;
    let target =
        pb::compare::CompareTarget::try_from(request.target).map_err(|_| Invalid::CompareOption)?;
    let result = match result {
        pb::compare::CompareResult::Equal => CompareResult::Equal,
        pb::compare::CompareResult::Greater => CompareResult::Greater,
        pb::compare::CompareResult::Less => CompareResult::Less,
        pb::compare::CompareResult::NotEqual => CompareResult::NotEqual,
    };
    // An operand of another kind than the target counts as zero or empty.
    let union = request.target_union.as_ref();
    let operand = match target {
        pb::compare::CompareTarget::Version => CompareOperand::Version(match union {
            Some(pb::compare::TargetUnion::Version(version)) => *version,
            _ => 0,
        }),
        pb::compare::CompareTarget::Create => CompareOperand::Create(match union {
            Some(pb::compare::TargetUnion::CreateRevision(revision)) => *revision,
            _ => 0,
        }),
        pb::compare::CompareTarget::Mod => CompareOperand::Mod(match union {
            Some(pb::compare::TargetUnion::ModRevision(revision)) => *revision,
            _ => 0,
        }),
        pb::compare::CompareTarget::Value => CompareOperand::Value(match union {
            Some(pb::compare::TargetUnion::Value(bytes)) => value(bytes),
            _ => Bytes::new(),
        }),
        pb::compare::CompareTarget::Lease => CompareOperand::Lease(match union {
            Some(pb::compare::TargetUnion::Lease(id)) => *id,
            _ => 0,
        }),
    };
    Ok(Compare {
        keys: keys(&request.key, &request.range_end),
        result,
        operand,
    })
}

/// A lease on the wire; 0 is none.
pub(super) fn lease(id: i64) -> Option<LeaseId> {
    (id != 0).then_some(LeaseId(id))
}

fn owned(bytes: &Bytes) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn value(bytes: &Bytes) -> Bytes {
    if bytes.len() < SHARED_BYTES_MIN {
        owned(bytes)
    } else {
        bytes.clone()
    }
}

/// Zero and below stand for "not given".
fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

/// Zero stands for "not given"; a negative bound lies below every revision.
fn bound(revision: i64) -> Option<Revision> {
    (revision != 0).then(|| Revision(u64::try_from(revision).unwrap_or(0)))
}
