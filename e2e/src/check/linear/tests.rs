//! Histories that the linearizability checker must accept or reject.

use super::*;

/// A call from `began` to `ended` milliseconds.
fn call(began: u64, ended: u64, request: Request, outcome: Outcome) -> Call {
    Call {
        client: 0,
        began: Duration::from_millis(began),
        ended: Duration::from_millis(ended),
        request,
        outcome,
    }
}

fn put(began: u64, ended: u64, value: &str, revision: i64) -> Call {
    let request = Request::Put {
        key: "k".into(),
        value: value.into(),
    };
    call(
        began,
        ended,
        request,
        Outcome::Done {
            revision,
            reply: Reply::Put,
        },
    )
}

fn unknown_put(began: u64, value: &str) -> Call {
    call(
        began,
        began,
        Request::Put {
            key: "k".into(),
            value: value.into(),
        },
        Outcome::Unknown,
    )
}

fn delete(began: u64, ended: u64, existed: bool) -> Call {
    let outcome = Outcome::Done {
        revision: 0,
        reply: Reply::Deleted(existed),
    };
    call(began, ended, Request::Delete { key: "k".into() }, outcome)
}

/// A read of `value`, written as the `version`th since revision `create`, at revision `changed`.
fn get(began: u64, ended: u64, found: Option<(&str, i64, i64, i64)>) -> Call {
    let request = Request::Get {
        key: "k".into(),
        is_serializable: false,
    };
    call(
        began,
        ended,
        request,
        Outcome::Done {
            revision: 99,
            reply: Reply::Found(found.map(version)),
        },
    )
}

fn version((value, create_revision, mod_revision, version): (&str, i64, i64, i64)) -> Version {
    Version {
        value: value.into(),
        create_revision,
        mod_revision,
        version,
    }
}

fn swap(began: u64, ended: u64, expected: i64, value: &str, outcome: Outcome) -> Call {
    call(
        began,
        ended,
        Request::Swap {
            key: "k".into(),
            expected,
            value: value.into(),
        },
        outcome,
    )
}

fn swapped(revision: i64) -> Outcome {
    Outcome::Done {
        revision,
        reply: Reply::Swapped,
    }
}

fn not_swapped(found: Option<(&str, i64, i64, i64)>) -> Outcome {
    Outcome::Done {
        revision: 99,
        reply: Reply::NotSwapped(found.map(version)),
    }
}

#[test]
fn calls_one_after_the_other_are_linearizable() {
    check(&[
        get(0, 1, None),
        put(2, 3, "a", 2),
        get(4, 5, Some(("a", 2, 2, 1))),
        put(6, 7, "b", 3),
        get(8, 9, Some(("b", 2, 3, 2))),
        delete(10, 11, true),
        delete(12, 13, false),
        get(14, 15, None),
        put(16, 17, "c", 6),
        get(18, 19, Some(("c", 6, 6, 1))),
    ])
    .unwrap();
}

#[test]
fn a_read_beside_a_write_may_see_it_or_not() {
    for found in [None, Some(("a", 2, 2, 1))] {
        check(&[put(0, 10, "a", 2), get(5, 6, found)]).unwrap();
    }
}

#[test]
fn keys_do_not_bind_each_other() {
    let other = call(
        0,
        1,
        Request::Put {
            key: "other".into(),
            value: "x".into(),
        },
        Outcome::Done {
            revision: 2,
            reply: Reply::Put,
        },
    );
    check(&[other, get(2, 3, None)]).unwrap();
}

#[test]
fn an_unanswered_write_may_happen_late_or_never() {
    check(&[
        unknown_put(0, "a"),
        get(1, 2, None),
        get(3, 4, Some(("a", 2, 2, 1))),
    ])
    .unwrap();
    check(&[
        unknown_put(0, "a"),
        put(1, 2, "b", 2),
        get(3, 4, Some(("b", 2, 2, 1))),
    ])
    .unwrap();
    check(&[unknown_put(0, "a"), get(1, 2, None), get(3, 4, None)]).unwrap();
}

#[test]
fn a_stale_read_is_rejected() {
    let violation = check(&[
        put(0, 1, "a", 2),
        put(2, 3, "b", 3),
        get(4, 5, Some(("a", 2, 2, 1))),
    ])
    .unwrap_err();
    assert!(
        violation.0.contains("key k") && violation.0.contains("after 2 of them"),
        "{violation}"
    );
}

#[test]
fn a_lost_write_is_rejected() {
    check(&[put(0, 1, "a", 2), get(2, 3, None)]).unwrap_err();
    check(&[put(0, 1, "a", 2), put(2, 3, "b", 3), delete(4, 5, false)]).unwrap_err();
}

#[test]
fn a_write_seen_then_unseen_is_rejected() {
    check(&[
        unknown_put(0, "a"),
        get(1, 2, Some(("a", 2, 2, 1))),
        get(3, 4, None),
    ])
    .unwrap_err();
}

#[test]
fn an_unanswered_write_that_happens_twice_is_rejected() {
    check(&[
        unknown_put(0, "a"),
        get(1, 2, Some(("a", 2, 2, 1))),
        put(3, 4, "b", 3),
        get(5, 6, Some(("a", 2, 4, 3))),
    ])
    .unwrap_err();
}

#[test]
fn a_write_from_the_future_is_rejected() {
    check(&[get(0, 1, Some(("a", 2, 2, 1))), put(2, 3, "a", 2)]).unwrap_err();
}

#[test]
fn a_value_that_nobody_wrote_is_rejected() {
    check(&[put(0, 1, "a", 2), get(2, 3, Some(("x", 2, 2, 1)))]).unwrap_err();
}

#[test]
fn wrong_fields_of_a_read_are_rejected() {
    for wrong in [("b", 3, 3, 2), ("b", 2, 4, 2), ("b", 2, 3, 1)] {
        check(&[put(0, 1, "a", 2), put(2, 3, "b", 3), get(4, 5, Some(wrong))]).unwrap_err();
    }
}

#[test]
fn revisions_that_go_backwards_on_a_key_are_rejected() {
    check(&[put(0, 1, "a", 5), put(2, 3, "b", 4)]).unwrap_err();
}

#[test]
fn two_winners_of_one_swap_are_rejected() {
    check(&[
        swap(0, 10, 0, "a", swapped(2)),
        swap(0, 10, 0, "b", not_swapped(Some(("a", 2, 2, 1)))),
    ])
    .unwrap();
    check(&[
        swap(0, 10, 0, "a", swapped(2)),
        swap(0, 10, 0, "b", swapped(3)),
    ])
    .unwrap_err();
}

#[test]
fn a_lost_update_is_rejected() {
    let start = put(0, 1, "a", 2);
    let first = swap(2, 10, 2, "b", swapped(3));
    check(&[
        start.clone(),
        first.clone(),
        swap(2, 10, 2, "c", swapped(4)),
    ])
    .unwrap_err();
    check(&[start, first, swap(11, 12, 3, "c", swapped(4))]).unwrap();
}

#[test]
fn a_swap_that_failed_for_nothing_is_rejected() {
    check(&[
        put(0, 1, "a", 2),
        swap(2, 3, 2, "b", not_swapped(Some(("a", 2, 2, 1)))),
    ])
    .unwrap_err();
    check(&[put(0, 1, "a", 2), swap(2, 3, 7, "b", not_swapped(None))]).unwrap_err();
}

#[test]
fn a_serializable_read_may_be_stale() {
    let mut stale = get(4, 5, Some(("a", 2, 2, 1)));
    stale.request = Request::Get {
        key: "k".into(),
        is_serializable: true,
    };
    check(&[put(0, 1, "a", 2), put(2, 3, "b", 3), stale]).unwrap();
}

#[test]
fn many_calls_at_once_are_ordered_without_trying_every_order() {
    // 14 writes at once of which a read saw one: 14! orders, of which the memory of failures spares almost all.
    let mut history: Vec<_> = (0..14)
        .map(|number| put(0, 1000, &format!("v{number}"), 0))
        .collect();
    for (number, call) in history.iter_mut().enumerate() {
        call.outcome = Outcome::Done {
            revision: number as i64 + 2,
            reply: Reply::Put,
        };
    }
    history.push(get(1001, 1002, Some(("v13", 2, 15, 14))));
    check(&history).unwrap();
    history.push(get(1003, 1004, Some(("v12", 2, 14, 13))));
    check(&history).unwrap_err();
}

#[test]
fn a_search_that_gets_out_of_hand_is_given_up_and_says_so() {
    let mut history: Vec<Call> = (0..12)
        .map(|number| unknown_put(0, &number.to_string()))
        .collect();
    history.push(get(1, 2, Some(("nobody's", 9, 9, 1))));
    let tried = check_within(&history, 1_000_000).unwrap_err();
    assert!(tried.0.contains("no order explains"), "{tried:?}");
    let given_up = check_within(&history, 1_000).unwrap_err();
    assert!(given_up.0.contains("was given up"), "{given_up:?}");
}

#[test]
fn an_empty_history_proves_nothing() {
    require_volume(&[], 1).unwrap_err();
    require_volume(&[put(0, 1, "a", 2)], 1).unwrap();
}
