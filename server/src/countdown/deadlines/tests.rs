//! The countdown as a plain value: due times, halvings, ends.

use super::*;
use crate::command::{Lease, LeaseId};

const A: Counted = Counted::Lease(LeaseId(1));
const B: Counted = Counted::Lease(LeaseId(2));

fn lease(Counted::Lease(id): Counted, ttl_seconds: i64, remaining_seconds: i64) -> Record {
    let lease = Lease {
        id,
        ttl_seconds,
        remaining_seconds,
    };
    lease.into()
}

fn nth(id: i64) -> Counted {
    Counted::Lease(LeaseId(id))
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn at(start: Moment, millis: u64) -> Moment {
    start.after(Duration::from_millis(millis))
}

#[test]
fn a_lease_ends_after_its_time_and_not_before() {
    let start = Moment::now();
    let mut deadlines = Deadlines::default();
    deadlines.granted(start, lease(A, 10, 0));
    assert_eq!(deadlines.expire(at(start, 9_999), 10), []);
    assert_eq!(
        deadlines.remaining(at(start, 9_999), A),
        Some(Duration::from_millis(1))
    );
    assert_eq!(deadlines.expire(at(start, 10_000), 10), [A]);
    assert_eq!(deadlines.remaining(at(start, 10_000), A), None);
    deadlines.ended(A);
    assert_eq!(deadlines.len(), 0);
    assert_eq!(deadlines.next(), None);
}

#[test]
fn a_renewal_counts_from_when_it_is_answered() {
    let start = Moment::now();
    let mut deadlines = Deadlines::default();
    deadlines.granted(start, lease(A, 10, 0));
    assert_eq!(deadlines.renew(at(start, 3_000), A), seconds(10));
    assert_eq!(deadlines.expire(at(start, 12_999), 10), []);
    assert_eq!(deadlines.expire(at(start, 13_000), 10), [A]);
}

#[test]
fn a_lease_that_was_given_up_is_never_renewed() {
    let start = Moment::now();
    let mut deadlines = Deadlines::default();
    deadlines.granted(start, lease(A, 2, 0));
    let over = at(start, 2_000);
    assert_eq!(deadlines.renew(over, A), None, "before it was noticed");
    assert_eq!(deadlines.offer(over, A, over), None);
    assert_eq!(deadlines.expire(over, 10), [A]);
    assert_eq!(
        deadlines.expire(at(start, 2_100), 10),
        [],
        "its end is on its way"
    );
    deadlines.retry(&[A, B], at(start, 3_000));
    assert_eq!(deadlines.renew(at(start, 2_500), A), None);
    assert_eq!(deadlines.next(), Some(at(start, 3_000)));
    assert_eq!(deadlines.expire(at(start, 3_000), 10), [A]);
}

#[test]
fn a_lease_that_is_renewed_in_good_time_is_never_recorded() {
    let start = Moment::now();
    let mut deadlines = Deadlines::default();
    deadlines.granted(start, lease(A, 9, 0));
    for turn in 1..100 {
        let now = at(start, turn * 3_000);
        assert_eq!(deadlines.checkpoints(now, 10), []);
        assert_eq!(deadlines.renew(now, A), seconds(9));
    }
}

#[test]
fn an_abandoned_lease_is_recorded_each_time_what_it_has_left_has_halved() {
    let start = Moment::now();
    let mut deadlines = Deadlines::default();
    deadlines.granted(start, lease(A, 3600, 0));
    let mut recorded = Vec::new();
    while let Some(next) = deadlines.next() {
        recorded.extend(
            deadlines
                .checkpoints(next, 10)
                .into_iter()
                .map(|(_, left)| left),
        );
        if deadlines.expire(next, 10) == [A] {
            assert_eq!(next, at(start, 3_600_000));
            break;
        }
    }
    assert_eq!(recorded, [1800, 900, 450, 225, 113, 57, 29, 15, 8, 4, 2]);
}

#[test]
fn the_first_renewal_after_a_record_waits_until_the_full_time_is_on_record() {
    let start = Moment::now();
    let mut deadlines = Deadlines::default();
    deadlines.granted(start, lease(A, 10, 0));
    assert!(!deadlines.is_on_record_with_less(at(start, 4_000), A));
    assert_eq!(deadlines.checkpoints(at(start, 6_000), 10), [(A, 4)]);
    assert!(deadlines.is_on_record_with_less(at(start, 6_500), A));
    deadlines.checkpointed(&lease(A, 10, 4));
    assert!(deadlines.is_on_record_with_less(at(start, 6_600), A));
    deadlines.checkpointed(&lease(A, 10, 0));
    assert!(!deadlines.is_on_record_with_less(at(start, 6_700), A));
    assert_eq!(deadlines.renew(at(start, 7_000), A), seconds(10));
}

#[test]
fn a_new_leader_goes_on_where_it_is_told_to() {
    let start = Moment::now();
    let leases = [
        (lease(A, 60, 0), at(start, 20_000)),
        (lease(B, 60, 5), at(start, 6_000)),
    ];
    let mut deadlines = Deadlines::resume(start, leases);
    assert!(deadlines.is_on_record_with_less(at(start, 1_000), B));
    assert_eq!(
        deadlines.checkpoints(start, 10),
        [(A, 20)],
        "less than half of what is on record"
    );
    assert_eq!(deadlines.expire(at(start, 5_999), 10), []);
    assert_eq!(deadlines.expire(at(start, 6_000), 10), [B]);
    assert_eq!(
        deadlines.granted(at(start, 7_000), lease(A, 60, 0)),
        None,
        "the log only repeats the grant"
    );
    assert_eq!(deadlines.expire(at(start, 19_999), 10), []);
    assert_eq!(deadlines.expire(at(start, 20_000), 10), [A]);
}

#[test]
fn what_is_told_is_never_before_what_is_promised() {
    let start = Moment::now();
    let mut deadlines = Deadlines::default();
    let told = |deadlines: &Deadlines| deadlines.told().next().map(|(_, ends)| ends);
    assert_eq!(
        deadlines.granted(start, lease(A, 10, 0)),
        Some(at(start, 10_000))
    );
    let latest = at(start, 3_500);
    assert_eq!(
        deadlines.offer(at(start, 3_000), A, latest),
        Some(at(start, 13_500))
    );
    assert_eq!(
        deadlines.offer(at(start, 3_000), A, latest),
        None,
        "told already"
    );
    assert_eq!(told(&deadlines), Some(at(start, 13_500)));
    assert_eq!(
        deadlines.remaining(at(start, 3_000), A),
        seconds(7),
        "nothing is promised yet"
    );
    assert_eq!(deadlines.renew(at(start, 3_200), A), seconds(10));
    assert_eq!(told(&deadlines), Some(at(start, 13_500)));
    assert_eq!(deadlines.renew(at(start, 4_000), A), seconds(10));
    assert_eq!(told(&deadlines), Some(at(start, 14_000)));
}

#[test]
fn a_storm_comes_in_batches_longest_overdue_first() {
    let start = Moment::now();
    let mut deadlines = Deadlines::default();
    for id in 1..=5 {
        deadlines.granted(start, lease(nth(id), 20 - id, 0));
    }
    let late = at(start, 60_000);
    assert_eq!(deadlines.expire(late, 2), [5, 4].map(nth));
    assert_eq!(deadlines.expire(late, 9), [3, 2, 1].map(nth));
    assert_eq!(deadlines.len(), 5, "they are there until they have ended");
}
