//! Histories that the checker of revisions must accept or reject.

use coord_proto::etcd::mvccpb::KeyValue;
use coord_proto::etcd::mvccpb::event::EventType;

use super::*;

fn check(history: &[Call], log: &[Event]) -> Result<(), Violation> {
    super::check(history, log, 0)
}

fn written(key: &str, value: &str, created: i64, changed: i64, version: i64) -> Event {
    let kv = KeyValue {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        create_revision: created,
        mod_revision: changed,
        version,
        lease: 0,
    };
    Event {
        r#type: EventType::Put.into(),
        kv: Some(kv),
        prev_kv: None,
    }
}

fn deleted(key: &str, revision: i64) -> Event {
    let kv = KeyValue {
        key: key.to_owned().into(),
        mod_revision: revision,
        ..Default::default()
    };
    Event {
        r#type: EventType::Delete.into(),
        kv: Some(kv),
        prev_kv: None,
    }
}

fn call(began: u64, ended: u64, request: Request, outcome: Outcome) -> Call {
    Call {
        client: 0,
        began: Duration::from_millis(began),
        ended: Duration::from_millis(ended),
        request,
        outcome,
    }
}

fn put(at: u64, key: &str, value: &str, revision: Option<i64>) -> Call {
    let outcome = revision.map_or(Outcome::Unknown, |revision| Outcome::Done {
        revision,
        reply: Reply::Put,
    });
    call(
        at,
        at + 1,
        Request::Put {
            key: key.into(),
            value: value.into(),
        },
        outcome,
    )
}

fn delete(at: u64, key: &str, revision: i64) -> Call {
    let outcome = Outcome::Done {
        revision,
        reply: Reply::Deleted(true),
    };
    call(at, at + 1, Request::Delete { key: key.into() }, outcome)
}

fn get(at: u64, key: &str, revision: i64, found: Option<(&str, i64, i64, i64)>) -> Call {
    let found = found.map(|(value, create_revision, mod_revision, version)| Version {
        value: value.into(),
        create_revision,
        mod_revision,
        version,
    });
    let request = Request::Get {
        key: key.into(),
        is_serializable: false,
    };
    call(
        at,
        at + 1,
        request,
        Outcome::Done {
            revision,
            reply: Reply::Found(found),
        },
    )
}

/// a=1, b=2, a=3, then b deleted.
fn good() -> (Vec<Call>, Vec<Event>) {
    let calls = vec![
        put(0, "a", "1", Some(2)),
        put(10, "b", "2", Some(3)),
        get(20, "a", 3, Some(("1", 2, 2, 1))),
        put(30, "a", "3", None),
        delete(40, "b", 5),
        get(50, "a", 5, Some(("3", 2, 4, 2))),
        get(60, "b", 5, None),
    ];
    let log = vec![
        written("a", "1", 2, 2, 1),
        written("b", "2", 3, 3, 1),
        written("a", "3", 2, 4, 2),
        deleted("b", 5),
    ];
    (calls, log)
}

#[test]
fn a_history_that_agrees_with_its_log_passes() {
    let (calls, log) = good();
    check(&calls, &log).unwrap();
}

#[test]
fn an_unanswered_write_may_be_missing() {
    let log = [written("a", "1", 2, 2, 1)];
    check(&[put(0, "a", "1", Some(2)), put(10, "a", "2", None)], &log).unwrap();
}

#[test]
fn an_acknowledged_write_missing_from_the_log_is_rejected() {
    let (calls, mut log) = good();
    log.pop();
    assert!(
        check(&calls, &log)
            .unwrap_err()
            .0
            .contains("acknowledged, but not in the log")
    );
}

#[test]
fn a_write_at_another_revision_than_acknowledged_is_rejected() {
    let log = [written("a", "1", 3, 3, 1)];
    check(&[put(0, "a", "1", Some(2))], &log).unwrap_err();
}

#[test]
fn an_event_that_nobody_caused_is_rejected() {
    let (calls, mut log) = good();
    log.push(written("c", "x", 6, 6, 1));
    assert!(
        check(&calls, &log)
            .unwrap_err()
            .0
            .contains("nobody can have written")
    );
    let (calls, mut log) = good();
    log.push(deleted("a", 6));
    assert!(
        check(&calls, &log)
            .unwrap_err()
            .0
            .contains("nobody can have done")
    );
}

#[test]
fn a_write_that_happened_twice_is_rejected() {
    let (calls, mut log) = good();
    log.push(written("a", "3", 2, 6, 3));
    assert!(
        check(&calls, &log)
            .unwrap_err()
            .0
            .contains("was written at")
    );
}

#[test]
fn a_read_that_differs_from_its_revision_is_rejected() {
    let (mut calls, log) = good();
    calls.push(get(70, "a", 5, Some(("1", 2, 2, 1))));
    assert!(check(&calls, &log).unwrap_err().0.contains("the log has"));
}

#[test]
fn a_read_behind_what_was_answered_before_is_rejected() {
    let (mut calls, log) = good();
    // True at revision 3, but 5 had been answered.
    calls.push(get(70, "a", 3, Some(("1", 2, 2, 1))));
    assert!(
        check(&calls, &log)
            .unwrap_err()
            .0
            .contains("was answered before it began")
    );
}

#[test]
fn a_serializable_read_behind_is_fine_but_not_a_wrong_one() {
    let stale = |found| {
        let (mut calls, log) = good();
        let mut read = get(70, "a", 3, Some(found));
        read.request = Request::Get {
            key: "a".into(),
            is_serializable: true,
        };
        calls.push(read);
        check(&calls, &log)
    };
    stale(("1", 2, 2, 1)).unwrap();
    stale(("3", 2, 4, 2)).unwrap_err();
}

#[test]
fn an_unanswered_write_before_its_time_is_rejected() {
    // Its event is at 2, yet 3 was answered before it was sent.
    let log = [written("a", "late", 2, 2, 1), written("b", "1", 3, 3, 1)];
    check(
        &[put(0, "b", "1", Some(3)), put(10, "a", "late", None)],
        &log,
    )
    .unwrap_err();
}

#[test]
fn a_log_with_wrong_versions_is_rejected() {
    let calls = [put(0, "a", "1", Some(2)), put(10, "a", "2", Some(3))];
    check(
        &calls,
        &[written("a", "1", 2, 2, 1), written("a", "2", 3, 3, 1)],
    )
    .unwrap_err();
    check(
        &calls,
        &[written("a", "2", 2, 3, 2), written("a", "1", 2, 2, 1)],
    )
    .unwrap_err();
}

#[test]
fn a_swap_over_another_revision_than_expected_is_rejected() {
    let swap = |expected| {
        let request = Request::Swap {
            key: "a".into(),
            expected,
            value: "2".into(),
        };
        call(
            10,
            11,
            request,
            Outcome::Done {
                revision: 3,
                reply: Reply::Swapped,
            },
        )
    };
    let log = [written("a", "1", 2, 2, 1), written("a", "2", 2, 3, 2)];
    check(&[put(0, "a", "1", Some(2)), swap(2)], &log).unwrap();
    check(&[put(0, "a", "1", Some(2)), swap(0)], &log).unwrap_err();
}

#[test]
fn a_read_beyond_the_log_is_rejected_unless_other_keys_changed_since() {
    let log = [written("a", "1", 2, 2, 1)];
    let calls = [
        put(0, "a", "1", Some(2)),
        get(10, "a", 4, Some(("1", 2, 2, 1))),
    ];
    assert!(
        check(&calls, &log)
            .unwrap_err()
            .0
            .contains("the log ends at 2")
    );
    super::check(&calls, &log, 4).unwrap();
}

fn held(key: &str, value: &str, changed: i64, lease: i64) -> Event {
    let mut event = written(key, value, changed, changed, 1);
    event.kv.as_mut().unwrap().lease = lease;
    event
}

/// Two keys under lease 7, one under lease 8; lease 7 ends at 5.
fn leased() -> (Vec<Call>, Vec<Event>) {
    let calls = vec![
        put(0, "a", "1", Some(2)),
        put(10, "b", "2", Some(3)),
        put(20, "c", "3", Some(4)),
        get(40, "a", 5, None),
        get(50, "c", 5, Some(("3", 4, 4, 1))),
    ];
    let log = vec![
        held("a", "1", 2, 7),
        held("b", "2", 3, 7),
        held("c", "3", 4, 8),
        deleted("a", 5),
        deleted("b", 5),
    ];
    (calls, log)
}

#[test]
fn keys_that_go_with_their_lease_need_no_call() {
    let (calls, log) = leased();
    check(&calls, &log).unwrap();
}

#[test]
fn a_lease_that_ends_without_all_its_keys_is_rejected() {
    let (calls, mut log) = leased();
    log.pop();
    let violation = check(&calls, &log).unwrap_err();
    assert!(violation.0.contains("still holds [\"b\"]"), "{violation}");
    log.push(deleted("b", 6));
    let violation = check(&calls, &log).unwrap_err();
    assert!(violation.0.contains("still holds"), "{violation}");
}

#[test]
fn a_key_that_comes_under_a_lease_after_its_end_is_rejected() {
    let (mut calls, mut log) = leased();
    calls.push(put(60, "d", "4", Some(6)));
    log.push(held("d", "4", 6, 7));
    let violation = check(&calls, &log).unwrap_err();
    assert!(violation.0.contains("which ended at"), "{violation}");
}

#[test]
fn a_key_of_no_lease_does_not_go_by_itself() {
    let (calls, mut log) = leased();
    log[1] = written("b", "2", 3, 3, 1);
    let violation = check(&calls, &log).unwrap_err();
    assert!(violation.0.contains("nobody can have done"), "{violation}");
}

#[test]
fn a_key_that_its_lease_gave_up_is_not_read_later() {
    let (mut calls, log) = leased();
    calls.push(get(60, "b", 5, Some(("2", 3, 3, 1))));
    check(&calls, &log).unwrap_err();
}
