//! Histories that the checker of watches must accept or reject.

use coord_proto::etcd::mvccpb::event::EventType;

use super::*;

fn kv_at(key: &str, value: &str, changed: i64, version: i64) -> KeyValue {
    KeyValue {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        create_revision: changed - version + 1,
        mod_revision: changed,
        version,
        lease: 0,
    }
}

fn put(key: &str, value: &str, changed: i64, version: i64) -> Event {
    Event {
        r#type: EventType::Put.into(),
        kv: Some(kv_at(key, value, changed, version)),
        prev_kv: None,
    }
}

fn delete(key: &str, revision: i64) -> Event {
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

/// a1=2, a1=3, {a1, a2, b} in revision 4, a1 deleted at 5, b at 6.
fn log() -> Vec<Event> {
    vec![
        put("a1", "x", 2, 1),
        put("a1", "y", 3, 2),
        put("a1", "z", 4, 3),
        put("a2", "z", 4, 1),
        put("b", "z", 4, 1),
        delete("a1", 5),
        put("b", "w", 6, 2),
    ]
}

fn response(header: i64, events: &[Event]) -> pb::WatchResponse {
    let header = pb::ResponseHeader {
        revision: header,
        ..Default::default()
    };
    pb::WatchResponse {
        header: Some(header),
        events: events.to_vec(),
        ..Default::default()
    }
}

fn request() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        key: "a".into(),
        range_end: "b".into(),
        ..Default::default()
    }
}

fn seen(start: i64, responses: &[pb::WatchResponse]) -> Seen {
    Seen {
        request: request(),
        start,
        responses: responses.to_vec(),
    }
}

/// All events of keys that start with "a", a revision each response.
fn whole() -> Vec<pb::WatchResponse> {
    let log = log();
    vec![
        response(2, &log[0..1]),
        response(3, &log[1..2]),
        response(4, &log[2..4]),
        response(5, &log[5..6]),
        response(6, &[]),
    ]
}

#[track_caller]
fn rejected(seen: &Seen, why: &str) {
    let violation = check(seen, &log()).unwrap_err();
    assert!(violation.0.contains(why), "{violation}");
}

#[test]
fn a_whole_watch_passes_however_it_is_cut() {
    check(&seen(2, &whole()), &log()).unwrap();
    check(&seen(2, &whole()[..2]), &log()).unwrap();
    let log = log();
    let at_once = response(6, &[&log[0..4], &log[5..6]].concat());
    check(&seen(2, &[at_once]), &log).unwrap();
    check(&seen(4, &whole()[2..]), &log).unwrap();
}

#[test]
fn a_missing_event_is_rejected() {
    let mut responses = whole();
    responses.remove(1);
    rejected(&seen(2, &responses), "where a1=y@3 was next");
}

#[test]
fn a_missing_first_event_is_rejected() {
    rejected(&seen(2, &whole()[1..]), "where a1=x@2 was next");
}

#[test]
fn an_event_twice_is_rejected() {
    let mut responses = whole();
    responses.insert(1, responses[0].clone());
    rejected(&seen(2, &responses), "after everything up to 2");
}

#[test]
fn events_out_of_order_are_rejected() {
    let mut responses = whole();
    responses.swap(0, 1);
    rejected(&seen(2, &responses), "where a1=x@2 was next");
    let log = log();
    let reversed = response(4, &[log[3].clone(), log[2].clone()]);
    rejected(&seen(4, &[reversed]), "where a1=z@4 was next");
}

#[test]
fn a_split_revision_is_rejected() {
    let log = log();
    let split = [response(4, &log[2..3]), response(4, &log[3..4])];
    rejected(&seen(4, &split), "revision 4 was split");
}

#[test]
fn an_event_of_another_key_is_rejected() {
    let log = log();
    rejected(&seen(4, &[response(4, &log[2..5])]), "sent b=z@4");
}

#[test]
fn an_event_before_the_start_is_rejected() {
    rejected(&seen(3, &whole()), "before the start at 3");
}

#[test]
fn a_changed_event_is_rejected() {
    let mut responses = whole();
    responses[1].events = vec![put("a1", "other", 3, 2)];
    rejected(&seen(2, &responses), "where a1=y@3 was next");
}

#[test]
fn progress_ahead_of_an_event_is_rejected() {
    let mut responses = whole();
    responses.insert(1, response(3, &[]));
    rejected(&seen(2, &responses), "progress at 3 overtook");
}

#[test]
fn a_header_behind_its_events_is_rejected() {
    let log = log();
    rejected(&seen(2, &[response(1, &log[0..1])]), "a header at 1");
}

#[test]
fn filtered_events_are_neither_owed_nor_allowed() {
    let mut deletes = seen(2, &[response(5, &[delete("a1", 5)])]);
    deletes.request.filters = vec![FilterType::Noput.into()];
    check(&deletes, &log()).unwrap();
    let mut puts = seen(2, &whole());
    puts.request.filters = vec![FilterType::Nodelete.into()];
    rejected(&puts, "where nothing was next");
}

#[test]
fn a_wrong_or_missing_previous_value_is_rejected() {
    let with_previous = |previous: Option<KeyValue>| {
        let event = Event {
            prev_kv: previous,
            ..put("a1", "y", 3, 2)
        };
        let mut seen = seen(3, &[response(3, &[event])]);
        seen.request.prev_kv = true;
        seen
    };
    check(&with_previous(Some(kv_at("a1", "x", 2, 1))), &log()).unwrap();
    rejected(&with_previous(None), "but before was");
    rejected(
        &with_previous(Some(kv_at("a1", "y", 3, 2))),
        "but before was",
    );
    // Gone if the store was compacted up to the event or further; a wrong one is never right.
    check_beside(&with_previous(None), &log(), |_| 3).unwrap();
    check_beside(&with_previous(None), &log(), |_| 2).unwrap_err();
    let wrong = with_previous(Some(kv_at("a1", "y", 3, 2)));
    check_beside(&wrong, &log(), |_| 3).unwrap_err();
}

#[test]
fn a_previous_value_of_a_creation_is_rejected() {
    let event = Event {
        prev_kv: Some(kv_at("a1", "old", 1, 1)),
        ..put("a1", "x", 2, 1)
    };
    let mut created = seen(2, &[response(2, &[event])]);
    created.request.prev_kv = true;
    rejected(&created, "creates its key");
}
