//! The verdict on a run: every checker, over what was seen. Pure: the same record, the same verdict.

use std::time::Duration;

use coord_proto::etcd::mvccpb::Event;

use super::record::Record;
use crate::check::{Violation, contents, lease, linear, log, revisions, settle, terms, watch};
use crate::history::Outcome;

/// The time that a cluster may take beyond a lease's once it is well: an election timeout, the work, a busy machine.
/// Generous, because only the other side is a promise: that a lease does not end early has no grace at all.
const GRACE: Duration = Duration::from_secs(10);
/// Keys of the writers; only their calls change them.
const KEYS: &str = "k/";
/// Keys that leases hold.
const HELD: &str = "l/";

/// How much was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Answered calls.
    pub answered: usize,
    /// Calls whose outcome nobody learnt.
    pub unknown: usize,
    /// Revisions.
    pub revisions: usize,
    /// Watchers.
    pub watchers: usize,
    /// Events that they were sent, all together.
    pub events: usize,
    /// Leases.
    pub leases: usize,
    /// Times a member said its term.
    pub sightings: usize,
}

/// Judges a run.
pub fn judge(record: &Record) -> Result<Judged, Violation> {
    terms::check(&record.sightings)?;
    let whole = record.watchers.iter().filter(|watcher| watcher.is_whole);
    let log = log::merge(whole.map(|watcher| &watcher.seen))?;
    for watcher in &record.watchers {
        watch::check(&watcher.seen, &log)?;
        if watcher.reached() < watcher.owed {
            return Err(Violation(format!(
                "a watcher from revision {} was told everything up to {} only, the store is at {}",
                watcher.seen.start,
                watcher.reached(),
                watcher.owed
            )));
        }
    }
    let keys: Vec<Event> = log.iter().filter(|event| is_ours(event)).cloned().collect();
    let newest = log.last().and_then(revision).unwrap_or(0);
    let all = [record.calls.as_slice(), &record.held].concat();
    let of_clients: Vec<Event> = log
        .iter()
        .filter(|event| is_of_clients(event))
        .cloned()
        .collect();
    revisions::check(&all, &of_clients, newest)?;
    linear::check(&settle::settle(&record.calls, &keys)?)?;
    for contents in &record.contents {
        contents::check(contents, &log)?;
    }
    for tenancy in &record.tenancies {
        lease::check(&tenancy.life, GRACE, &record.troubled)?;
        let keys: Vec<&str> = tenancy.keys.iter().map(String::as_str).collect();
        lease::check_end(tenancy.life.id, &keys, &log)?;
    }
    Ok(judged(record, &log))
}

fn is_ours(event: &Event) -> bool {
    is_below(KEYS, event)
}

fn is_of_clients(event: &Event) -> bool {
    is_ours(event) || is_below(HELD, event)
}

fn is_below(prefix: &str, event: &Event) -> bool {
    let kv = event.kv.as_ref();
    kv.is_some_and(|kv| kv.key.starts_with(prefix.as_bytes()))
}

fn judged(record: &Record, log: &[Event]) -> Judged {
    let unknown = record
        .calls
        .iter()
        .filter(|call| call.outcome == Outcome::Unknown)
        .count();
    let events = |watcher: &super::record::Watcher| {
        let responses = watcher.seen.responses.iter();
        responses
            .map(|response| response.events.len())
            .sum::<usize>()
    };
    Judged {
        answered: record.calls.len() - unknown,
        unknown,
        revisions: log
            .chunk_by(|one, next| revision(one) == revision(next))
            .count(),
        watchers: record.watchers.len(),
        events: record.watchers.iter().map(events).sum(),
        leases: record.tenancies.len(),
        sightings: record.sightings.len(),
    }
}

fn revision(event: &Event) -> Option<i64> {
    event.kv.as_ref().map(|kv| kv.mod_revision)
}
