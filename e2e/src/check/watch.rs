//! etcd's promises of a watch: ordered, unique, atomic, complete, resumable, bookmarkable, with true previous values.
//!
//! A watcher is judged against the log: every event of the store from some revision on, in order of (revision, place
//! in its transaction). Several streams of one watcher, each resumed where the one before ended, are one [`Seen`].

use std::collections::{BTreeMap, HashMap};

use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb::{Event, KeyValue};
use pb::watch_create_request::FilterType;
use serde::{Deserialize, Serialize};

use super::{Violation, is_delete, kv, require, text};
use crate::history::wire;

/// The responses that one watcher was sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Its first request. A resumed stream asks the same but for its start.
    #[serde(with = "wire::one")]
    pub request: pb::WatchCreateRequest,
    /// The first revision that it is owed: the request's start, or one above the answer's header if it gave none.
    pub start: i64,
    /// Every response with events, and every progress response, of all its streams one after the other.
    #[serde(with = "wire::many")]
    pub responses: Vec<pb::WatchResponse>,
}

/// Checks one watcher against the log, which must reach from `seen.start` at least to what it saw last.
///
/// A watcher need not have seen the log's end: what comes after the last response is not judged. Previous values are
/// judged if the log holds the version before.
pub fn check(seen: &Seen, log: &[Event]) -> Result<(), Violation> {
    check_beside(seen, log, |_| 0)
}

/// As [`check`], while the store is compacted: `compacted` says of each response up to which revision at most that was done
/// when it came. A version that was replaced by then may be missing as a previous value, as in etcd.
pub fn check_beside(
    seen: &Seen,
    log: &[Event],
    compacted: impl Fn(usize) -> i64,
) -> Result<(), Violation> {
    let owed = owed(seen, log)?;
    let versions = Versions::of(seen, log)?;
    let mut next = 0;
    // Every event up to here has been sent, or promised not to come.
    let mut reached = seen.start - 1;
    for (number, response) in seen.responses.iter().enumerate() {
        let header = response.header.as_ref().map_or(0, |header| header.revision);
        if response.events.is_empty() {
            let late = owed.get(next).filter(|event| revision(event) <= header);
            require!(late.is_none(), "progress at {header} overtook {late:?}");
            reached = reached.max(header);
            continue;
        }
        for event in &response.events {
            let at = kv(event)?.mod_revision;
            require!(
                at >= seen.start,
                "sent {}, which is before the start at {}",
                shown(event),
                seen.start
            );
            require!(
                at > reached,
                "sent {} after everything up to {reached}",
                shown(event)
            );
            let expected = owed.get(next);
            let is_next = expected
                .is_some_and(|expected| expected.r#type == event.r#type && expected.kv == event.kv);
            require!(
                is_next,
                "sent {} where {} was next",
                shown(event),
                expected.map_or("nothing".to_owned(), |event| shown(event))
            );
            let may_be_gone = at <= compacted(number);
            previous_is_true(seen, event, &versions, may_be_gone)?;
            next += 1;
        }
        let last = response.events.last().map_or(0, revision);
        require!(
            header >= last,
            "a header at {header} with an event at {last}"
        );
        let rest = owed.get(next).filter(|event| revision(event) == last);
        require!(
            rest.is_none(),
            "revision {last} was split: {rest:?} was left for later"
        );
        reached = last;
    }
    Ok(())
}

/// The events of the log that this watcher must be sent.
fn owed<'a>(seen: &Seen, log: &'a [Event]) -> Result<Vec<&'a Event>, Violation> {
    let mut newest = 0;
    let mut owed = Vec::new();
    for event in log {
        let kv = kv(event)?;
        require!(
            kv.mod_revision >= newest,
            "the log goes from revision {newest} to {}",
            kv.mod_revision
        );
        newest = kv.mod_revision;
        if kv.mod_revision >= seen.start
            && is_in(&seen.request, &kv.key)
            && passes(&seen.request, event)
        {
            owed.push(event);
        }
    }
    Ok(owed)
}

fn is_in(request: &pb::WatchCreateRequest, key: &[u8]) -> bool {
    let (start, end) = (request.key.as_ref(), request.range_end.as_ref());
    match end {
        [] => key == start,
        [0] => key >= start,
        end => (start..end).contains(&key),
    }
}

fn passes(request: &pb::WatchCreateRequest, event: &Event) -> bool {
    let dropped = if is_delete(event) {
        FilterType::Nodelete
    } else {
        FilterType::Noput
    };
    !request.filters.contains(&dropped.into())
}

/// Each key's changes by revision, if the watcher asked for previous values.
struct Versions<'a>(HashMap<&'a [u8], BTreeMap<i64, &'a KeyValue>>);

impl<'a> Versions<'a> {
    fn of(seen: &Seen, log: &'a [Event]) -> Result<Self, Violation> {
        let mut versions: HashMap<&[u8], BTreeMap<i64, &KeyValue>> = HashMap::new();
        for event in log.iter().filter(|_| seen.request.prev_kv) {
            let kv = kv(event)?;
            let key = versions.entry(kv.key.as_ref()).or_default();
            key.insert(kv.mod_revision, kv);
        }
        Ok(Self(versions))
    }

    fn before(&self, key: &[u8], revision: i64) -> Option<&'a KeyValue> {
        let (_, before) = self.0.get(key)?.range(..revision).next_back()?;
        Some(before)
    }
}

fn previous_is_true(
    seen: &Seen,
    event: &Event,
    versions: &Versions<'_>,
    may_be_gone: bool,
) -> Result<(), Violation> {
    let sent = event.prev_kv.as_ref();
    if !seen.request.prev_kv {
        require!(
            sent.is_none(),
            "{} came with a previous value that nobody asked for",
            shown(event)
        );
        return Ok(());
    }
    let now = kv(event)?;
    if !is_delete(event) && now.version == 1 {
        require!(
            sent.is_none(),
            "{} creates its key, yet came with {sent:?}",
            shown(event)
        );
        return Ok(());
    }
    let before = versions.before(&now.key, now.mod_revision);
    // The log may begin later than the version before.
    if let Some(before) = before {
        require!(
            sent == Some(before) || (may_be_gone && sent.is_none()),
            "{} came with {sent:?}, but before was {before:?}",
            shown(event)
        );
    }
    Ok(())
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn shown(event: &Event) -> String {
    let KeyValue {
        key,
        value,
        mod_revision,
        ..
    } = event.kv.clone().unwrap_or_default();
    if is_delete(event) {
        format!("-{}@{mod_revision}", text(&key))
    } else {
        format!("{}={}@{mod_revision}", text(&key), text(&value))
    }
}

#[cfg(test)]
mod tests;
