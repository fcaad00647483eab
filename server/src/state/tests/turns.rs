//! Entries that take many turns, answers that take many slices, and what a crash leaves of them.

use super::*;
use crate::disk::{Scan, Space};

/// All rows but those that say where the state stands.
fn rows(state: &State) -> Vec<(Space, Bytes, Bytes)> {
    let mut all = Vec::new();
    let rows = state.disk.rows();
    for space in LAYOUT.spaces() {
        rows.scan(space, &[], None, &mut |key, value| {
            let copy = Bytes::copy_from_slice;
            all.push((space, copy(key), copy(value)));
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    all
}

fn all_keys() -> Keys {
    Keys::Range {
        start: Bytes::from_static(b"\0"),
        end: None,
    }
}

fn delete(keys: Keys) -> DeleteRange {
    DeleteRange {
        keys,
        prev_kv: true,
    }
}

fn attach(key: &str, id: LeaseId) -> Command {
    Command::Kv(KvCommand::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: PutValue::Set(Bytes::from_static(b"leased")),
        lease: PutLease::Set(Some(id)),
        prev_kv: false,
    }))
}

#[test]
fn what_is_applied_does_not_depend_on_who_waits() {
    for seed in 0..10 {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut model = Model::new();
        let mut states = [State::in_memory(), State::in_memory()];
        for index in 1..300 {
            let command = model.random_command(&mut random);
            let _ = model.apply(&command);
            let envelope = envelope(index, command);
            for (waits, state) in [true, false].into_iter().zip(&mut states) {
                loop {
                    let is_wanted = |_: &ProposalId| waits;
                    let mut turn = Turn::new(&is_wanted);
                    let applied = state.apply_some(position(index), &envelope, &mut turn);
                    let applied = applied.unwrap();
                    assert!(waits || applied.outcomes.is_empty());
                    if applied.is_whole {
                        break;
                    }
                }
            }
            assert_eq!(rows(&states[0]), rows(&states[1]));
        }
    }
}

#[test]
fn a_revision_that_a_crash_cut_short_is_undone_and_applied_again() {
    let id = LeaseId(7);
    let txn = Command::Kv(KvCommand::Txn(Txn {
        compares: Vec::new(),
        success: vec![
            Op::Put(Put {
                key: Bytes::from_static(b"Z-new"),
                value: PutValue::Set(Bytes::from_static(b"1")),
                lease: PutLease::Set(Some(id)),
                prev_kv: false,
            }),
            Op::Put(Put {
                key: Bytes::from_static(b"Z-old"),
                value: PutValue::Set(Bytes::from_static(b"2")),
                lease: PutLease::Set(Some(id)),
                prev_kv: false,
            }),
            Op::DeleteRange(delete(Keys::Range {
                start: Bytes::from_static(b"a"),
                end: None,
            })),
        ],
        failure: Vec::new(),
    }));
    let expire = Command::Lease(LeaseCommand::Expire {
        term: 1,
        ids: vec![LeaseId(5), id],
    });
    for command in [
        Command::Kv(KvCommand::DeleteRange(delete(all_keys()))),
        Command::Lease(LeaseCommand::Revoke { id }),
        txn,
        expire,
    ] {
        for turns in 1.. {
            let dir = tempfile::tempdir().unwrap();
            let mut state = State::open(dir.path()).unwrap();
            let mut log = Log::new();
            let (grant, other) = (
                Command::Lease(LeaseCommand::Grant { id, ttl_seconds: 9 }),
                Command::Lease(LeaseCommand::Grant {
                    id: LeaseId(5),
                    ttl_seconds: 9,
                }),
            );
            log.apply(&mut state, grant);
            log.apply(&mut state, other);
            log.apply(&mut state, put("Z-old", "0"));
            for number in 0..10 {
                log.apply(&mut state, put(&format!("k{number}"), "x"));
                log.apply(&mut state, attach(&format!("l{number}"), id));
                log.apply(&mut state, attach(&format!("m{number}"), LeaseId(5)));
            }
            let before = rows(&state);
            let revision = state.revision();
            // A put in front of it in the same entry: it must not be done twice.
            let mut envelope = envelope(log.index + 1, put("first", "1"));
            let second = super::envelope(log.index + 1, command.clone());
            envelope.proposals.extend(second.proposals);
            let at = position(log.index + 1);
            let mut is_whole = false;
            for _ in 0..turns {
                if is_whole {
                    break;
                }
                let mut turn = Turn::new(&|_| true);
                is_whole = state.apply_some(at, &envelope, &mut turn).unwrap().is_whole;
            }
            // Everything that was written until now reaches the disk, and nothing after it.
            state.persist().blocking_recv().unwrap().unwrap();
            let ended = state.revision();
            drop(state);
            let mut state = State::open(dir.path()).unwrap();
            if is_whole {
                break;
            }
            assert_eq!(state.revision(), ended, "{command:?}, {turns} turns");
            assert!(ended > revision, "the put is through");
            if ended == revision.next() {
                let keys = |rows: &[(Space, Bytes, Bytes)]| -> Vec<_> {
                    let rows = rows.iter().filter(|(space, key, _)| {
                        *space == mvcc::CURRENT || (*space == SYSTEM && key[0] == b'A')
                    });
                    rows.map(|(_, key, row)| (key.clone(), row.clone()))
                        .filter(|(key, _)| key.as_ref() != b"first")
                        .collect()
                };
                assert_eq!(
                    keys(&rows(&state)),
                    keys(&before),
                    "{command:?}, {turns} turns"
                );
            }
            assert!(state.apply(at, &envelope).unwrap().is_whole);

            // As one that never stopped.
            let mut other = State::in_memory();
            let mut log = Log::new();
            let grants = [id, LeaseId(5)]
                .map(|id| Command::Lease(LeaseCommand::Grant { id, ttl_seconds: 9 }));
            for grant in grants {
                log.apply(&mut other, grant);
            }
            log.apply(&mut other, put("Z-old", "0"));
            for number in 0..10 {
                log.apply(&mut other, put(&format!("k{number}"), "x"));
                log.apply(&mut other, attach(&format!("l{number}"), id));
                log.apply(&mut other, attach(&format!("m{number}"), LeaseId(5)));
            }
            assert!(other.apply(at, &envelope).unwrap().is_whole);
            assert_eq!(rows(&state), rows(&other), "{command:?}, {turns} turns");
        }
    }
}

/// A branch of puts, deletes and ranges that is allowed.
fn random_branch(random: &mut StdRng) -> Vec<Op> {
    let mut put = std::collections::BTreeSet::new();
    let mut deleted: Vec<Keys> = Vec::new();
    let mut ops = Vec::new();
    for _ in 0..random.random_range(1..8) {
        match random.random_range(0..4) {
            0 => {
                let Keys::One(key) = one_key(random) else {
                    continue;
                };
                if deleted.iter().all(|keys| !keys.contains(&key)) && put.insert(key.clone()) {
                    let value = random.random_range(0..9_u32).to_string();
                    ops.push(Op::Put(Put {
                        key,
                        value: PutValue::Set(Bytes::from(value)),
                        lease: PutLease::Set(None),
                        prev_kv: random.random_bool(0.5),
                    }));
                }
            }
            1 => {
                let keys = model::random_keys(random);
                if put.iter().all(|key| !keys.contains(key)) {
                    deleted.push(keys.clone());
                    ops.push(Op::DeleteRange(DeleteRange {
                        keys,
                        prev_kv: random.random_bool(0.7),
                    }));
                }
            }
            _ => ops.push(Op::Range(Range {
                sort: random_sort(random),
                count_only: random.random_bool(0.2),
                limit: random.random_bool(0.4).then(|| random.random_range(1..5)),
                ..range(model::random_keys(random), None, None)
            })),
        }
    }
    ops
}

fn one_key(random: &mut StdRng) -> Keys {
    loop {
        if let keys @ Keys::One(_) = model::random_keys(random) {
            return keys;
        }
    }
}

fn random_sort(random: &mut StdRng) -> (SortTarget, Order) {
    let targets = [
        SortTarget::Key,
        SortTarget::Key,
        SortTarget::Version,
        SortTarget::Create,
        SortTarget::Mod,
        SortTarget::Value,
    ];
    let order = match random.random_bool(0.5) {
        true => Order::Ascending,
        false => Order::Descending,
    };
    (targets[random.random_range(0..targets.len())], order)
}

/// Sorts and cuts pairs in key order as a range says.
fn arranged(mut kvs: Vec<KeyValue>, range: &Range) -> RangeResponse {
    let count = kvs.len() as u64;
    if range.count_only {
        return RangeResponse {
            count,
            ..RangeResponse::default()
        };
    }
    kvs.retain(|kv| {
        let filter = range.filter;
        filter.min_mod.is_none_or(|bound| kv.mod_revision >= bound)
            && filter
                .max_create
                .is_none_or(|bound| kv.create_revision <= bound)
    });
    let (target, order) = range.sort;
    kvs.sort_by(|one, other| {
        let ordering = match target {
            SortTarget::Key => one.key.cmp(&other.key),
            SortTarget::Version => one.version.cmp(&other.version),
            SortTarget::Create => one.create_revision.cmp(&other.create_revision),
            SortTarget::Mod => one.mod_revision.cmp(&other.mod_revision),
            SortTarget::Value => one.value.cmp(&other.value),
        };
        match order {
            Order::Ascending => ordering,
            Order::Descending => ordering.reverse(),
        }
    });
    let limit = range
        .limit
        .map_or(usize::MAX, |limit| usize::try_from(limit).unwrap());
    let more = kvs.len() > limit;
    kvs.truncate(limit);
    if range.keys_only {
        for kv in &mut kvs {
            kv.value.clear();
            if range.sort.0 != SortTarget::Value {
                kv.lease = None;
            }
        }
    }
    RangeResponse { kvs, more, count }
}

#[test]
fn a_transaction_answers_what_each_operation_saw_though_it_is_read_afterwards() {
    for seed in 0..40 {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut state = State::in_memory();
        let mut log = Log::new();
        for _ in 0..60 {
            let before = ask(&state, range(all_keys(), None, None)).kvs;
            let mut now: std::collections::BTreeMap<Bytes, KeyValue> =
                before.into_iter().map(|kv| (kv.key.clone(), kv)).collect();
            let made = state.revision().next();
            let ops = random_branch(&mut random);
            let found = |now: &std::collections::BTreeMap<Bytes, KeyValue>, keys: &Keys| {
                let all = now.values().filter(|kv| keys.contains(&kv.key));
                all.cloned().collect::<Vec<_>>()
            };
            let mut expected = Vec::new();
            for op in &ops {
                expected.push(match op {
                    Op::Txn(_) => unreachable!("none is drawn"),
                    Op::Range(range) => {
                        OpResponse::Range(arranged(found(&now, &range.keys), range))
                    }
                    Op::Put(put) => {
                        let PutValue::Set(value) = &put.value else {
                            unreachable!("none keeps its value")
                        };
                        let prev = now.get(&put.key).cloned();
                        now.insert(
                            put.key.clone(),
                            KeyValue {
                                key: put.key.clone(),
                                create_revision: prev
                                    .as_ref()
                                    .map_or(made, |prev| prev.create_revision),
                                mod_revision: made,
                                version: prev.as_ref().map_or(0, |prev| prev.version) + 1,
                                value: value.clone(),
                                lease: None,
                            },
                        );
                        OpResponse::Put {
                            prev: prev.filter(|_| put.prev_kv),
                        }
                    }
                    Op::DeleteRange(delete) => {
                        let gone = found(&now, &delete.keys);
                        gone.iter().for_each(|kv| {
                            now.remove(&kv.key);
                        });
                        OpResponse::DeleteRange {
                            deleted: gone.len() as u64,
                            prevs: match delete.prev_kv {
                                true => gone,
                                false => Vec::new(),
                            },
                        }
                    }
                });
            }
            let txn = Txn {
                compares: Vec::new(),
                success: ops,
                failure: Vec::new(),
            };
            let (outcome, _) = log.apply(&mut state, Command::Kv(KvCommand::Txn(txn.clone())));
            assert_eq!(
                outcome.result,
                Ok(Response::Txn {
                    succeeded: true,
                    responses: expected
                }),
                "{txn:?}"
            );
            let after: Vec<_> = now.into_values().collect();
            assert_eq!(ask(&state, range(all_keys(), None, None)).kvs, after);
        }
    }
}

#[test]
fn sorted_and_filtered_ranges_are_those_of_all_pairs_also_while_others_write() {
    for seed in 0..20 {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut state = State::in_memory();
        let (mut log, mut model) = (Log::new(), Model::new());
        for _ in 0..10 {
            run(&mut state, &mut log, &mut model, &mut random, 20);
            let floor = state.compacted().unwrap_or_default().0.max(1);
            let at = random.random_range(floor..=model.revision());
            let newest = model.revision();
            let asked = Range {
                sort: random_sort(&mut random),
                keys_only: random.random_bool(0.3),
                count_only: random.random_bool(0.2),
                filter: match random.random_bool(0.5) {
                    true => RangeFilter {
                        min_mod: Some(Revision(at / 2)),
                        max_create: Some(Revision(at)),
                        ..RangeFilter::default()
                    },
                    false => RangeFilter::default(),
                },
                ..range(
                    model::random_keys(&mut random),
                    (at < newest).then_some(Revision(at)),
                    random.random_bool(0.6).then(|| random.random_range(1..6)),
                )
            };
            let kvs = model.range(&asked.keys, at, None).kvs;
            let expected = arranged(kvs, &asked);
            let mut answer = state
                .ask(&Principal::System, &Query::Range(asked.clone()))
                .unwrap();
            // A slice, then a write or a compaction, and so on.
            let outcome = loop {
                match answer {
                    Answer::Done(outcome) => break outcome,
                    Answer::More(reading) => {
                        let command = model.random_command(&mut random);
                        let _ = model.apply(&command);
                        log.apply(&mut state, command);
                        answer = state.go_on(reading).unwrap();
                    }
                }
            };
            assert_eq!(
                outcome.result,
                Ok(Response::Range(expected)),
                "{asked:?} at {at}"
            );
            assert_eq!(outcome.revision.0, newest);
        }
    }
}

#[test]
fn a_question_takes_as_many_slices_as_it_needs_and_a_write_as_many_turns() {
    let mut state = State::in_memory();
    let mut log = Log::new();
    for number in 0..100 {
        log.apply(&mut state, put(&format!("k{number:03}"), "x"));
    }
    let sorted = Op::Range(Range {
        sort: (SortTarget::Value, Order::Descending),
        ..range(all_keys(), None, Some(1))
    });
    let txn = Txn {
        compares: Vec::new(),
        success: vec![sorted; 5],
        failure: Vec::new(),
    };
    let mut slices = 1;
    let mut answer = state
        .ask(&Principal::System, &Query::Txn(txn.clone()))
        .unwrap();
    while let Answer::More(reading) = answer {
        assert!(reading.bytes() < 4096, "a limit bounds what is held");
        slices += 1;
        answer = state.go_on(reading).unwrap();
    }
    assert!(slices > 5 * 100 / 4, "{slices} slices");

    let mut turns = 1;
    let all = delete(all_keys());
    let (outcome, events) = log.apply_in_turns(
        &mut state,
        Command::Kv(KvCommand::DeleteRange(all)),
        &mut |_| turns += 1,
    );
    assert!(turns > 20, "{turns} turns");
    assert_eq!(events.len(), 100);
    let Ok(Response::DeleteRange { deleted, prevs }) = outcome.result else {
        panic!("{outcome:?}");
    };
    assert_eq!((deleted, prevs.len()), (100, 100));
}

#[test]
fn a_key_with_many_superseded_versions_takes_a_few_rows_of_a_slice() {
    let mut state = State::in_memory();
    let mut log = Log::new();
    log.apply(&mut state, put("a", "0"));
    for number in 0..2000 {
        log.apply(&mut state, put("hot", &number.to_string()));
    }
    log.apply(&mut state, put("z", "0"));
    for at in [3, 1000, 2001] {
        let mut slices = 1;
        let asked = range(all_keys(), Some(Revision(at)), None);
        let mut answer = state.ask(&Principal::System, &Query::Range(asked)).unwrap();
        while let Answer::More(reading) = answer {
            slices += 1;
            answer = state.go_on(reading).unwrap();
        }
        assert!(slices < 10, "{slices} slices at {at}");
    }
    let mut reader = state.begin_snapshot();
    while reader.next_chunk(&mut state).unwrap().is_some() {}
}
