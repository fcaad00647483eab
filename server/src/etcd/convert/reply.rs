//! Outcomes into wire messages. Keys and values are shared, not copied: encoding copies them once.

use coord_proto::etcd::{etcdserverpb as pb, mvccpb};

use super::super::header::{self, signed};
use crate::command::{Event, EventKind, KeyValue, OpResponse, RangeResponse, Revision};

/// The reply to a range. `header` is this member's, or a transaction's short one.
pub(crate) fn range_response(
    header: pb::ResponseHeader,
    found: RangeResponse,
) -> pb::RangeResponse {
    pb::RangeResponse {
        header: Some(header),
        kvs: found.kvs.into_iter().map(key_value).collect(),
        more: found.more,
        count: count(found.count),
    }
}

/// The reply to a put.
pub(crate) fn put_response(header: pb::ResponseHeader, prev: Option<KeyValue>) -> pb::PutResponse {
    pb::PutResponse {
        header: Some(header),
        prev_kv: prev.map(key_value),
    }
}

/// The reply to a delete.
pub(crate) fn delete_range_response(
    header: pb::ResponseHeader,
    deleted: u64,
    prevs: Vec<KeyValue>,
) -> pb::DeleteRangeResponse {
    pb::DeleteRangeResponse {
        header: Some(header),
        deleted: count(deleted),
        prev_kvs: prevs.into_iter().map(key_value).collect(),
    }
}

/// The reply to a transaction after which the store is at `revision`.
pub(crate) fn txn_response(
    header: pb::ResponseHeader,
    revision: Revision,
    succeeded: bool,
    responses: Vec<OpResponse>,
) -> pb::TxnResponse {
    // Each operation's header says the revision as that operation saw it: the one before the transaction until
    // something has changed.
    let mut seen = match responses.iter().any(changes) {
        true => Revision(revision.0.saturating_sub(1)),
        false => revision,
    };
    inner_response(header, revision, &mut seen, succeeded, responses)
}

fn inner_response(
    header: pb::ResponseHeader,
    revision: Revision,
    seen: &mut Revision,
    succeeded: bool,
    responses: Vec<OpResponse>,
) -> pb::TxnResponse {
    let responses = responses.into_iter().map(|response| {
        let is_txn = matches!(response, OpResponse::Txn { .. });
        if !is_txn && changes(&response) {
            *seen = revision;
        }
        let header = header::only(*seen);
        let response = match response {
            OpResponse::Range(found) => {
                pb::response_op::Response::ResponseRange(range_response(header, found))
            }
            OpResponse::Put { prev } => {
                pb::response_op::Response::ResponsePut(put_response(header, prev))
            }
            OpResponse::DeleteRange { deleted, prevs } => {
                pb::response_op::Response::ResponseDeleteRange(delete_range_response(
                    header, deleted, prevs,
                ))
            }
            OpResponse::Txn {
                succeeded,
                responses,
            } => pb::response_op::Response::ResponseTxn(inner_response(
                pb::ResponseHeader::default(),
                revision,
                seen,
                succeeded,
                responses,
            )),
        };
        pb::ResponseOp {
            response: Some(response),
        }
    });
    pb::TxnResponse {
        responses: responses.collect(),
        header: Some(header),
        succeeded,
    }
}

fn changes(response: &OpResponse) -> bool {
    match response {
        OpResponse::Put { .. } => true,
        OpResponse::DeleteRange { deleted, .. } => *deleted > 0,
        OpResponse::Range(_) => false,
        OpResponse::Txn { responses, .. } => responses.iter().any(changes),
    }
}

/// A change, as a watcher reads it.
pub(crate) fn event(event: &Event, prev_kv: bool) -> mvccpb::Event {
    let kind = match event.kind {
        EventKind::Put => mvccpb::event::EventType::Put,
        EventKind::Delete => mvccpb::event::EventType::Delete,
    };
    let prev = if prev_kv { event.prev.clone() } else { None };
    mvccpb::Event {
        r#type: kind.into(),
        kv: Some(key_value(event.kv.clone())),
        prev_kv: prev.map(key_value),
    }
}

/// A pair.
pub(crate) fn key_value(pair: KeyValue) -> mvccpb::KeyValue {
    let KeyValue {
        key,
        create_revision,
        mod_revision,
        version,
        value,
        lease,
    } = pair;
    mvccpb::KeyValue {
        key,
        create_revision: signed(create_revision),
        mod_revision: signed(mod_revision),
        version: count(version),
        value,
        lease: lease.map_or(0, |lease| lease.0),
    }
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
