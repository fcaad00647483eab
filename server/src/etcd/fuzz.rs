//! Requests of any bytes, as the door reads them.

use bytes::Bytes;
use coord_proto::etcd::{authpb, etcdserverpb as pb};
use pb::request_op::Request;
use prost::Message;

use super::{auth, convert};
use crate::command::fuzz::is_kept;
use crate::command::{KvCommand, Op, Revision, Txn};
use crate::config::Requests;

/// Reads one request. The first byte says of which kind it is.
pub fn request(data: &[u8]) {
    let Some((kind, body)) = data.split_first() else {
        return;
    };
    let requests = Requests::default();
    let alone = |op: Op| {
        let success = vec![op];
        KvCommand::Txn(Txn {
            compares: Vec::new(),
            success,
            failure: Vec::new(),
        })
    };
    let command = match kind % 6 {
        0 => pb::RangeRequest::decode(body)
            .ok()
            .and_then(|request| convert::range(&request).ok())
            .map(|range| alone(Op::Range(range))),
        1 => pb::PutRequest::decode(body)
            .ok()
            .and_then(|request| convert::put(&request).ok())
            .map(KvCommand::Put),
        2 => pb::DeleteRangeRequest::decode(body)
            .ok()
            .and_then(|request| convert::delete_range(&request).ok())
            .map(KvCommand::DeleteRange),
        3 => pb::TxnRequest::decode(body)
            .ok()
            .and_then(|request| convert::txn(&request, requests).ok())
            .map(KvCommand::Txn),
        4 => pb::CompactionRequest::decode(body)
            .ok()
            .and_then(|request| u64::try_from(request.revision).ok())
            .map(|revision| KvCommand::Compact {
                revision: Revision(revision),
            }),
        _ => {
            if let Ok(permission) = authpb::Permission::decode(body)
                && let Some(granted) = auth::granted(&permission)
            {
                let again = auth::granted(&auth::shown(granted.clone()));
                assert_eq!(again, Some(granted), "shown as it was granted");
            }
            None
        }
    };
    if let Some(command) = command {
        is_kept(command.into());
    }
}

/// Requests of each kind.
pub fn requests() -> Vec<Vec<u8>> {
    let key = Bytes::from_static(b"a");
    let range_end = Bytes::from_static(b"b");
    let put = pb::PutRequest {
        key: key.clone(),
        value: Bytes::from_static(b"v"),
        lease: 7,
        prev_kv: true,
        ..pb::PutRequest::default()
    };
    let range = pb::RangeRequest {
        key: key.clone(),
        range_end: range_end.clone(),
        limit: 3,
        revision: 9,
        sort_order: 2,
        sort_target: 3,
        max_mod_revision: 8,
        ..pb::RangeRequest::default()
    };
    let delete = pb::DeleteRangeRequest {
        key: key.clone(),
        range_end: range_end.clone(),
        prev_kv: true,
    };
    let op = |request| pb::RequestOp {
        request: Some(request),
    };
    let inner = pb::TxnRequest {
        success: vec![op(Request::RequestPut(put.clone()))],
        ..pb::TxnRequest::default()
    };
    let txn = pb::TxnRequest {
        compare: vec![pb::Compare {
            key: key.clone(),
            target: 2,
            target_union: Some(pb::compare::TargetUnion::ModRevision(4)),
            ..pb::Compare::default()
        }],
        success: vec![
            op(Request::RequestTxn(inner)),
            op(Request::RequestRange(range.clone())),
        ],
        failure: vec![op(Request::RequestDeleteRange(delete.clone()))],
    };
    let permission = authpb::Permission {
        perm_type: 1,
        key,
        range_end,
    };
    let compaction = pb::CompactionRequest {
        revision: 7,
        physical: true,
    };
    let bodies = [
        range.encode_to_vec(),
        put.encode_to_vec(),
        delete.encode_to_vec(),
        txn.encode_to_vec(),
        compaction.encode_to_vec(),
        permission.encode_to_vec(),
    ];
    let with_kind = |(kind, body): (u8, Vec<u8>)| [vec![kind], body].concat();
    (0..).zip(bodies).map(with_kind).collect()
}
