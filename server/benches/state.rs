//! The cost of the law and its store, without a network, a log or a client.
//!
//! `cargo bench -p coord-server --bench state`; `COORD_BENCH_KEYS` sets how many keys the large store has (default one
//! million).

#![expect(clippy::unwrap_used, reason = "a bench stops at the first surprise")]
#![expect(clippy::disallowed_types, reason = "measuring needs the real clock")]

use std::fs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use coord_server::command::{
    Command, Envelope, Keys, KvCommand, LogPosition, MemberId, Order, Principal, Proposal, Put,
    PutLease, PutValue, Query, Range, RangeFilter, Response, Revision, SortTarget, UnixMillis,
};
use coord_server::state::{FEATURE_LEVEL, SnapshotWriter, State};

const ENTRY_PUTS: u64 = 64;
const PENDING_BYTES_MAX: usize = 64 << 20;

struct Bench {
    state: State,
    index: u64,
}

fn key(number: u64) -> Bytes {
    Bytes::from(format!("/registry/bench/object-{number:011}"))
}

impl Bench {
    fn put_many(&mut self, keys: impl Iterator<Item = u64>) {
        let mut keys = keys.peekable();
        while keys.peek().is_some() {
            self.index += 1;
            let index = self.index;
            let proposals = keys
                .by_ref()
                .take(usize::try_from(ENTRY_PUTS).unwrap())
                .enumerate()
                .map(|(n, number)| Proposal {
                    origin: MemberId(1),
                    run: 1,
                    sequence: index * ENTRY_PUTS + n as u64,
                    principal: Principal::System,
                    command: Command::Kv(KvCommand::Put(Put {
                        key: key(number),
                        value: PutValue::Set(value(index * ENTRY_PUTS + n as u64)),
                        lease: PutLease::Set(None),
                        prev_kv: false,
                    })),
                })
                .collect();
            let envelope = Envelope {
                feature_level: FEATURE_LEVEL,
                leader_time: UnixMillis(index),
                proposals,
            };
            let at = LogPosition {
                term: 1,
                leader: MemberId(1),
                index,
            };
            self.state.apply(at, &envelope).unwrap();
            while self.state.pending_bytes() > PENDING_BYTES_MAX {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn range(&self, keys: Keys, revision: Option<Revision>, limit: Option<u64>) -> u64 {
        let range = Range {
            keys,
            revision,
            limit,
            sort: (SortTarget::Key, Order::Ascending),
            keys_only: false,
            count_only: false,
            filter: RangeFilter::default(),
        };
        let Ok(Response::Range(found)) = self.state.answer(&Query::Range(range)).unwrap().result
        else {
            panic!("a range is answered");
        };
        found.count
    }

    fn settle(&self) {
        self.state.persist().blocking_recv().unwrap().unwrap();
    }
}

/// Half of it compresses.
fn value(seed: u64) -> Bytes {
    let mut bytes = vec![b'v'; 256];
    for (n, chunk) in bytes[128..].chunks_mut(8).enumerate() {
        chunk.copy_from_slice(&scramble(seed * 16 + n as u64).to_be_bytes());
    }
    Bytes::from(bytes)
}

fn scramble(seed: u64) -> u64 {
    let mut mixed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// User and system time of this process, in milliseconds.
fn cpu_millis() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    (fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()) * 10
}

fn memory(field: &str) -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line[field.len() + 1..].trim().to_owned()
}

fn measure(what: &str, operations: u64, work: impl FnOnce()) {
    let (cpu, start) = (cpu_millis(), Instant::now());
    work();
    let (wall, cpu) = (start.elapsed(), cpu_millis() - cpu);
    let each = wall.as_secs_f64() * 1e6 / operations as f64;
    let cpu_each = cpu as f64 * 1e3 / operations as f64;
    println!(
        "{what:<52} {each:>9.2} us wall {cpu_each:>9.2} us CPU   RSS {}",
        memory("VmRSS")
    );
}

fn open_range(start: u64) -> Keys {
    Keys::Range {
        start: key(start),
        end: None,
    }
}

fn reads(bench: &Bench, keys: u64) {
    let pick = |n: u64| scramble(n) % (keys - 200);
    measure("get", 200_000, || {
        for n in 0..200_000 {
            bench.range(Keys::One(key(pick(n))), None, None);
        }
    });
    measure("range of exactly 100 keys", 5_000, || {
        for n in 0..5_000 {
            let start = pick(n);
            let keys = Keys::Range {
                start: key(start),
                end: Some(key(start + 100)),
            };
            assert_eq!(bench.range(keys, None, None), 100);
        }
    });
    measure("page of 100 of an open range", 5_000, || {
        for n in 0..5_000 {
            bench.range(open_range(pick(n)), None, Some(100));
        }
    });
    let old = Revision(bench.state.revision().0 - 2_000);
    measure(
        "page of 100 of an open range, 2,000 revisions ago",
        500,
        || {
            for n in 0..500 {
                bench.range(open_range(pick(n)), Some(old), Some(100));
            }
        },
    );
}

fn main() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench {
        state: State::open(&dir.path().join("small")).unwrap(),
        index: 0,
    };
    println!("10,000 keys of 256 bytes");
    measure("put, new key", 10_000, || bench.put_many(0..10_000));
    measure("put, over and over", 500_000, || {
        bench.put_many((0..500_000).map(|n| scramble(n) % 10_000));
        bench.settle();
    });
    reads(&bench, 10_000);
    drop(bench);

    let keys: u64 =
        std::env::var("COORD_BENCH_KEYS").map_or(1_000_000, |keys| keys.parse().unwrap());
    let large = dir.path().join("large");
    let mut bench = Bench {
        state: State::open(&large).unwrap(),
        index: 0,
    };
    println!("{keys} keys of 256 bytes");
    measure("put, new keys in random order", keys, || {
        bench.put_many((0..keys).map(|n| n.wrapping_mul(999_983) % keys));
        bench.settle();
    });
    measure("put, over and over, random", 200_000, || {
        bench.put_many((0..200_000).map(|n| scramble(n) % keys));
        bench.settle();
    });
    reads(&bench, keys);
    println!(
        "peak RSS {}, disk {} MB",
        memory("VmHWM"),
        bench.state.disk_bytes() >> 20
    );
    measure("snapshot, read and written", 1, || {
        let mut writer = SnapshotWriter::create(&large).unwrap();
        let mut reader = bench.state.begin_snapshot();
        while let Some(chunk) = reader.next_chunk(&mut bench.state).unwrap() {
            writer.write_chunk(chunk).unwrap();
        }
        writer.finish().unwrap();
    });
    drop(bench);
    measure("open", 1, || {
        let state = State::open(&large).unwrap();
        assert!(state.revision().0 > keys);
    });
}
