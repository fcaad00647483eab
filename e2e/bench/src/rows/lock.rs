//! Locks as etcd's client library makes them: a key of one's own under the lock's prefix, held by the key that was
//! created first; a waiter watches the key created just before its own.

use anyhow::Result;
use bytes::Bytes;
use coord_proto::etcd::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use coord_proto::etcd::etcdserverpb::range_request::{SortOrder, SortTarget};
use coord_proto::etcd::etcdserverpb::request_op::Request;
use coord_proto::etcd::etcdserverpb::response_op::Response;
use coord_proto::etcd::etcdserverpb::watch_request::RequestUnion;
use coord_proto::etcd::etcdserverpb::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, PutRequest, RangeRequest, RangeResponse,
    RequestOp, TxnRequest, TxnResponse, WatchCancelRequest, WatchCreateRequest, WatchRequest,
    WatchResponse,
};
use coord_proto::etcd::mvccpb::event::EventType;

use super::lease::grant;
use crate::load::Operator;
use crate::wire::{CallError, Connection, Incoming, Outgoing, Rpc};

const LOCKS: usize = 8;

/// One client that takes its lock and gives it back.
pub(super) struct Contender {
    connection: Connection,
    prefix: Bytes,
    prefix_end: Bytes,
    key: Bytes,
    lease: i64,
    /// Opened by the first wait.
    watch: Option<(Outgoing, Incoming)>,
}

/// Clients in turn on each lock, each with a lease of its own.
pub(super) async fn contenders(
    connections: &[Connection],
    clients: usize,
) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    for client in 0..clients {
        let connection = connections[client % connections.len()].clone();
        let lease = grant(&connection).await?;
        // Not `client % LOCKS`: the clients of one lock come over different connections.
        let lock = client / clients.div_ceil(LOCKS);
        contenders.push(Contender {
            connection,
            prefix: Bytes::from(format!("/bench/locks/{lock}/")),
            prefix_end: Bytes::from(format!("/bench/locks/{lock}0")),
            key: Bytes::from(format!("/bench/locks/{lock}/{lease:x}")),
            lease,
            watch: None,
        });
    }
    Ok(contenders)
}

impl Contender {
    /// Puts our key unless it is there; returns the revision it was created at and whether it is the first.
    async fn enter(&self) -> Result<(i64, bool), CallError> {
        let first = RangeRequest {
            key: self.prefix.clone(),
            range_end: self.prefix_end.clone(),
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            limit: 1,
            ..RangeRequest::default()
        };
        let request = TxnRequest {
            compare: vec![Compare {
                result: CompareResult::Equal as i32,
                target: CompareTarget::Create as i32,
                key: self.key.clone(),
                range_end: Bytes::new(),
                target_union: Some(TargetUnion::CreateRevision(0)),
            }],
            success: vec![
                RequestOp {
                    request: Some(Request::RequestPut(PutRequest {
                        key: self.key.clone(),
                        lease: self.lease,
                        ..PutRequest::default()
                    })),
                },
                RequestOp {
                    request: Some(Request::RequestRange(first)),
                },
            ],
            failure: Vec::new(),
        };
        let answer: TxnResponse = self.connection.call(Rpc::Txn, &request).await?;
        if !answer.succeeded {
            return Err(CallError::Malformed("our key is there already"));
        }
        let owner = match answer
            .responses
            .into_iter()
            .nth(1)
            .and_then(|op| op.response)
        {
            Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
            _ => None,
        };
        let revision = answer.header.map_or(0, |header| header.revision);
        let owner = owner.ok_or(CallError::Malformed("no owner, although we entered"))?;
        Ok((revision, owner.key == self.key))
    }

    /// Waits until no key under the prefix was created before ours.
    async fn wait(&mut self, revision: i64) -> Result<(), CallError> {
        loop {
            let newest_before = RangeRequest {
                key: self.prefix.clone(),
                range_end: self.prefix_end.clone(),
                sort_order: SortOrder::Descend as i32,
                sort_target: SortTarget::Create as i32,
                max_create_revision: revision - 1,
                limit: 1,
                ..RangeRequest::default()
            };
            let answer: RangeResponse = self.connection.call(Rpc::Range, &newest_before).await?;
            let Some(before_us) = answer.kvs.into_iter().next() else {
                return Ok(());
            };
            let seen = answer.header.map_or(0, |header| header.revision);
            self.wait_deleted(before_us.key, seen).await?;
        }
    }

    async fn wait_deleted(&mut self, key: Bytes, seen: i64) -> Result<(), CallError> {
        let create = WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(WatchCreateRequest {
                key,
                start_revision: seen + 1,
                ..WatchCreateRequest::default()
            })),
        };
        let (outgoing, incoming) = match &mut self.watch {
            Some((outgoing, incoming)) => {
                outgoing.send(&create)?;
                (outgoing, incoming)
            }
            none => {
                let opened = self.connection.stream(Rpc::Watch, &create, false).await?;
                let (outgoing, incoming) = none.insert(opened);
                (outgoing, incoming)
            }
        };
        // Answers about earlier watches, which we have cancelled, may still arrive.
        let mut ours = None;
        loop {
            let answer: WatchResponse = incoming.expect().await?;
            if answer.created {
                ours = Some(answer.watch_id);
            }
            if ours != Some(answer.watch_id) {
                continue;
            }
            if answer.canceled {
                return Err(CallError::Malformed("the watch was cancelled"));
            }
            let is_deleted =
                |event: &coord_proto::etcd::mvccpb::Event| event.r#type == EventType::Delete as i32;
            if answer.events.iter().any(is_deleted) {
                break;
            }
        }
        let cancel = WatchCancelRequest {
            watch_id: ours.unwrap_or_default(),
        };
        outgoing.send(&WatchRequest {
            request_union: Some(RequestUnion::CancelRequest(cancel)),
        })
    }

    /// Our key, by a linearizable read: it is gone if our lease ended while we waited.
    async fn still_ours(&self) -> Result<(), CallError> {
        let request = RangeRequest {
            key: self.key.clone(),
            ..RangeRequest::default()
        };
        let answer: RangeResponse = self.connection.call(Rpc::Range, &request).await?;
        if answer.kvs.is_empty() {
            return Err(CallError::Malformed("our lease ended while we waited"));
        }
        Ok(())
    }
}

impl Operator for Contender {
    async fn step(&mut self) -> Result<(), CallError> {
        let (revision, is_first) = self.enter().await?;
        if !is_first {
            self.wait(revision).await?;
            self.still_ours().await?;
        }
        let release = DeleteRangeRequest {
            key: self.key.clone(),
            ..DeleteRangeRequest::default()
        };
        self.connection
            .call::<DeleteRangeResponse>(Rpc::Delete, &release)
            .await?;
        Ok(())
    }
}
