//! Requests in few words. Fields that a test wants otherwise are set by struct update.

use coord_proto::etcd::etcdserverpb as pb;
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::request_op::Request;

/// The bytes of a text.
fn bytes(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(text.as_bytes())
}

/// The end of the range of all keys that start with `prefix`.
#[must_use]
pub fn prefix_end(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    let last = end.pop().expect("a prefix has a letter");
    end.push(char::from_u32(last as u32 + 1).expect("test keys are ASCII"));
    end
}

/// One key.
#[must_use]
pub fn range(key: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: bytes(key),
        ..Default::default()
    }
}

/// All keys in `[key, end)`.
#[must_use]
pub fn range_to(key: &str, end: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        range_end: bytes(end),
        ..range(key)
    }
}

/// All keys that start with `prefix`.
#[must_use]
pub fn prefix(prefix: &str) -> pb::RangeRequest {
    range_to(prefix, &prefix_end(prefix))
}

/// Every key.
#[must_use]
pub fn everything() -> pb::RangeRequest {
    range_to("\0", "\0")
}

/// A put.
#[must_use]
pub fn put(key: &str, value: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(key),
        value: bytes(value),
        ..Default::default()
    }
}

/// The deletion of one key.
#[must_use]
pub fn delete(key: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: bytes(key),
        ..Default::default()
    }
}

/// The deletion of all keys in `[key, end)`.
#[must_use]
pub fn delete_to(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        range_end: bytes(end),
        ..delete(key)
    }
}

/// A transaction.
#[must_use]
pub fn txn(
    compare: impl Into<Vec<pb::Compare>>,
    success: impl Into<Vec<pb::RequestOp>>,
    failure: impl Into<Vec<pb::RequestOp>>,
) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: compare.into(),
        success: success.into(),
        failure: failure.into(),
    }
}

/// An operation of a transaction.
#[must_use]
pub fn op(request: impl Into<Op>) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request.into().0),
    }
}

/// The argument of [`op`].
pub struct Op(Request);

impl From<pb::RangeRequest> for Op {
    fn from(request: pb::RangeRequest) -> Self {
        Self(Request::RequestRange(request))
    }
}

impl From<pb::PutRequest> for Op {
    fn from(request: pb::PutRequest) -> Self {
        Self(Request::RequestPut(request))
    }
}

impl From<pb::DeleteRangeRequest> for Op {
    fn from(request: pb::DeleteRangeRequest) -> Self {
        Self(Request::RequestDeleteRange(request))
    }
}

impl From<pb::TxnRequest> for Op {
    fn from(request: pb::TxnRequest) -> Self {
        Self(Request::RequestTxn(request))
    }
}

/// The comparison of one of a key's fields with a value of that field's kind.
#[must_use]
pub fn compare(key: &str, result: CompareResult, with: TargetUnion) -> pb::Compare {
    let target = match with {
        TargetUnion::Version(_) => CompareTarget::Version,
        TargetUnion::CreateRevision(_) => CompareTarget::Create,
        TargetUnion::ModRevision(_) => CompareTarget::Mod,
        TargetUnion::Value(_) => CompareTarget::Value,
        TargetUnion::Lease(_) => CompareTarget::Lease,
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(key),
        range_end: bytes(""),
        target_union: Some(with),
    }
}

/// The comparison of a key's value.
#[must_use]
pub fn value(key: &str, result: CompareResult, with: &str) -> pb::Compare {
    compare(key, result, TargetUnion::Value(bytes(with)))
}

/// The watch of one key from now.
#[must_use]
pub fn watch(key: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: bytes(key),
        ..Default::default()
    }
}

/// The watch of all keys that start with `prefix`, from now.
#[must_use]
pub fn watch_prefix(prefix: &str) -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        range_end: bytes(&prefix_end(prefix)),
        ..watch(prefix)
    }
}

/// The watch of every key, from now.
#[must_use]
pub fn watch_everything() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        range_end: bytes("\0"),
        ..watch("\0")
    }
}
