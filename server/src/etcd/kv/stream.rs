//! `RangeStream`: a range in chunks, all at the revision of the first.
//!
//! Each chunk is a range of its own from the key behind the last one on, so memory holds one of them and what the client
//! has not taken. The last says the header, whether a limit cut something, and how many keys there are in all.
//! Source: etcd 3.7 `server/etcdserver/v3_server.go`, `rangeStream`.

use bytes::Bytes;
use coord_proto::etcd::etcdserverpb as pb;
use pb::kv_server::Kv;
use pb::range_request::{SortOrder, SortTarget};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::KvService;
use crate::etcd::gate::Caller;

/// Keys of the first chunk; the next ones have twice as many as long as they are small.
const KEYS_FIRST: i64 = 10;
/// Bytes that a chunk should have, as etcd's default; one between half and twice as many stays as it is.
const CHUNK_BYTES: usize = 1536 * 1024;
/// Chunks that wait for the client.
const WAITING_MAX: usize = 1;

type Chunk = Result<pb::RangeStreamResponse, Status>;
/// A range on its way.
pub(super) type Chunks = ReceiverStream<Chunk>;

/// Options that only a whole range can answer.
pub(super) fn check(range: &pb::RangeRequest) -> Result<(), Status> {
    let (target, order) = (range.sort_target(), range.sort_order());
    let is_natural =
        order == SortOrder::None || (target == SortTarget::Key && order == SortOrder::Ascend);
    if !is_natural {
        let text = "RangeStream does not support custom sort orders";
        return Err(Status::unimplemented(text));
    }
    let filters = [
        range.min_mod_revision,
        range.max_mod_revision,
        range.min_create_revision,
        range.max_create_revision,
    ];
    if filters.iter().any(|filter| *filter != 0) {
        let text = "RangeStream does not support revision filters";
        return Err(Status::unimplemented(text));
    }
    Ok(())
}

/// Begins to send a range that was checked.
pub(super) fn begin(kv: KvService, range: pb::RangeRequest, caller: Caller) -> Chunks {
    let (chunks, stream) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        let all = send(&kv, range, &caller, &chunks);
        let why = tokio::select! {
            sent = all => sent.err(),
            why = kv.0.end_of_stream(caller.metadata()) => Some(why),
            () = chunks.closed() => None,
        };
        if let Some(why) = why {
            // A client that is gone is told nothing.
            let _ = chunks.send(Err(why)).await;
        }
    });
    ReceiverStream::new(stream)
}

async fn send(
    kv: &KvService,
    mut range: pb::RangeRequest,
    caller: &Caller,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<(), Status> {
    let limit = Some(range.limit).filter(|limit| *limit > 0);
    // Without an order the target means nothing here.
    range.set_sort_target(SortTarget::Key);
    let mut header = None;
    let mut sent = 0;
    let mut keys = KEYS_FIRST;
    loop {
        let left = limit.map(|limit| limit - sent);
        range.limit = match range.count_only {
            true => 0,
            false => left.map_or(keys, |left| keys.min(left)),
        };
        let request = caller.request(range.clone());
        let found = kv.range(request).await?.into_inner();
        let bytes = found.encoded_len();
        let header = header.get_or_insert(found.header.unwrap_or_default());
        if range.revision <= 0 {
            range.revision = header.revision;
        }
        // Writes acknowledged before the first chunk are in it, and the others are of the same moment.
        range.serializable = true;
        let number = i64::try_from(found.kvs.len()).unwrap_or(i64::MAX);
        let count = sent.saturating_add(found.count);
        sent = sent.saturating_add(number);
        let next = found.kvs.last().map(|last| behind(&last.key));
        let is_last = !found.more || limit == Some(sent);
        let chunk = pb::RangeResponse {
            header: is_last.then_some(*header),
            kvs: found.kvs,
            more: is_last && found.more,
            count: if is_last { count } else { 0 },
        };
        let chunk = pb::RangeStreamResponse {
            range_response: Some(chunk),
        };
        let is_heard = chunks.send(Ok(chunk)).await.is_ok();
        let (Some(next), false, true) = (next, is_last, is_heard) else {
            return Ok(());
        };
        range.key = next;
        keys = next_keys(keys, bytes);
    }
}

fn next_keys(keys: i64, bytes: usize) -> i64 {
    if bytes < CHUNK_BYTES / 2 {
        keys.saturating_mul(2)
    } else if bytes > CHUNK_BYTES * 2 {
        (keys / 2).max(1)
    } else {
        keys
    }
}

fn behind(key: &Bytes) -> Bytes {
    [key.as_ref(), &[0]].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_grow_while_they_are_small_and_shrink_when_they_are_large() {
        assert_eq!(next_keys(10, 100), 20);
        assert_eq!(next_keys(10, CHUNK_BYTES), 10);
        assert_eq!(next_keys(10, CHUNK_BYTES * 3), 5);
        assert_eq!(next_keys(1, CHUNK_BYTES * 3), 1);
    }
}
