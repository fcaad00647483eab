//! The law against a naive model, over memory, over disk, through a reopen and through a snapshot.
//! Single commands and their refusals are in the printed scripts of `server/tests`.

mod ahead;
mod model;
mod turns;

use std::ops::ControlFlow;

use bytes::Bytes;
use model::Model;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::spaces::SYSTEM;
use super::*;
use crate::command::*;
use crate::disk::Scan;
use crate::mvcc;

/// Applies commands one entry each, as a log would.
pub(super) struct Log {
    index: u64,
}

impl Log {
    pub(super) fn new() -> Self {
        Self { index: 0 }
    }

    pub(super) fn apply(&mut self, state: &mut State, command: Command) -> (Outcome, Vec<Event>) {
        self.apply_in_turns(state, command, &mut |_| {})
    }

    /// As [`Log::apply`]; `between` sees the state after each turn but the last.
    pub(super) fn apply_in_turns(
        &mut self,
        state: &mut State,
        command: Command,
        between: &mut dyn FnMut(&State),
    ) -> (Outcome, Vec<Event>) {
        self.index += 1;
        let envelope = envelope(self.index, command);
        let mut outcomes = Vec::new();
        let mut events = Vec::new();
        loop {
            let mut turn = Turn::new(&|_| true);
            let applied = state.apply_some(position(self.index), &envelope, &mut turn);
            let applied = applied.unwrap();
            outcomes.extend(applied.outcomes);
            events.extend(applied.events);
            if let Some(large) = applied.large {
                let (told, _) = history(state, large.revision, large.revision.next(), 1);
                assert!(told.iter().all(|event| large.keys.contains(&event.kv.key)));
                events.extend(told);
            }
            if applied.is_whole {
                let outcome = state.finish(outcomes.remove(0).1).unwrap();
                return (outcome, events);
            }
            between(state);
        }
    }
}

/// A piece of history, or all of a revision that is larger than one; and where to go on.
fn history(state: &State, from: Revision, upto: Revision, bytes: usize) -> (Vec<Event>, Revision) {
    let large = match state.history(from, upto, bytes).unwrap() {
        History::Changes { events, next } => return (events, next),
        History::Large(large) => large,
    };
    let mut events = Vec::new();
    let mut next = Some(0);
    while let Some(from) = next {
        let part = state.part(&large, from..u32::MAX, true, bytes);
        let part = part.unwrap().expect("it is the same state");
        assert!(part.next.is_none_or(|next| next > from), "history goes on");
        events.extend(part.changes.into_iter().map(|(_, event)| event));
        next = part.next;
    }
    (events, large.revision().next())
}

fn envelope(index: u64, command: Command) -> Envelope {
    Envelope {
        feature_level: FEATURE_LEVEL,
        leader_time: UnixMillis(index),
        proposals: vec![Proposal {
            origin: MemberId(1),
            run: 1,
            sequence: index,
            principal: Principal::System,
            command,
        }],
    }
}

fn position(index: u64) -> LogPosition {
    LogPosition {
        term: 1,
        leader: MemberId(1),
        index,
    }
}

fn put(key: &str, value: &str) -> Command {
    Command::Kv(KvCommand::Put(Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: PutValue::Set(Bytes::copy_from_slice(value.as_bytes())),
        lease: PutLease::Set(None),
        prev_kv: true,
    }))
}

fn range(keys: Keys, revision: Option<Revision>, limit: Option<u64>) -> Range {
    Range {
        keys,
        revision,
        limit,
        sort: (SortTarget::Key, Order::Ascending),
        keys_only: false,
        count_only: false,
        filter: RangeFilter::default(),
    }
}

fn ask(state: &State, range: Range) -> RangeResponse {
    match state.answer(&Query::Range(range)).unwrap().result.unwrap() {
        Response::Range(found) => found,
        other => panic!("{other:?}"),
    }
}

/// Checks one random range at one random readable revision, and all history from a random one on.
fn check(state: &State, model: &Model, random: &mut StdRng) {
    let floor = state.compacted().unwrap_or_default().0.max(1);
    let newest = state.revision().0;
    assert_eq!(newest, model.revision());
    let at = random.random_range(floor..=newest);
    let keys = model::random_keys(random);
    let limit = random.random_bool(0.5).then(|| random.random_range(1..8));
    let revision = (at < newest || random.random_bool(0.5)).then_some(Revision(at));
    let at = revision.map_or(newest, |revision| revision.0);
    let found = ask(state, range(keys.clone(), revision, limit));
    let expected = model.range(&keys, at, limit);
    assert_eq!(
        found, expected,
        "range {keys:?} at {at} of {newest}, limit {limit:?}, floor {floor}"
    );

    let from = random.random_range(floor..=newest + 1);
    let mut next = Revision(from);
    let mut events = Vec::new();
    while next <= state.revision() {
        let upto = state.revision().next();
        let (more, then) = history(state, next, upto, random.random_range(1..2000));
        assert!(then > next, "history goes on");
        next = then;
        events.extend(more);
    }
    assert_eq!(events, model.events(from, floor), "history from {from}");
}

fn run(state: &mut State, log: &mut Log, model: &mut Model, random: &mut StdRng, steps: usize) {
    for _ in 0..steps {
        let command = model.random_command(random);
        let mut now = StdRng::seed_from_u64(random.random());
        // In the middle of a revision nobody is shown any of it.
        let (outcome, events) = log.apply_in_turns(state, command.clone(), &mut |state| {
            if state.revision().0 == model.revision() {
                check(state, model, &mut now);
            }
        });
        let expected = model.apply(&command);
        assert_eq!(outcome.revision.0, model.revision(), "after {command:?}");
        assert_eq!(outcome.result.map(drop), expected, "after {command:?}");
        assert_eq!(events, model.newest_events(), "after {command:?}");
        check(state, model, random);
    }
}

#[test]
fn in_memory_the_law_is_the_models() {
    for seed in 0..20 {
        let mut random = StdRng::seed_from_u64(seed);
        println!("seed {seed}");
        let mut state = State::in_memory();
        run(
            &mut state,
            &mut Log::new(),
            &mut Model::new(),
            &mut random,
            300,
        );
    }
}

#[test]
fn on_disk_the_law_is_the_models_also_after_reopening() {
    for seed in 100..103 {
        let mut random = StdRng::seed_from_u64(seed);
        println!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let (mut log, mut model) = (Log::new(), Model::new());
        for _ in 0..5 {
            let mut state = State::open(dir.path()).unwrap();
            assert_eq!(state.applied().map_or(0, |at| at.index), log.index);
            for _ in 0..5 {
                run(&mut state, &mut log, &mut model, &mut random, 40);
                // Lets the writer thread get to it, so that reads come from fjall as well.
                state.persist().blocking_recv().unwrap().unwrap();
            }
        }
    }
}

#[test]
fn a_store_takes_a_block_before_it_holds_anything() {
    assert!(State::in_memory().disk_bytes() > 0);
}

#[test]
fn a_snapshot_is_one_moment_while_writes_go_on() {
    for seed in 200..206 {
        let mut random = StdRng::seed_from_u64(seed);
        println!("seed {seed}");
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let mut from = State::open(dirs[0].path()).unwrap();
        let (mut log, mut model) = (Log::new(), Model::new());
        run(&mut from, &mut log, &mut model, &mut random, 200);
        let hash = from.running_hash();
        let (mut log_then, mut model_then) = (Log { index: log.index }, model.clone());

        let mut into = State::open(dirs[1].path()).unwrap();
        Log::new().apply(&mut into, put("replaced", "by the snapshot"));
        let mut writer = SnapshotWriter::create(dirs[1].path()).unwrap();
        let mut reader = from.begin_snapshot();
        while let Some(chunk) = reader.next_chunk(&mut from).unwrap() {
            run(&mut from, &mut log, &mut model, &mut random, 20);
            writer.write_chunk(chunk).unwrap();
            // Lets the sweep get to all that the reader does not hold.
            from.persist().blocking_recv().unwrap().unwrap();
        }
        assert_eq!(reader.position(), Some(position(log_then.index)));
        let shared = Handle::new(into);
        writer.finish().unwrap().install(&shared).unwrap();
        let mut into = shared.into_state().unwrap();
        assert_eq!(into.applied(), reader.position());
        assert_eq!(into.running_hash(), hash);
        for _ in 0..20 {
            check(&into, &model_then, &mut random);
        }
        run(&mut into, &mut log_then, &mut model_then, &mut random, 50);
        drop(into);
        let into = State::open(dirs[1].path()).unwrap();
        check(&into, &model_then, &mut random);
    }
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(work)
}

/// In the order of etcd's bucket.
fn stored(
    state: &mut State,
    mut reading: StoredReading,
    mut between: impl FnMut(&mut State),
) -> Vec<Stored> {
    let mut all = Vec::new();
    while let StoredPage::Some(page) = reading.next_page().unwrap() {
        all.extend(page);
        between(state);
    }
    all.sort_by_key(|stored| match stored {
        Stored::Put { at, .. } | Stored::Removed { at, .. } => *at,
    });
    all
}

#[test]
fn what_is_stored_is_what_etcd_would_hold_while_writes_go_on() {
    for seed in 300..303 {
        let mut random = StdRng::seed_from_u64(seed);
        println!("seed {seed}");
        let dir = tempfile::tempdir().unwrap();
        let mut state = State::open(dir.path()).unwrap();
        let (mut log, mut model) = (Log::new(), Model::new());
        for _ in 0..5 {
            run(&mut state, &mut log, &mut model, &mut random, 60);
            let floor = state.compacted().unwrap_or_default().0.max(1);
            let at = random.random_range(floor..=model.revision());
            let expected = model.stored(at);
            let reading = state.read_stored(Some(Revision(at))).unwrap();
            let reading = block_on(reading).unwrap();
            let found = stored(&mut state, reading, |state| {
                run(state, &mut log, &mut model, &mut random, 2);
                // Lets the sweep get to all that the reading does not hold.
                state.persist().blocking_recv().unwrap().unwrap();
            });
            assert_eq!(found, expected, "up to {at}, floor {floor}");
        }
    }
}

#[test]
fn what_is_stored_is_read_of_one_state_only() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = State::open(dir.path()).unwrap();
    Log::new().apply(&mut state, put("a", "1"));
    let beyond = state.read_stored(Some(Revision(3))).map(|_| ());
    let current = Revision(2);
    let refused = Refusal::Kv(KvRefusal::FutureRevision { current });
    assert_eq!(beyond, Err(refused));
    let mut reading = block_on(state.read_stored(None).unwrap()).unwrap();
    drop(state);
    let page = reading.next_page().unwrap();
    assert!(matches!(page, StoredPage::Replaced));
}

#[test]
fn the_running_hash_is_that_of_what_was_applied_and_of_nothing_else() {
    let hash_of = |entries: &[(u64, Command)]| {
        let mut state = State::in_memory();
        for (index, (term, command)) in entries.iter().enumerate() {
            let at = LogPosition {
                term: *term,
                ..position(index as u64 + 1)
            };
            let envelope = Envelope {
                feature_level: FEATURE_LEVEL,
                leader_time: UnixMillis(1),
                proposals: vec![Proposal {
                    origin: MemberId(1),
                    run: 1,
                    sequence: 1,
                    principal: Principal::System,
                    command: command.clone(),
                }],
            };
            state.apply(at, &envelope).unwrap();
        }
        state.running_hash()
    };
    let (a, b) = (put("a", "1"), put("b", "2"));
    let both = hash_of(&[(1, a.clone()), (1, b.clone())]);
    assert_eq!(both, hash_of(&[(1, a.clone()), (1, b.clone())]));
    assert_ne!(both, hash_of(&[(1, b.clone()), (1, a.clone())]), "order");
    assert_ne!(both, hash_of(&[(1, a.clone()), (2, b.clone())]), "term");
    assert_ne!(
        both,
        hash_of(&[(1, a.clone()), (1, put("b", "3"))]),
        "value"
    );
    assert_ne!(both, hash_of(&[(1, a), (1, b.clone()), (1, b)]), "twice");
}

#[test]
fn the_running_hash_knows_what_a_command_came_to() {
    // The same entry over another state, as a flipped bit would leave it.
    let keep = Command::Kv(KvCommand::Put(Put {
        key: Bytes::from_static(b"a"),
        value: PutValue::Keep,
        lease: PutLease::Set(None),
        prev_kv: false,
    }));
    let hashes = ["1", "2"].map(|value| {
        let (mut state, mut log) = (State::in_memory(), Log::new());
        log.apply(&mut state, put("a", value));
        state.ledger.hash = RunningHash(7);
        log.apply(&mut state, keep.clone());
        state.running_hash()
    });
    assert_ne!(hashes[0], hashes[1]);
}

#[test]
fn a_snapshot_chunk_that_is_changed_or_missing_is_refused() {
    let mut state = State::in_memory();
    Log::new().apply(&mut state, put("a", "1"));
    let mut reader = state.begin_snapshot();
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next_chunk(&mut state).unwrap() {
        chunks.push(chunk);
    }
    let receive = |chunks: &[Bytes]| {
        let mut writer = SnapshotWriter::in_memory();
        for chunk in chunks {
            writer.write_chunk(chunk.clone())?;
        }
        writer.finish().map(drop)
    };
    receive(&chunks).unwrap();
    for missing in 0..chunks.len() {
        let mut fewer = chunks.clone();
        fewer.remove(missing);
        assert!(receive(&fewer).is_err(), "without chunk {missing}");
        for at in 0..chunks[missing].len() {
            let mut changed = chunks.clone();
            let mut bytes = changed[missing].to_vec();
            bytes[at] ^= 1;
            changed[missing] = Bytes::from(bytes);
            assert!(receive(&changed).is_err(), "byte {at} of chunk {missing}");
        }
    }
}

#[test]
fn an_entry_of_a_newer_law_stops_the_member() {
    let mut state = State::in_memory();
    let envelope = Envelope {
        feature_level: FEATURE_LEVEL + 1,
        leader_time: UnixMillis(1),
        proposals: Vec::new(),
    };
    let fault = state.apply(position(7), &envelope).unwrap_err();
    assert!(matches!(fault, Fault::UnknownEntry { index: 7, .. }));
}

#[test]
fn compaction_frees_the_accounts_and_the_rows() {
    let mut state = State::in_memory();
    let mut log = Log::new();
    let value = "x".repeat(1000);
    for _ in 0..200 {
        log.apply(&mut state, put("key", &value));
    }
    let full = state.logical_bytes();
    assert!(full > 200_000);
    let revision = state.revision();
    log.apply(&mut state, Command::Kv(KvCommand::Compact { revision }));
    assert!(state.logical_bytes() < 2000, "{}", state.logical_bytes());
    let mut left = 0;
    let rows = state.disk.rows();
    for space in [mvcc::PAST, mvcc::LOG] {
        rows.scan(space, &[], None, &mut |_, _| {
            left += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    }
    assert_eq!(left, 1, "only the event at the floor");
}

#[test]
fn what_another_leader_found_out_about_leases_is_void() {
    let mut state = State::in_memory();
    let id = LeaseId(7);
    let mut log = Log::new();
    let (granted, _) = log.apply(
        &mut state,
        Command::Lease(LeaseCommand::Grant { id, ttl_seconds: 9 }),
    );
    assert!(granted.result.is_ok());
    let proposal = |command| Proposal {
        origin: MemberId(2),
        run: 1,
        sequence: 1,
        principal: Principal::System,
        command,
    };
    let envelope = Envelope {
        feature_level: FEATURE_LEVEL,
        leader_time: UnixMillis(2),
        proposals: vec![
            proposal(Command::Lease(LeaseCommand::Checkpoint {
                remaining_seconds: vec![(id, 1)],
            })),
            proposal(Command::Lease(LeaseCommand::Expire {
                term: 1,
                ids: vec![id],
            })),
        ],
    };
    state.apply(position(2), &envelope).unwrap();
    let lease = Lease {
        id,
        ttl_seconds: 9,
        remaining_seconds: 0,
    };
    assert_eq!(state.leases(), [lease]);
}

#[test]
fn the_level_rises_and_never_falls() {
    let mut state = State::in_memory_with(2);
    let mut log = Log::new();
    assert_eq!(state.feature_level(), 1);
    log.apply(&mut state, Command::Level(LevelCommand::Raise { level: 2 }));
    assert_eq!(state.feature_level(), 2);
    log.apply(&mut state, Command::Level(LevelCommand::Raise { level: 1 }));
    assert_eq!(state.feature_level(), 2);
    let rows = state.disk.rows();
    let row = rows.get(SYSTEM, b"F").unwrap();
    assert_eq!(row.as_deref(), Some(&b"\x02"[..]), "its bytes never change");
}

#[test]
fn a_level_beyond_this_version_stops_the_member() {
    let mut state = State::in_memory();
    let envelope = Envelope {
        feature_level: 1,
        leader_time: UnixMillis(1),
        proposals: vec![Proposal {
            origin: MemberId(1),
            run: 1,
            sequence: 1,
            principal: Principal::System,
            command: Command::Level(LevelCommand::Raise {
                level: FEATURE_LEVEL + 1,
            }),
        }],
    };
    let fault = state.apply(position(1), &envelope).unwrap_err();
    assert!(
        fault.to_string().contains("start a newer version"),
        "{fault}"
    );
}

#[tokio::test]
async fn a_state_that_was_raised_beyond_this_version_is_not_opened() {
    let dir = tempfile::tempdir().unwrap();
    let newer = || {
        State::load(
            Disk::open(dir.path(), &LAYOUT).unwrap(),
            2,
            RESIDENT_BYTES_MAX,
        )
        .unwrap()
    };
    let mut state = newer();
    Log::new().apply(&mut state, Command::Level(LevelCommand::Raise { level: 2 }));
    state.persist().await.unwrap().unwrap();
    drop(state);
    assert_eq!(newer().feature_level(), 2);
    let older = Disk::open(dir.path(), &LAYOUT).unwrap();
    let fault = State::load(older, 1, RESIDENT_BYTES_MAX).err().unwrap();
    assert!(
        fault
            .to_string()
            .contains("the cluster is at feature level 2, this version knows 1"),
        "{fault}"
    );
}
