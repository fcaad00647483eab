//! The rows that a turn or a slice reads of the disk were named before, to be read where waiting is allowed.

use super::*;
use crate::disk::reads;
use crate::mvcc::CURRENT;

/// Far more than stays in memory (in tests), all of it on disk.
fn large(dir: &std::path::Path) -> (State, Log) {
    let mut state = State::open(dir).unwrap();
    let mut log = Log::new();
    let grant = LeaseCommand::Grant {
        id: LeaseId(7),
        ttl_seconds: 9,
    };
    log.apply(&mut state, Command::Lease(grant));
    for number in 0..3000 {
        let put = Put {
            key: key(number),
            value: PutValue::Set(Bytes::from_static(&[b'v'; 64])),
            lease: PutLease::Set((number % 3 == 0).then_some(LeaseId(7))),
            prev_kv: false,
        };
        log.apply(&mut state, Command::Kv(KvCommand::Put(put)));
    }
    state.persist().blocking_recv().unwrap().unwrap();
    (state, log)
}

fn key(number: usize) -> Bytes {
    Bytes::from(key_of(number))
}

fn between(first: usize, last: usize) -> Keys {
    Keys::Range {
        start: key(first),
        end: Some(key(last)),
    }
}

fn delete(keys: Keys) -> Command {
    Command::Kv(KvCommand::DeleteRange(DeleteRange {
        keys,
        prev_kv: false,
    }))
}

/// The reads in `turn` that were not made ahead of it, and the number of all its reads.
fn uncovered(ahead: Option<&Ahead>, turn: impl FnOnce()) -> (Vec<reads::Read>, usize) {
    reads::take();
    if let Some(ahead) = ahead {
        ahead.read();
    }
    let ahead = reads::take();
    turn();
    let mut read = reads::take();
    let all = read.len();
    read.retain(|read| !ahead.iter().any(|ahead| ahead.covers(read)));
    (read, all)
}

#[test]
fn no_turn_of_applying_reads_what_was_not_read_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, mut log) = large(dir.path());
    let revoke = Command::Lease(LeaseCommand::Revoke { id: LeaseId(7) });
    let puts = (0..60).map(|number| put(&format!("key-{:05}", number * 47), "new"));
    let (mut turns, mut looks) = (0, 0);
    for command in puts
        .chain([delete(between(100, 900)), delete(Keys::One(key(1500)))])
        .chain([revoke])
    {
        log.index += 1;
        let envelope = envelope(log.index, command.clone());
        loop {
            let ahead = state.ahead_of_entries([&envelope]);
            let mut is_whole = false;
            let (read, all) = uncovered(ahead.as_ref(), || {
                let mut turn = Turn::new(&|_| false);
                let applied = state.apply_some(position(log.index), &envelope, &mut turn);
                is_whole = applied.unwrap().is_whole;
            });
            // The leaves of a lease's keys are not known before the keys are read.
            let read = read.iter().filter(|read| match command {
                Command::Lease(_) => read.space == SYSTEM,
                _ => true,
            });
            let read = Vec::from_iter(read);
            assert!(read.is_empty(), "{command:?} reads {read:?}");
            turns += 1;
            looks += all;
            if is_whole {
                break;
            }
        }
    }
    assert!(turns > 100, "most took many: {turns}");
    assert!(looks > 100, "most was not in memory: {looks}");
}

#[test]
fn no_slice_of_an_answer_reads_what_was_not_read_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, mut log) = large(dir.path());
    let then = state.revision();
    for number in (0..3000).step_by(5) {
        log.apply(&mut state, put(&format!("key-{number:05}"), "new"));
    }
    state.persist().blocking_recv().unwrap().unwrap();
    let range = |keys, revision| {
        Query::Range(Range {
            keys,
            revision,
            limit: None,
            sort: (SortTarget::Key, Order::Ascending),
            keys_only: false,
            count_only: false,
            filter: RangeFilter::default(),
        })
    };
    let mut looks = 0;
    for query in [
        range(Keys::One(key(77)), None),
        range(between(200, 260), None),
        range(between(2000, 2060), Some(then)),
    ] {
        let mut slices = 0;
        let mut answer = None;
        loop {
            let ahead = match &answer {
                None => state.ahead_of_query(&query),
                Some(Answer::More(reading)) => state.ahead_of_reading(reading),
                Some(Answer::Done(_)) => break,
            };
            let now = answer.take();
            let (read, all) = uncovered(ahead.as_ref(), || {
                answer = Some(match now {
                    Some(Answer::More(reading)) => state.go_on(reading).unwrap(),
                    _ => state.ask(&Principal::System, &query).unwrap(),
                });
            });
            assert!(read.is_empty(), "slice {slices} of {query:?}: {read:?}");
            slices += 1;
            looks += all;
        }
    }
    assert!(looks > 10, "most was not in memory: {looks}");
}

#[test]
fn a_state_that_is_in_memory_reads_nothing_ahead() {
    let mut state = State::in_memory();
    let mut log = Log::new();
    for number in 0..3000 {
        log.apply(&mut state, put(&format!("key-{number:05}"), "value"));
    }
    assert!(!state.reads_ahead());
    let envelope = envelope(log.index + 1, delete(between(0, 3000)));
    assert!(state.ahead_of_entries([&envelope]).is_none());
}

/// Reads all history to before `upto`, piece by piece, each ahead; answers with the changes and the number of reads.
fn history_with_ahead(state: &State, upto: Revision) -> (usize, usize) {
    let (mut next, mut changes, mut looks) = (Revision(2), 0, 0);
    while next < upto {
        let piece = Piece::Changes { from: next, upto };
        let ahead = state.ahead_of_history([piece], 4096);
        let mut history = None;
        let (read, all) = uncovered(ahead.as_ref(), || {
            history = Some(state.history(next, upto, 4096).unwrap());
        });
        assert!(read.is_empty(), "changes from {next:?}: {read:?}");
        looks += all;
        let large = match history.unwrap() {
            History::Changes { events, next: then } => {
                changes += events.len();
                next = then;
                continue;
            }
            History::Large(large) => large,
        };
        for prevs in [false, true] {
            let mut at = Some(0);
            while let Some(first) = at {
                let places = first..u32::MAX;
                let piece = Piece::Part {
                    large: &large,
                    places: places.clone(),
                    prevs,
                };
                let ahead = state.ahead_of_history([piece], 4096);
                let (read, all) = uncovered(ahead.as_ref(), || {
                    let part = state.part(&large, places, prevs, 4096).unwrap().unwrap();
                    at = part.next;
                    changes += part.changes.len();
                });
                assert!(read.is_empty(), "place {first} of {large:?}: {read:?}");
                looks += all;
            }
        }
        next = large.revision().next();
    }
    (changes, looks)
}

#[test]
fn no_piece_of_history_reads_what_was_not_read_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, mut log) = large(dir.path());
    for number in (0..3000).step_by(5) {
        log.apply(&mut state, put(&format!("key-{number:05}"), "new"));
    }
    log.apply(&mut state, delete(between(100, 900)));
    log.apply(&mut state, delete(Keys::One(key(1500))));
    state.persist().blocking_recv().unwrap().unwrap();
    let (changes, looks) = history_with_ahead(&state, state.revision().next());
    assert_eq!(changes, 3000 + 600 + 2 * 800 + 1);
    assert!(looks > 5000, "most was not in memory: {looks}");
}

#[test]
fn old_versions_are_read_ahead_where_all_current_rows_are_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    let mut log = Log::new();
    for number in 0..1500 {
        log.apply(&mut state, put(&key_of(number % 10), "value"));
    }
    state.persist().blocking_recv().unwrap().unwrap();
    assert!(!state.reads_ahead(), "ten keys are in memory");
    // Recent changes are in memory nearly always.
    let (changes, looks) = history_with_ahead(&state, Revision(1202));
    assert_eq!(changes, 1200);
    assert!(looks > 1000, "old versions are not in memory: {looks}");
    for keys in [
        Keys::One(key(7)),
        Keys::Range {
            start: key(3),
            end: Some(key(6)),
        },
    ] {
        let query = Query::Range(Range {
            keys,
            revision: Some(Revision(700)),
            limit: None,
            sort: (SortTarget::Key, Order::Ascending),
            keys_only: false,
            count_only: false,
            filter: RangeFilter::default(),
        });
        let ahead = state.ahead_of_query(&query);
        let (read, all) = uncovered(ahead.as_ref(), || {
            state.ask(&Principal::System, &query).unwrap();
        });
        assert!(read.is_empty(), "{query:?}: {read:?}");
        assert!(all > 0, "{query:?} looks at old versions");
    }
}

fn key_of(number: usize) -> String {
    format!("key-{number:05}")
}

#[test]
fn a_delete_of_everything_looks_at_leaves_where_their_keys_are() {
    let dir = tempfile::tempdir().unwrap();
    let (mut state, mut log) = large(dir.path());
    log.index += 1;
    let envelope = envelope(log.index, delete(between(0, 3000)));
    let mut starts = Vec::new();
    loop {
        let mut turn = Turn::new(&|_| false);
        reads::take();
        let applied = state.apply_some(position(log.index), &envelope, &mut turn);
        let read = reads::take().into_iter();
        let leaves = read.filter(|read| read.space == CURRENT && read.end.is_some());
        starts.extend(leaves.map(|read| read.start));
        if applied.unwrap().is_whole {
            break;
        }
    }
    let scans = starts.len();
    assert!(scans > 10, "most was not in memory: {scans}");
    // From the beginning they would step over all that was removed by then.
    let at_first = starts.iter().filter(|start| start.is_empty()).count();
    assert!(at_first <= 1, "{at_first} of {scans} began below all keys");
}
