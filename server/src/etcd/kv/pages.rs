//! Long reads in pages of one revision, so that no turn of the runtime is long and heartbeats are never late for one,
//! and so that what is read is counted as it grows.

use bytes::{BufMut, Bytes, BytesMut};

use super::Answering;
use crate::command::{
    KeyValue, Keys, Order, Outcome, Query, Range, RangeFilter, Refusal, Response, SortTarget,
};
use crate::coordinator::{Consistency, Coordinator, Error};

/// Keys read in one turn: about a millisecond.
const PAGE_KEYS: u64 = 512;
/// Bytes at which later pages aim. The state ends what it reads now by itself when it has some megabytes, but not what
/// it reads of an older revision.
const PAGE_BYTES: usize = 1 << 20;
/// How often a read of the newest revision begins again when compaction overtakes it between two pages.
const ATTEMPTS_MAX: usize = 3;

/// Answers a long range. A read of the newest revision never fails for compaction while it runs, unless that happens
/// again and again.
pub(super) async fn read(
    coordinator: &Coordinator,
    range: Range,
    consistency: Consistency,
    answering: &Answering,
) -> Result<Outcome, Error> {
    let mut attempts = 1;
    loop {
        let outcome = read_pages(coordinator, &range, consistency, answering).await?;
        let is_overtaken =
            range.revision.is_none() && matches!(outcome.result, Err(Refusal::Compacted { .. }));
        if !is_overtaken || attempts == ATTEMPTS_MAX {
            return Ok(outcome);
        }
        attempts += 1;
    }
}

/// Whether it may have more than one key.
pub(super) fn is_long(range: &Range) -> bool {
    matches!(range.keys, Keys::Range { .. }) && !range.count_only
}

/// Whoever sorts or filters needs all keys at once, in whatever memory that takes.
fn has_pages(range: &Range) -> bool {
    range.sort == (SortTarget::Key, Order::Ascending) && range.filter == RangeFilter::default()
}

async fn read_pages(
    coordinator: &Coordinator,
    range: &Range,
    consistency: Consistency,
    answering: &Answering,
) -> Result<Outcome, Error> {
    let limit = range.limit.unwrap_or(u64::MAX);
    let mut page = range.clone();
    if has_pages(range) {
        page.limit = Some(PAGE_KEYS.min(limit));
    }
    // Nothing is read while there is no room for more, and what an earlier attempt has read is gone.
    answering.begin_again().await?;
    let first = coordinator
        .read(&Query::Range(page.clone()), consistency)
        .await?;
    let revision = first.revision;
    let mut found = match first.result {
        Ok(Response::Range(found)) => found,
        other => {
            return Ok(Outcome {
                revision,
                result: other,
            });
        }
    };
    let mut bytes = size(&found.kvs);
    answering.grow(bytes).await?;
    // All later pages are of the revision of the first.
    page.revision = range.revision.or(Some(revision));
    while has_pages(range) && found.more && (found.kvs.len() as u64) < limit {
        let Some(last) = found.kvs.last() else { break };
        page.keys = after(&last.key, &range.keys);
        let keys = (PAGE_BYTES * found.kvs.len() / bytes.max(1)) as u64;
        let keys = keys.clamp(1, PAGE_KEYS);
        page.limit = Some(keys.min(limit - found.kvs.len() as u64));
        tokio::task::yield_now().await;
        // What the first page needed to be fresh holds for the others: they are not newer.
        match coordinator
            .read(&Query::Range(page.clone()), Consistency::Serializable)
            .await?
            .result
        {
            Ok(Response::Range(next)) => {
                let more = size(&next.kvs);
                answering.grow(more).await?;
                bytes += more;
                found.more = next.more;
                found.kvs.extend(next.kvs);
            }
            other => {
                return Ok(Outcome {
                    revision,
                    result: other,
                });
            }
        }
    }
    Ok(Outcome {
        revision,
        result: Ok(Response::Range(found)),
    })
}

/// About what they take in memory.
fn size(kvs: &[KeyValue]) -> usize {
    let size = |kv: &KeyValue| size_of::<KeyValue>() + kv.key.len() + kv.value.len();
    kvs.iter().map(size).sum()
}

/// The rest of `keys` behind `last`.
fn after(last: &Bytes, keys: &Keys) -> Keys {
    let mut start = BytesMut::with_capacity(last.len() + 1);
    start.put_slice(last);
    start.put_u8(0);
    let end = match keys {
        Keys::Range { end, .. } => end.clone(),
        // Only ranges are read in pages.
        Keys::One(_) => Some(Bytes::new()),
    };
    Keys::Range {
        start: start.freeze(),
        end,
    }
}
