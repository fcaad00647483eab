//! The index of current keys against an ordered map; keys and rows byte by byte.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::row::{log_key, past_key, past_prefix, split_log_key, split_past_key};
use super::*;
use crate::disk::{Disk, Layout};

static LAYOUT: Layout = Layout {
    names: &["others", "current", "past", "log"],
    swept: LOG,
    sweep: garbage,
};

#[test]
fn leaves_count_and_find_what_an_ordered_map_does() {
    for seed in 0..3 {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
        let mut mvcc = Mvcc::open(&disk.rows(), RESIDENT_BYTES_MAX).unwrap();
        let mut model: BTreeMap<Bytes, u64> = BTreeMap::new();
        for main in 2..6000 {
            let mut rows = disk.rows();
            let number: u32 = random.random_range(0..5000);
            let key = Bytes::from(format!("key/{number:05}"));
            let at = Stamp {
                main: Revision(main),
                sub: 0,
            };
            let prev = mvcc.get(&rows, &key).unwrap();
            assert_eq!(
                prev.as_ref().map(|prev| prev.modified.main.0),
                model.get(&key).copied()
            );
            match prev {
                Some(prev) if random.random_bool(0.4) => {
                    mvcc.delete(&mut rows, at, &key, &prev);
                    model.remove(&key);
                }
                prev => {
                    let store = Store {
                        key: &key,
                        value: &[7; 100],
                        lease: None,
                    };
                    mvcc.put(&mut rows, at, &store, prev.as_ref()).unwrap();
                    model.insert(key, main);
                }
            }
            let bounds: [u32; 2] = [random.random_range(0..5000), random.random_range(0..5500)];
            let [start, end] = bounds.map(|number| Bytes::from(format!("key/{number:05}")));
            let expected = if start < end {
                model.range(start.clone()..end.clone()).count() as u64
            } else {
                0
            };
            let span = Span {
                start,
                end: Some(end),
            };
            assert_eq!(mvcc.count(&rows, &span).unwrap(), expected, "{span:?}");
            drop(rows);
            assert!(mvcc.knows_what_is_near());
            if main % 2000 == 0 {
                mvcc = Mvcc::open(&disk.rows(), RESIDENT_BYTES_MAX).unwrap();
            }
            if main % 700 == 0 {
                mvcc.forget_resident();
            }
        }
        let all = Span {
            start: Bytes::new(),
            end: None,
        };
        let mut budget = Budget::NONE;
        let found = mvcc.live(&disk.rows(), &all, usize::MAX, &mut budget);
        let found = found.unwrap().found.into_iter();
        let found: Vec<_> = found
            .map(|(key, version)| (key, version.modified.main.0))
            .collect();
        assert_eq!(found, model.into_iter().collect::<Vec<_>>());
    }
}

#[test]
fn keys_read_in_one_pass_are_what_they_are_one_by_one() {
    let mut random = StdRng::seed_from_u64(1);
    let disk = Disk::in_memory(&LAYOUT);
    let mvcc = Mvcc::open(&disk.rows(), RESIDENT_BYTES_MAX).unwrap();
    for main in 2..2000 {
        // A few are so large that a pass ends at them.
        let bytes = if main % 97 == 0 { CLOSE_BYTES } else { 20 };
        let value = vec![7; bytes];
        change(&disk, &mvcc, main, &format!("key/{main:05}"), Some(&value));
    }
    for round in 0..400 {
        let apart = random.random_range(1..=5);
        let first = random.random_range(0..2500);
        let mut keys: Vec<Bytes> = (0..random.random_range(0..100))
            .map(|place| first + place * apart + random.random_range(0..apart))
            .map(|number| Bytes::from(format!("key/{number:05}")))
            .collect();
        keys.dedup();
        if round % 3 == 0 {
            mvcc.forget_resident();
        }
        let rows = disk.rows();
        let one_by_one = keys.iter().map(|key| mvcc.get(&rows, key).unwrap());
        let one_by_one: Vec<_> = one_by_one.collect();
        assert_eq!(mvcc.get_each(&rows, &keys).unwrap(), one_by_one, "{keys:?}");
    }
}

/// One change at a revision of its own: `value`, or a removal without one.
fn change(disk: &Disk, mvcc: &Mvcc, main: u64, key: &str, value: Option<&[u8]>) {
    let mut rows = disk.rows();
    let key = Bytes::copy_from_slice(key.as_bytes());
    let at = Stamp {
        main: Revision(main),
        sub: 0,
    };
    let prev = mvcc.get(&rows, &key).unwrap();
    match value {
        Some(value) => {
            let store = Store {
                key: &key,
                value,
                lease: None,
            };
            mvcc.put(&mut rows, at, &store, prev.as_ref()).unwrap();
        }
        None => mvcc.delete(&mut rows, at, &key, &prev.unwrap()),
    }
}

/// Keys and values of everything as of `revision`, when `newest` is the newest, and the rows looked at.
fn as_of(disk: &Disk, mvcc: &Mvcc, revision: u64, newest: u64) -> (Vec<(Bytes, Bytes)>, usize) {
    let all = Span {
        start: Bytes::new(),
        end: None,
    };
    let moment = AsOf {
        revision: Revision(revision),
        top: Some(Stamp {
            main: Revision(newest + 1),
            sub: 0,
        }),
    };
    let (rows, mut budget) = (disk.rows(), Budget::NONE);
    let slice = mvcc.as_of(&rows, &all, moment, usize::MAX, &mut budget);
    let found = slice.unwrap().found.into_iter();
    let found = found.map(|(key, version)| (key, version.value()));
    (found.collect(), Budget::NONE.rows - budget.rows)
}

#[test]
fn no_more_stays_in_memory_than_was_said() {
    let disk = Disk::in_memory(&LAYOUT);
    let mvcc = Mvcc::open(&disk.rows(), 40_000).unwrap();
    for main in 2..2000 {
        change(&disk, &mvcc, main, &format!("key/{main}"), Some(&[7; 50]));
        assert!(mvcc.leaves.borrow().resident_bytes() <= 40_000);
    }
    let mvcc = Mvcc::open(&disk.rows(), 40_000).unwrap();
    let kept = mvcc.leaves.borrow().resident_bytes();
    // Whole leaves, so not quite as much.
    assert!((20_000..=40_000).contains(&kept), "{kept} bytes");
}

#[test]
fn what_was_a_moment_ago_costs_nothing_for_what_was_removed_long_before() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    let mvcc = Mvcc::open(&disk.rows(), RESIDENT_BYTES_MAX).unwrap();
    let mut newest = 1;
    let mut next = || {
        newest += 1;
        newest
    };
    for number in 0..1000 {
        let key = format!("gone/{number}");
        change(&disk, &mvcc, next(), &key, Some(b"1"));
        change(&disk, &mvcc, next(), &key, None);
    }
    change(&disk, &mvcc, next(), "changed", Some(b"1"));
    change(&disk, &mvcc, next(), "removed", Some(b"1"));
    let moment = next();
    change(&disk, &mvcc, moment, "stays", Some(b"1"));
    change(&disk, &mvcc, next(), "changed", Some(b"2"));
    change(&disk, &mvcc, next(), "changed", Some(b"3"));
    change(&disk, &mvcc, next(), "removed", None);
    let newest = next();
    change(&disk, &mvcc, newest, "new", Some(b"1"));

    let (found, rows) = as_of(&disk, &mvcc, moment, newest);
    let one = Bytes::from_static(b"1");
    let expected = ["changed", "removed", "stays"].map(|key| (Bytes::from(key), one.clone()));
    assert_eq!(found, expected);
    assert!(rows < 20, "{rows} rows were looked at");
    // As long ago as that: by the superseded versions themselves.
    let (then, _) = as_of(&disk, &mvcc, 2, newest);
    assert_eq!(then, [(Bytes::from("gone/0"), one)]);
}

#[test]
fn rows_are_byte_for_byte_what_the_formats_page_says() {
    let at = Stamp {
        main: Revision(300),
        sub: 2,
    };
    let store = Store {
        key: b"k",
        value: b"value",
        lease: Some(LeaseId(-1)),
    };
    let prev = Version::new(
        Stamp {
            main: Revision(298),
            sub: 0,
        },
        &store,
        None,
    );
    let version = Version::new(at, &store, Some(&prev));
    assert_eq!(
        version.row().as_ref(),
        b"\xaa\x02\x02\x02\x02\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01value"
    );
    assert_eq!(
        past_key(b"a\0b", Revision(258)).as_ref(),
        b"a\0\xffb\0\x01\0\0\0\0\0\0\x01\x02"
    );
    assert_eq!(log_key(at).as_ref(), b"\0\0\0\0\0\0\x01\x2c\0\0\0\x02");
    assert_eq!(split_log_key(&log_key(at)), Some(at));
    assert_eq!(history::log_row(Change::Delete, b"k").as_ref(), b"\x03k");
}

#[test]
fn a_key_of_zero_bytes_fits_up_to_what_its_past_rows_take() {
    assert!(key_fits(&[1; 32 << 10]));
    assert!(key_fits(&[0; 32_762]));
    assert!(!key_fits(&[0; 32 << 10]));
}

fn keys() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0u8), Just(1), Just(2), Just(0xff), any::<u8>()];
    proptest::collection::vec(byte, 0..6)
}

proptest! {
    #[test]
    fn past_keys_keep_the_order_of_keys_and_ends(one in keys(), other in keys(), a in any::<u64>(), b in any::<u64>()) {
        let stored = past_key(&one, Revision(a));
        prop_assert_eq!(split_past_key(&stored), Some((one.clone(), Revision(a))));
        let ordering = (&one, a).cmp(&(&other, b));
        prop_assert_eq!(stored.cmp(&past_key(&other, Revision(b))), ordering);
        // All past rows of the keys from `other` on, and none else, are at or after its prefix.
        prop_assert_eq!(stored.as_ref() >= past_prefix(&other).as_slice(), one >= other);
    }

    #[test]
    fn versions_come_back_from_their_rows(main in 1u64.., sub: u32, lease: i64, value: Vec<u8>) {
        let at = Stamp { main: Revision(main), sub };
        let lease = (lease != 0).then_some(LeaseId(lease));
        let store = Store { key: b"k", value: &value, lease };
        let version = Version::new(at, &store, None);
        prop_assert_eq!(Version::decode(version.row()).unwrap(), version);
    }
}
