//! A copy, fed by a book.

use std::time::Duration;

use super::*;
use crate::command::{Lease, MemberId};
use crate::countdown::broadcast::Broadcast;
use crate::countdown::deadlines::Deadlines;

const LEADERSHIP: LeaderKey = (3, MemberId(1));
const READER: MemberId = MemberId(2);
const A: LeaseId = LeaseId(1);
const B: LeaseId = LeaseId(2);

fn at(start: Moment, millis: u64) -> Moment {
    start.after(Duration::from_millis(millis))
}

fn lease(id: LeaseId, ttl_seconds: i64) -> Lease {
    Lease {
        id,
        ttl_seconds,
        remaining_seconds: 0,
    }
}

/// A book that has counted one lease of 10 s since `start`.
fn book(start: Moment) -> Broadcast {
    let mut deadlines = Deadlines::default();
    deadlines.granted(start, lease(A, 10));
    Broadcast::open(start, LEADERSHIP, 7, deadlines)
}

fn grant(book: &mut Broadcast, now: Moment, id: LeaseId, ttl_seconds: i64, index: u64) {
    let ends = book.deadlines.granted(now, lease(id, ttl_seconds));
    book.reached(index);
    book.tell(id, ends);
}

fn ends(table: &LeaseTable) -> Vec<(i64, i64)> {
    let mut ends: Vec<_> = table.ends.iter().map(|(id, ends)| (id.0, ends.0)).collect();
    ends.sort_unstable();
    ends
}

fn holds(book: &Broadcast) -> bool {
    book.holders(book.last_change()).contains(&READER)
}

#[test]
fn a_copy_follows_the_book() {
    let start = Moment::now();
    let (mut book, mut replica) = (book(start), Replica::default());
    assert!(!holds(&book), "nothing was told yet");
    let news = book.news(start, READER).unwrap();
    assert_eq!(replica.table(start), None);
    book.receipt(READER, replica.take(start, news));
    assert!(holds(&book));
    assert_eq!(book.news(at(start, 50), READER), None, "nothing is new");

    grant(&mut book, at(start, 60), B, 5, 9);
    assert!(!holds(&book));
    let news = book.news(at(start, 60), READER).unwrap();
    assert_eq!(news.changes.len(), 1);
    book.receipt(READER, replica.take(at(start, 61), news));
    assert!(holds(&book));
    let table = replica.table(at(start, 100)).unwrap();
    assert_eq!(ends(&table), [(1, 10_000), (2, 5_060)]);
    assert_eq!((table.leadership, table.through), (LEADERSHIP, 9));
    assert_eq!(table.now, LeaderMillis(100));

    book.deadlines.ended(A);
    book.tell(A, None);
    let news = book.news(at(start, 200), READER).unwrap();
    replica.take(at(start, 200), news);
    assert_eq!(ends(&replica.table(at(start, 200)).unwrap()), [(2, 5_060)]);
}

#[test]
fn what_was_not_acknowledged_is_told_again_and_changes_nothing_twice() {
    let start = Moment::now();
    let (mut book, mut replica) = (book(start), Replica::default());
    let lost = book.news(start, READER).unwrap();
    replica.take(start, lost);
    grant(&mut book, start, B, 5, 9);
    let again = book.news(start, READER).unwrap();
    assert_eq!((again.from, again.changes.len()), (0, 2));
    let receipt = replica.take(start, again);
    assert_eq!(receipt, LeaseAck::Taken { copy: 1, upto: 2 });
    book.receipt(READER, receipt);
    assert!(holds(&book));
    assert_eq!(replica.table(start).unwrap().ends.len(), 2);
}

#[test]
fn a_member_that_lost_its_copy_asks_for_all_of_it() {
    let start = Moment::now();
    let (mut book, mut replica) = (book(start), Replica::default());
    let news = book.news(start, READER).unwrap();
    book.receipt(READER, replica.take(start, news));
    replica = Replica::default();
    grant(&mut book, start, B, 5, 9);
    let news = book.news(start, READER).unwrap();
    let receipt = replica.take(start, news);
    assert_eq!(receipt, LeaseAck::Again);
    book.receipt(READER, receipt);
    assert!(!holds(&book));
    let news = book.news(start, READER).unwrap();
    assert_eq!((news.copy, news.from, news.whole), (2, 0, 2));
    book.receipt(READER, replica.take(start, news));
    assert!(holds(&book));
}

#[test]
fn a_copy_in_the_making_does_not_take_the_place_of_a_complete_one() {
    let start = Moment::now();
    let (mut old, mut replica) = (book(start), Replica::default());
    let news = old.news(start, READER).unwrap();
    replica.take(start, news);
    let newer = (4, MemberId(3));
    let mut first = LeaseDelta {
        leadership: newer,
        now: LeaderMillis(0),
        through: 9,
        copy: 1,
        whole: 2,
        from: 0,
        changes: vec![(A, Some(LeaderMillis(1)))],
    };
    replica.take(start, first.clone());
    assert_eq!(replica.table(start).unwrap().leadership, LEADERSHIP);
    first.from = 1;
    replica.take(start, first);
    assert_eq!(replica.table(start).unwrap().leadership, newer);
}

#[test]
fn the_fastest_message_tells_the_time() {
    let start = Moment::now();
    let (mut book, mut replica) = (book(start), Replica::default());
    let news = book.news(start, READER).unwrap();
    book.receipt(READER, replica.take(at(start, 2), news));
    grant(&mut book, at(start, 100), B, 5, 9);
    let slow = book.news(at(start, 100), READER).unwrap();
    replica.take(at(start, 9_000), slow);
    let table = replica.table(at(start, 9_000)).unwrap();
    assert_eq!(table.now, LeaderMillis(8_998));
}

#[test]
fn a_copy_that_knows_less_of_the_log_than_the_state_does_not_count() {
    let start = Moment::now();
    let (mut book, mut replica) = (book(start), Replica::new(8));
    let news = book.news(start, READER).unwrap();
    book.receipt(READER, replica.take(start, news));
    assert_eq!(replica.table(start), None);
    book.reached(8);
    let news = book.news(at(start, 200), READER).unwrap();
    replica.take(at(start, 200), news);
    assert!(replica.table(start).is_some());
    replica.note(start, LeaseChange::Replaced { upto: 20 });
    assert_eq!(replica.table(start), None);
}

#[test]
fn a_grant_is_noted_until_the_copy_covers_it() {
    let start = Moment::now();
    let (mut book, mut replica) = (book(start), Replica::default());
    let granted = |id, index| LeaseChange::Granted {
        lease: lease(id, 10),
        index,
    };
    replica.note(start, granted(A, 7));
    replica.note(start, granted(B, 9));
    let news = book.news(start, READER).unwrap();
    book.receipt(READER, replica.take(start, news));
    assert_eq!(replica.grants().keys().collect::<Vec<_>>(), [&B]);
    replica.note(start, granted(A, 5));
    assert_eq!(replica.grants().len(), 1, "covered already");
    replica.note(start, LeaseChange::Ended(B));
    assert!(replica.grants().is_empty());
}

#[test]
fn a_member_that_stays_away_is_told_the_whole_when_it_is_back() {
    let start = Moment::now();
    let mut book = book(start);
    let news = book.news(start, READER).unwrap();
    book.receipt(READER, Replica::default().take(start, news));
    for _ in 0..100_000 {
        book.tell(A, Some(at(start, 20_000)));
    }
    let news = book.news(start, READER).unwrap();
    assert_eq!((news.copy, news.changes.len()), (2, 1));
}
