//! Refusals at the door, before anything is proposed: limits, and operations that a transaction may not hold.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::error::Invalid;
use crate::command::{KEY_BYTES_MAX, KvRefusal, LimitRefusal, Refusal};
use crate::config::{Requests, Url};

/// A watcher's changes in one message where it asked for them in fragments; etcd's default.
pub(super) const RECEIVE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes that gRPC receives beyond `--max-request-bytes`: a request slightly too large gets etcd's own answer.
const RECEIVE_BYTES_MORE: usize = 512 * 1024;
/// One message of a stream of requests: a watch of two longest keys. Smaller than etcd's, because each of thousands of
/// streams may have one half received.
pub(super) const STREAM_REQUEST_BYTES_MAX: usize = 128 * 1024;

/// Bytes that gRPC receives at most.
pub(super) fn receive_bytes_max(requests: Requests) -> usize {
    requests.bytes_max + RECEIVE_BYTES_MORE
}

/// A request that changes something must fit into the log.
pub(super) fn request_size(bytes: usize, requests: Requests) -> Result<(), Invalid> {
    if bytes > requests.bytes_max {
        return Err(Invalid::Refused(Refusal::Limit(
            LimitRefusal::RequestTooLarge,
        )));
    }
    Ok(())
}

/// A key must be there.
pub(super) fn key(key: &Bytes) -> Result<(), Invalid> {
    if key.is_empty() {
        return Err(Invalid::Refused(Refusal::Kv(KvRefusal::EmptyKey)));
    }
    Ok(())
}

/// Keys that are looked for must not be longer than any key can be: they match nothing, and everything that carries them
/// (the log, a watcher) would hold them. One byte more is a bound behind the longest key.
pub(super) fn bounds(key: &Bytes, end: &Bytes) -> Result<(), Invalid> {
    let bytes = key.len().max(end.len());
    if bytes > KEY_BYTES_MAX + 1 {
        return Err(Invalid::Refused(Refusal::Kv(KvRefusal::KeyTooLong {
            bytes,
            max: KEY_BYTES_MAX,
        })));
    }
    Ok(())
}

/// A key to be stored must be there and fit.
pub(super) fn stored_key(key: &Bytes) -> Result<(), Invalid> {
    self::key(key)?;
    if key.len() > KEY_BYTES_MAX {
        return Err(Invalid::Refused(Refusal::Kv(KvRefusal::KeyTooLong {
            bytes: key.len(),
            max: KEY_BYTES_MAX,
        })));
    }
    Ok(())
}

/// Compares, and each branch, have at most `max` operations. Answers how many a transaction inside may have.
pub(super) fn op_count(
    compares: usize,
    success: usize,
    failure: usize,
    max: usize,
) -> Result<usize, Invalid> {
    let most = compares.max(success).max(failure);
    max.checked_sub(most).ok_or(Invalid::TooManyOps)
}

/// Peer URLs in their normal form: at least one, each where a member can be dialled. etcd also takes ports that there are
/// none of; a URL that no member can reach would only cost the cluster a vote.
pub(super) fn peer_urls(urls: &[String]) -> Result<Vec<String>, Invalid> {
    let normal = |url: &String| Url::parse_of_member(url).map(|url| url.to_string());
    let normal: Option<BTreeSet<String>> = urls.iter().map(normal).collect();
    match normal {
        Some(urls) if !urls.is_empty() => Ok(urls.into_iter().collect()),
        Some(_) | None => Err(Invalid::MemberUrls),
    }
}
