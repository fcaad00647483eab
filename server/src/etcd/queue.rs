//! The queue of locks and elections: keys under one name, ordered by when each was created.
//!
//! Everyone who waits has a key `name/LEASE` (the lease in hexadecimal); the oldest holds what is waited for. The keys
//! are etcd's, so that its client libraries and this service stand in the same queue. Every step goes through the KV and
//! Lease services with what the caller showed, as the caller would have done it. Source: etcd `client/v3/concurrency`.

use std::sync::Arc;

use bytes::Bytes;
use coord_proto::etcd::{etcdserverpb as pb, mvccpb};
use pb::compare::{CompareResult, CompareTarget, TargetUnion};
use pb::kv_server::Kv;
use pb::lease_server::Lease;
use pb::range_request::{SortOrder, SortTarget};
use pb::request_op::Request as Op;
use pb::response_op::Response as OpResponse;
use tonic::{Request, Status};

use super::gate::{Caller, Gate};
use super::kv::KvService;
use super::lease::LeaseService;
use crate::command::Keys;
use crate::watch::{Bell, Wanted};

/// Seconds of a lease for a caller that brings none; etcd's.
const TTL_SECONDS: i64 = 60;

/// Stands in queues on behalf of one caller.
#[derive(Clone)]
pub(super) struct Queue {
    pub(super) gate: Gate,
    kv: Arc<KvService>,
    lease: Arc<LeaseService>,
    caller: Caller,
}

/// A place in a queue.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) key: Bytes,
    /// Revision that created the key.
    pub(super) created: i64,
}

/// The outcome of taking a place.
pub(super) struct Taken {
    pub(super) header: Option<pb::ResponseHeader>,
    pub(super) place: Place,
    /// The key as it was, if it was there already.
    pub(super) before: Option<mvccpb::KeyValue>,
}

/// Gives a place up when its caller goes away before its turn.
pub(super) struct Leaving(Option<(Queue, Place)>);

impl Queue {
    pub(super) fn new(
        gate: Gate,
        kv: Arc<KvService>,
        lease: Arc<LeaseService>,
        caller: Caller,
    ) -> Self {
        Self {
            gate,
            kv,
            lease,
            caller,
        }
    }

    /// The lease that a caller brings, or a new one.
    pub(super) async fn lease(&self, id: i64) -> Result<i64, Status> {
        if id != 0 {
            return Ok(id);
        }
        let grant = pb::LeaseGrantRequest {
            ttl: TTL_SECONDS,
            id,
        };
        let granted = self
            .lease
            .lease_grant(self.request(grant))
            .await
            .map_err(as_of_library)?;
        Ok(granted.get_ref().id)
    }

    /// Takes a place under `prefix`, or finds the one that this lease has.
    pub(super) async fn take(
        &self,
        prefix: &[u8],
        lease: i64,
        value: Bytes,
    ) -> Result<Taken, Status> {
        let key = key(prefix, lease);
        let put = pb::PutRequest {
            key: key.clone(),
            value,
            lease,
            ..Default::default()
        };
        let txn = pb::TxnRequest {
            compare: vec![created_at(&key, 0)],
            success: vec![op(Op::RequestPut(put))],
            failure: vec![op(Op::RequestRange(one(&key)))],
        };
        let answer = self
            .kv
            .txn(self.request(txn))
            .await
            .map_err(as_of_library)?
            .into_inner();
        let before = answer.responses.into_iter().next();
        let before = before.and_then(|response| match response.response {
            Some(OpResponse::ResponseRange(found)) => found.kvs.into_iter().next(),
            _ => None,
        });
        let now = answer.header.as_ref().map_or(0, |header| header.revision);
        let created = before.as_ref().map_or(now, |kv| kv.create_revision);
        Ok(Taken {
            header: answer.header,
            place: Place { key, created },
            before,
        })
    }

    /// Returns when no place under `prefix` is older, or with why it cannot be waited for.
    pub(super) async fn first(&self, prefix: &[u8], place: &Place) -> Result<(), Status> {
        let end = self.gate.end_of_stream(self.caller.metadata());
        tokio::select! {
            first = self.oldest_left(prefix, place) => first,
            why = end => Err(why),
        }
    }

    async fn oldest_left(&self, prefix: &[u8], place: &Place) -> Result<(), Status> {
        loop {
            let Some(ahead) = self.just_ahead(prefix, place).await? else {
                return Ok(());
            };
            let mut bell = self.watch(&ahead, false);
            // It may have gone before it was watched.
            while self.get(&ahead).await?.1.is_some() {
                bell.rung().await;
            }
        }
    }

    /// The youngest key under `prefix` that is older than `place`.
    async fn just_ahead(&self, prefix: &[u8], place: &Place) -> Result<Option<Bytes>, Status> {
        let range = pb::RangeRequest {
            max_create_revision: place.created - 1,
            keys_only: true,
            ..by_creation(prefix, SortOrder::Descend)
        };
        if range.max_create_revision <= 0 {
            return Ok(None);
        }
        let found = self.range(range).await?;
        Ok(found.kvs.into_iter().next().map(|kv| kv.key))
    }

    /// The oldest key under `prefix`.
    pub(super) async fn holder(
        &self,
        prefix: &[u8],
    ) -> Result<(Option<pb::ResponseHeader>, Option<mvccpb::KeyValue>), Status> {
        let found = self.range(by_creation(prefix, SortOrder::Ascend)).await?;
        Ok((found.header, found.kvs.into_iter().next()))
    }

    /// A key as it is.
    pub(super) async fn get(
        &self,
        key: &Bytes,
    ) -> Result<(Option<pb::ResponseHeader>, Option<mvccpb::KeyValue>), Status> {
        let found = self.range(one(key)).await?;
        Ok((found.header, found.kvs.into_iter().next()))
    }

    /// Does `then` if the place is still held. Returns the header, and whether it was.
    pub(super) async fn if_held(
        &self,
        place: &Place,
        then: Op,
    ) -> Result<(Option<pb::ResponseHeader>, bool), Status> {
        let txn = pb::TxnRequest {
            compare: vec![created_at(&place.key, place.created)],
            success: vec![op(then)],
            failure: Vec::new(),
        };
        let answer = self
            .kv
            .txn(self.request(txn))
            .await
            .map_err(as_of_library)?
            .into_inner();
        Ok((answer.header, answer.succeeded))
    }

    /// Removes a key, of any owner.
    pub(super) async fn delete(&self, key: Bytes) -> Result<Option<pb::ResponseHeader>, Status> {
        let delete = pb::DeleteRangeRequest {
            key,
            ..Default::default()
        };
        let answer = self
            .kv
            .delete_range(self.request(delete))
            .await
            .map_err(as_of_library)?;
        Ok(answer.into_inner().header)
    }

    /// Gives a place up if it is still held.
    pub(super) async fn leave(&self, place: &Place) -> Result<Option<pb::ResponseHeader>, Status> {
        let delete = pb::DeleteRangeRequest {
            key: place.key.clone(),
            ..Default::default()
        };
        let (header, _) = self.if_held(place, Op::RequestDeleteRange(delete)).await?;
        Ok(header)
    }

    /// Gives the place up if this caller does not stay; see [`Leaving::stay`].
    pub(super) fn leaving(&self, place: &Place) -> Leaving {
        Leaving(Some((self.clone(), place.clone())))
    }

    /// Wakes whenever the key changes: when it goes, and when it is put if `puts` is set.
    pub(super) fn watch(&self, key: &Bytes, puts: bool) -> Bell {
        self.bell(Keys::One(key.clone()), puts)
    }

    /// Wakes whenever a key under `prefix` is put.
    pub(super) fn watch_all(&self, prefix: &[u8]) -> Bell {
        let (start, end) = (Bytes::copy_from_slice(prefix), after(prefix));
        let end = Some(end).filter(|end| end.as_ref() != [0]);
        self.bell(Keys::Range { start, end }, true)
    }

    fn bell(&self, keys: Keys, puts: bool) -> Bell {
        let wanted = Wanted {
            keys,
            start: None,
            puts,
            deletes: true,
            prevs: false,
        };
        Bell::new(self.gate.coordinator.hub(), wanted)
    }

    async fn range(&self, range: pb::RangeRequest) -> Result<pb::RangeResponse, Status> {
        let found = self.kv.range(self.request(range)).await;
        Ok(found.map_err(as_of_library)?.into_inner())
    }

    fn request<T>(&self, message: T) -> Request<T> {
        self.caller.request(message)
    }
}

impl Leaving {
    /// The caller keeps its place.
    pub(super) fn stay(mut self) {
        self.0 = None;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if let Some((queue, place)) = self.0.take() {
            tokio::spawn(async move {
                if let Err(status) = queue.leave(&place).await {
                    // Its lease ends it, then.
                    tracing::debug!(%status, "a place in a queue could not be given up");
                }
            });
        }
    }
}

/// A refusal as etcd's own client library gives it to a recipe: in its words, but without its code.
fn as_of_library(status: Status) -> Status {
    unknown(status.message())
}

/// Why a step of a recipe is refused, as etcd says what is none of its errors.
pub(super) fn unknown(text: &str) -> Status {
    Status::unknown(text)
}

/// `name/`, below which the keys of a queue are.
pub(super) fn prefix(name: &Bytes) -> Vec<u8> {
    [name.as_ref(), b"/"].concat()
}

/// Go's `%x`, which writes a negative number with a sign.
fn key(prefix: &[u8], lease: i64) -> Bytes {
    let sign = if lease < 0 { "-" } else { "" };
    [
        prefix,
        format!("{sign}{:x}", lease.unsigned_abs()).as_bytes(),
    ]
    .concat()
    .into()
}

/// The end of the range of keys that begin with `prefix`; one zero byte where that is the end of all keys.
fn after(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end.into();
        }
    }
    Bytes::from_static(&[0])
}

fn one(key: &Bytes) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.clone(),
        ..Default::default()
    }
}

fn by_creation(prefix: &[u8], order: SortOrder) -> pb::RangeRequest {
    pb::RangeRequest {
        key: Bytes::copy_from_slice(prefix),
        range_end: after(prefix),
        limit: 1,
        sort_order: order.into(),
        sort_target: SortTarget::Create.into(),
        ..Default::default()
    }
}

fn created_at(key: &Bytes, revision: i64) -> pb::Compare {
    pb::Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
        ..Default::default()
    }
}

fn op(request: Op) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_named_as_go_names_them() {
        assert_eq!(key(b"l/", 0x0069_4d7d).as_ref(), b"l/694d7d");
        assert_eq!(key(b"", -255).as_ref(), b"-ff");
    }

    #[test]
    fn a_range_of_a_prefix_ends_behind_its_last_key() {
        assert_eq!(after(b"a/").as_ref(), b"a0");
        assert_eq!(after(b"a\xff").as_ref(), b"b");
        assert_eq!(after(b"\xff\xff").as_ref(), b"\0");
    }
}
