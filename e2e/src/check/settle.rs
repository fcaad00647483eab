//! The outcome of calls without an answer, as far as the log tells: so that the search of [`linear`](super::linear)
//! need not try both ways for each of them.
//!
//! Sound because values are unique: a value in the log was written by the one call that has it, and a value that is not in a
//! complete log was written by nobody before the log ends. If the log is wrong the search fails, as it should.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use coord_proto::etcd::mvccpb::Event;

use super::{Violation, is_delete, kv, text};
use crate::history::{Call, Outcome, Reply, Request};

/// The calls, each unanswered one with what the log knows: it happened at this revision, nobody knows when; or it is left
/// out, because it did not. An unanswered deletion stays unknown where the log has one that nobody else made.
pub fn settle(history: &[Call], log: &[Event]) -> Result<Vec<Call>, Violation> {
    let mut written: HashMap<String, i64> = HashMap::new();
    let mut deleted: HashSet<(String, i64)> = HashSet::new();
    for event in log {
        let kv = kv(event)?;
        if is_delete(event) {
            deleted.insert((text(&kv.key), kv.mod_revision));
        } else {
            written.insert(text(&kv.value), kv.mod_revision);
        }
    }
    for call in history {
        // One that found nothing has the revision of the last change: perhaps the deletion it came after.
        if let Request::Delete { key } = &call.request
            && let Outcome::Done {
                revision,
                reply: Reply::Deleted(true),
            } = &call.outcome
        {
            deleted.remove(&(key.clone(), *revision));
        }
    }
    let unexplained: HashSet<String> = deleted.into_iter().map(|(key, _)| key).collect();
    let settled = history.iter().filter_map(|call| {
        if call.outcome != Outcome::Unknown {
            return Some(call.clone());
        }
        let (value, reply) = match &call.request {
            Request::Put { value, .. } => (value, Reply::Put),
            Request::Swap { value, .. } => (value, Reply::Swapped),
            Request::Delete { key } => return unexplained.contains(key).then(|| call.clone()),
            Request::Get { .. } => return None,
        };
        let revision = *written.get(value)?;
        Some(Call {
            ended: Duration::MAX,
            outcome: Outcome::Done { revision, reply },
            ..call.clone()
        })
    });
    Ok(settled.collect())
}

#[cfg(test)]
mod tests {
    use coord_proto::etcd::mvccpb::KeyValue;
    use coord_proto::etcd::mvccpb::event::EventType;

    use super::*;
    use crate::check::linear;

    fn event(kind: EventType, value: &str, revision: i64) -> Event {
        let kv = KeyValue {
            key: "k".into(),
            value: value.to_owned().into(),
            mod_revision: revision,
            ..Default::default()
        };
        Event {
            r#type: kind.into(),
            kv: Some(kv),
            prev_kv: None,
        }
    }

    fn unknown(request: Request) -> Call {
        Call {
            client: 0,
            began: Duration::ZERO,
            ended: Duration::ZERO,
            request,
            outcome: Outcome::Unknown,
        }
    }

    fn put(value: &str) -> Call {
        unknown(Request::Put {
            key: "k".into(),
            value: value.into(),
        })
    }

    #[test]
    fn a_write_in_the_log_happened_and_one_that_is_not_did_not() {
        let log = [event(EventType::Put, "a", 2)];
        let settled = settle(&[put("a"), put("b")], &log).unwrap();
        let outcome = Outcome::Done {
            revision: 2,
            reply: Reply::Put,
        };
        assert_eq!(settled.len(), 1);
        assert_eq!(
            (settled[0].ended, &settled[0].outcome),
            (Duration::MAX, &outcome)
        );
        linear::check(&settled).unwrap();
    }

    #[test]
    fn a_deletion_stays_unknown_only_where_one_is_unexplained() {
        let delete = unknown(Request::Delete { key: "k".into() });
        let log = [event(EventType::Delete, "", 3)];
        assert_eq!(
            settle(std::slice::from_ref(&delete), &log).unwrap().len(),
            1
        );
        let answered = Call {
            outcome: Outcome::Done {
                revision: 3,
                reply: Reply::Deleted(true),
            },
            ..delete.clone()
        };
        assert_eq!(settle(&[delete, answered], &log).unwrap().len(), 1);
    }

    #[test]
    fn a_deletion_that_found_nothing_does_not_explain_one_in_the_log() {
        let delete = unknown(Request::Delete { key: "k".into() });
        let later = Call {
            began: Duration::from_millis(1),
            ended: Duration::from_millis(2),
            outcome: Outcome::Done {
                revision: 3,
                reply: Reply::Deleted(false),
            },
            ..delete.clone()
        };
        let log = [event(EventType::Delete, "", 3)];
        assert_eq!(settle(&[delete, later], &log).unwrap().len(), 2);
    }

    #[test]
    fn a_write_that_a_read_saw_but_the_log_did_not_is_rejected_by_the_search() {
        use crate::history::Version;
        let read = Call {
            began: Duration::from_millis(1),
            ended: Duration::from_millis(2),
            outcome: Outcome::Done {
                revision: 2,
                reply: Reply::Found(Some(Version {
                    value: "a".into(),
                    create_revision: 2,
                    mod_revision: 2,
                    version: 1,
                })),
            },
            ..unknown(Request::Get {
                key: "k".into(),
                is_serializable: false,
            })
        };
        let settled = settle(&[put("a"), read], &[]).unwrap();
        linear::check(&settled).unwrap_err();
    }
}
