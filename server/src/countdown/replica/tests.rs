//! A copy, fed by a leader.

use std::time::Duration;

use super::*;
use crate::command::{Lease, LeaseId, MemberId};
use crate::countdown::broadcast::Broadcast;
use crate::countdown::deadlines::Deadlines;

const LEADERSHIP: LeaderKey = (3, MemberId(1));
const READER: MemberId = MemberId(2);
const A: Counted = Counted::Lease(LeaseId(1));
const B: Counted = Counted::Lease(LeaseId(2));

fn at(start: Moment, millis: u64) -> Moment {
    start.after(Duration::from_millis(millis))
}

fn lease(Counted::Lease(id): Counted, ttl_seconds: i64) -> Lease {
    Lease {
        id,
        ttl_seconds,
        remaining_seconds: 0,
    }
}

/// A leader that has counted one lease of 10 s since `start`.
fn leader(start: Moment) -> Broadcast {
    let mut deadlines = Deadlines::default();
    deadlines.granted(start, lease(A, 10).into());
    Broadcast::open(start, LEADERSHIP, 7, deadlines)
}

fn grant(leader: &mut Broadcast, now: Moment, id: Counted, ttl_seconds: i64, index: u64) {
    let ends = leader.deadlines.granted(now, lease(id, ttl_seconds).into());
    leader.reached(index);
    leader.tell(id, ends);
}

fn ends(table: &Table) -> Vec<(i64, i64)> {
    let mut ends: Vec<_> = table
        .ends
        .iter()
        .map(|(Counted::Lease(id), ends)| (id.0, ends.0))
        .collect();
    ends.sort_unstable();
    ends
}

fn holds(leader: &Broadcast) -> bool {
    leader.holders(leader.last_change()).contains(&READER)
}

#[test]
fn a_copy_follows_the_book() {
    let start = Moment::now();
    let (mut leader, mut replica) = (leader(start), Replica::default());
    assert!(!holds(&leader), "nothing was told yet");
    let delta = leader.delta(start, READER).unwrap();
    assert_eq!(replica.table(start), None);
    leader.acknowledged(READER, replica.take(start, LEADERSHIP, delta));
    assert!(holds(&leader));
    assert_eq!(leader.delta(at(start, 50), READER), None, "nothing is new");

    grant(&mut leader, at(start, 60), B, 5, 9);
    assert!(!holds(&leader));
    let delta = leader.delta(at(start, 60), READER).unwrap();
    assert_eq!(delta.changes.len(), 1);
    leader.acknowledged(READER, replica.take(at(start, 61), LEADERSHIP, delta));
    assert!(holds(&leader));
    let table = replica.table(at(start, 100)).unwrap();
    assert_eq!(ends(&table), [(1, 10_000), (2, 5_060)]);
    assert_eq!((table.leadership, table.through), (LEADERSHIP, 9));
    assert_eq!(table.now, LeaderMillis(100));

    leader.deadlines.ended(A);
    leader.tell(A, None);
    let delta = leader.delta(at(start, 200), READER).unwrap();
    replica.take(at(start, 200), LEADERSHIP, delta);
    assert_eq!(ends(&replica.table(at(start, 200)).unwrap()), [(2, 5_060)]);
}

#[test]
fn what_was_not_acknowledged_is_told_again_and_changes_nothing_twice() {
    let start = Moment::now();
    let (mut leader, mut replica) = (leader(start), Replica::default());
    let lost = leader.delta(start, READER).unwrap();
    replica.take(start, LEADERSHIP, lost);
    grant(&mut leader, start, B, 5, 9);
    let again = leader.delta(start, READER).unwrap();
    assert_eq!((again.from, again.changes.len()), (0, 2));
    let ack = replica.take(start, LEADERSHIP, again);
    assert_eq!(ack, Ack::Taken { copy: 1, upto: 2 });
    leader.acknowledged(READER, ack);
    assert!(holds(&leader));
    assert_eq!(replica.table(start).unwrap().ends.len(), 2);
}

#[test]
fn a_member_that_lost_its_copy_asks_for_all_of_it() {
    let start = Moment::now();
    let (mut leader, mut replica) = (leader(start), Replica::default());
    let delta = leader.delta(start, READER).unwrap();
    leader.acknowledged(READER, replica.take(start, LEADERSHIP, delta));
    replica = Replica::default();
    grant(&mut leader, start, B, 5, 9);
    let delta = leader.delta(start, READER).unwrap();
    let ack = replica.take(start, LEADERSHIP, delta);
    assert_eq!(ack, Ack::Again);
    leader.acknowledged(READER, ack);
    assert!(!holds(&leader));
    let delta = leader.delta(start, READER).unwrap();
    assert_eq!((delta.copy, delta.from, delta.whole), (2, 0, 2));
    leader.acknowledged(READER, replica.take(start, LEADERSHIP, delta));
    assert!(holds(&leader));
}

#[test]
fn a_copy_in_the_making_does_not_take_the_place_of_a_complete_one() {
    let start = Moment::now();
    let (mut old, mut replica) = (leader(start), Replica::default());
    let delta = old.delta(start, READER).unwrap();
    replica.take(start, LEADERSHIP, delta);
    let newer = (4, MemberId(3));
    let mut first = Delta {
        now: LeaderMillis(0),
        through: 9,
        copy: 1,
        whole: 2,
        from: 0,
        changes: vec![(A, Some(LeaderMillis(1)))],
    };
    replica.take(start, newer, first.clone());
    assert_eq!(replica.table(start).unwrap().leadership, LEADERSHIP);
    first.from = 1;
    replica.take(start, newer, first);
    assert_eq!(replica.table(start).unwrap().leadership, newer);
}

#[test]
fn the_fastest_message_tells_the_time() {
    let start = Moment::now();
    let (mut leader, mut replica) = (leader(start), Replica::default());
    let delta = leader.delta(start, READER).unwrap();
    leader.acknowledged(READER, replica.take(at(start, 2), LEADERSHIP, delta));
    grant(&mut leader, at(start, 100), B, 5, 9);
    let slow = leader.delta(at(start, 100), READER).unwrap();
    replica.take(at(start, 9_000), LEADERSHIP, slow);
    let table = replica.table(at(start, 9_000)).unwrap();
    assert_eq!(table.now, LeaderMillis(8_998));
}

#[test]
fn a_copy_that_knows_less_of_the_log_than_the_state_does_not_count() {
    let start = Moment::now();
    let (mut leader, mut replica) = (leader(start), Replica::new(8));
    let delta = leader.delta(start, READER).unwrap();
    leader.acknowledged(READER, replica.take(start, LEADERSHIP, delta));
    assert_eq!(replica.table(start), None);
    leader.reached(8);
    let delta = leader.delta(at(start, 200), READER).unwrap();
    replica.take(at(start, 200), LEADERSHIP, delta);
    assert!(replica.table(start).is_some());
    replica.note(start, LeaseChange::Replaced { upto: 20 });
    assert_eq!(replica.table(start), None);
}

#[test]
fn a_grant_is_noted_until_the_copy_covers_it() {
    let start = Moment::now();
    let (mut leader, mut replica) = (leader(start), Replica::default());
    let granted = |id, index| LeaseChange::Granted {
        lease: lease(id, 10),
        index,
    };
    replica.note(start, granted(A, 7));
    replica.note(start, granted(B, 9));
    let delta = leader.delta(start, READER).unwrap();
    leader.acknowledged(READER, replica.take(start, LEADERSHIP, delta));
    assert_eq!(replica.grants().keys().collect::<Vec<_>>(), [&B]);
    replica.note(start, granted(A, 5));
    assert_eq!(replica.grants().len(), 1, "covered already");
    replica.note(start, LeaseChange::Ended(LeaseId(2)));
    assert!(replica.grants().is_empty());
}

#[test]
fn a_member_that_stays_away_is_told_the_whole_when_it_is_back() {
    let start = Moment::now();
    let mut leader = leader(start);
    let delta = leader.delta(start, READER).unwrap();
    leader.acknowledged(READER, Replica::default().take(start, LEADERSHIP, delta));
    for _ in 0..100_000 {
        leader.tell(A, Some(at(start, 20_000)));
    }
    let delta = leader.delta(start, READER).unwrap();
    assert_eq!((delta.copy, delta.changes.len()), (2, 1));
}
