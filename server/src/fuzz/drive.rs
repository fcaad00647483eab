//! Bytes made from a seed: those to begin with, changed in the ways in which bytes go wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{TARGETS, Target};

/// Inputs for each target in `make test`, of a fixed seed.
const INPUTS: u64 = 3_000;
const BYTES_MAX: usize = 4096;
/// Inputs kept to be changed further.
const KEPT_MAX: usize = 64;

/// An input made of others.
fn changed(random: &mut StdRng, kept: &[Vec<u8>]) -> Vec<u8> {
    let mut data = match kept {
        [] => Vec::new(),
        some => some[random.random_range(0..some.len())].clone(),
    };
    if data.is_empty() || random.random_ratio(1, 8) {
        let length = random.random_range(0..300);
        // Few values, so that keys, lengths and kinds meet.
        let most = if random.random_bool(0.5) { 8 } else { u8::MAX };
        data = (0..length).map(|_| random.random_range(0..=most)).collect();
    }
    for _ in 0..random.random_range(0..6) {
        if data.is_empty() {
            break;
        }
        let at = random.random_range(0..data.len());
        let end = (at + random.random_range(0..40)).min(data.len());
        match random.random_range(0..7) {
            0 => data[at] ^= 1 << random.random_range(0..8),
            1 => data[at] = random.random(),
            2 => data[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            3 => data.truncate(at),
            4 => drop(data.drain(at..end)),
            5 => {
                let part = data[at..end].to_vec();
                data.splice(at..at, part);
            }
            _ => {
                let other = kept.get(random.random_range(0..kept.len().max(1)));
                let other = other.cloned().unwrap_or_default();
                data.truncate(at);
                data.extend(other.iter().skip(random.random_range(0..=other.len())));
            }
        }
    }
    data.truncate(BYTES_MAX);
    data
}

fn run(target: &Target, data: &[u8], seed: u64) {
    let ran = catch_unwind(AssertUnwindSafe(|| (target.run)(data)));
    assert!(ran.is_ok(), "{}, seed {seed}, input {data:?}", target.name);
}

/// Gives a target `COORD_FUZZ_INPUTS` inputs of a seed of its own or of `COORD_FUZZ_SEED`; without them `INPUTS` of a fixed one.
fn drive(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("it is listed");
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let (inputs, seed) = match number("COORD_FUZZ_INPUTS") {
        Some(inputs) => {
            let seed = number("COORD_FUZZ_SEED").unwrap_or_else(rand::random);
            (inputs, seed)
        }
        None => (INPUTS, 1),
    };
    let mut random = StdRng::seed_from_u64(seed);
    let mut kept = (target.seeds)();
    let first = kept.len();
    for data in &kept {
        run(target, data, seed);
    }
    for _ in 0..inputs {
        let data = changed(&mut random, &kept);
        run(target, &data, seed);
        if kept.len() < KEPT_MAX {
            kept.push(data);
        } else if random.random_ratio(1, 4) {
            // The first ones go deep, and stay.
            kept[random.random_range(first..KEPT_MAX)] = data;
        }
    }
    println!("{name}, seed {seed}: {inputs} inputs");
}

macro_rules! drives {
    ($($test:ident => $name:literal),+ $(,)?) => {
        $(#[test] fn $test() {
            drive($name);
        })+

        #[test]
        fn every_target_is_driven() {
            let listed: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(listed, [$($name),+]);
        }
    };
}

drives! {
    a_request_of_any_bytes_is_refused_or_kept_as_it_is => "requests",
    a_transaction_of_any_shape_changes_a_key_twice_or_not => "transactions",
    permissions_of_any_shape_cover_exactly_their_keys => "permissions",
    a_log_entry_of_any_bytes_is_refused_or_has_no_other_bytes => "log-entries",
    a_log_of_any_records_is_refused_or_read_twice_alike => "log-replay",
    a_snapshot_of_any_bytes_is_refused_or_has_no_other_bytes => "snapshots",
}
