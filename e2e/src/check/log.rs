//! The log of a run, put together from what its watchers saw: every event of every revision, once.
//!
//! Proof that it is complete: a store makes a new revision only with a change, and gives it the next number. So if
//! every number up to the last is there, no revision is missing. Every watcher of the whole store must have been sent
//! the same events of each revision; an event that all of them missed is a gap in what readers read
//! ([`revisions`](super::revisions), [`contents`](super::contents)).

use std::collections::BTreeMap;

use coord_proto::etcd::mvccpb::Event;

use super::watch::Seen;
use super::{Violation, kv, require};

/// Merges what watchers of the whole store saw; the first must have begun at the first revision.
///
/// Errors: two of them differ about a revision; a revision that none of them saw.
pub fn merge<'a>(watchers: impl IntoIterator<Item = &'a Seen>) -> Result<Vec<Event>, Violation> {
    let mut revisions: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    for seen in watchers {
        for (revision, events) in by_revision(seen)? {
            let known = revisions.entry(revision).or_insert_with(|| events.clone());
            require!(
                *known == events,
                "two watchers were sent different events of revision {revision}: {known:?} and {events:?}"
            );
        }
    }
    let first = revisions.keys().next().copied().unwrap_or(0);
    for (expected, revision) in (first..).zip(revisions.keys()) {
        require!(
            *revision == expected,
            "no watcher was sent revision {expected}, the next one seen is {revision}"
        );
    }
    Ok(revisions.into_values().flatten().collect())
}

/// A watcher's events without their previous values, by revision. Events sent twice are for a check of their own to
/// find.
fn by_revision(seen: &Seen) -> Result<BTreeMap<i64, Vec<Event>>, Violation> {
    let mut revisions: BTreeMap<i64, Vec<Event>> = BTreeMap::new();
    let mut newest = 0;
    for response in &seen.responses {
        for event in &response.events {
            let revision = kv(event)?.mod_revision;
            if revision < newest {
                continue;
            }
            newest = revision;
            let plain = Event {
                prev_kv: None,
                ..event.clone()
            };
            let events = revisions.entry(revision).or_default();
            if !events.contains(&plain) {
                events.push(plain);
            }
        }
    }
    Ok(revisions)
}

#[cfg(test)]
mod tests {
    use coord_proto::etcd::etcdserverpb as pb;
    use coord_proto::etcd::mvccpb::KeyValue;

    use super::*;

    fn event(key: &str, revision: i64) -> Event {
        let kv = KeyValue {
            key: key.to_owned().into(),
            mod_revision: revision,
            ..Default::default()
        };
        Event {
            kv: Some(kv),
            ..Default::default()
        }
    }

    fn seen(events: &[Event]) -> Seen {
        Seen {
            request: pb::WatchCreateRequest::default(),
            start: 2,
            responses: vec![pb::WatchResponse {
                events: events.to_vec(),
                ..Default::default()
            }],
        }
    }

    #[test]
    fn watchers_complete_each_other() {
        let whole = [event("a", 2), event("a", 3), event("b", 3), event("a", 4)];
        let log = merge([&seen(&whole[..3]), &seen(&whole[1..])]).unwrap();
        assert_eq!(log, whole);
    }

    #[test]
    fn a_revision_that_nobody_saw_is_rejected() {
        let violation = merge([&seen(&[event("a", 2)]), &seen(&[event("a", 4)])]).unwrap_err();
        assert!(violation.0.contains("revision 3"), "{violation}");
    }

    #[test]
    fn watchers_that_differ_are_rejected() {
        let violation = merge([&seen(&[event("a", 2)]), &seen(&[event("b", 2)])]).unwrap_err();
        assert!(violation.0.contains("different events"), "{violation}");
        merge([
            &seen(&[event("a", 2), event("b", 2)]),
            &seen(&[event("a", 2)]),
        ])
        .unwrap_err();
    }
}
