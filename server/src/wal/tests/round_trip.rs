//! Written entries are read back after a reopen.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::wal::{PeerMemory, Stepper};

#[test]
fn what_is_written_is_read_back_after_a_restart() {
    let disk = MemoryDisk::default();
    let wal = history(&disk);
    let before = contents(&wal);
    assert_eq!(
        before.ends,
        Ends {
            purged: Some(at(1, 1)),
            last: Some(at(2, 7))
        }
    );
    assert_eq!(before.entries.len(), 6);
    drop(wal);
    let wal = open(&disk, 4).unwrap();
    assert_eq!(wal.identity(), &identity());
    assert_eq!(contents(&wal), before);
}

#[test]
fn an_entry_that_leaves_a_gap_is_refused() {
    let wal = create(&MemoryDisk::default(), 4);
    append(&wal, [entry(1, 0, b"")]);
    assert!(wal.append([entry(1, 2, b"")], |_| ()).is_err());
}

#[test]
fn an_entry_larger_than_the_log_takes_is_refused() {
    let wal = create(&MemoryDisk::default(), 4);
    let refused = wal.append([entry(1, 0, &[0; ENTRY_BYTES_MAX + 1])], |_| ());
    assert!(refused.is_err());
}

#[test]
fn an_entry_larger_than_a_segment_gets_one_of_its_own() {
    let disk = MemoryDisk::default();
    let mut wal = create(&disk, 4);
    let usual = 4 * 4096;
    for round in 0..6 {
        let first = round * 4;
        // Over a prepared segment, over none, and one right after the other.
        append(&wal, [entry(1, first, b"small")]);
        append(&wal, [entry(1, first + 1, &[1; ENTRY_BYTES_MAX])]);
        append(&wal, [entry(1, first + 2, &[2; 17_000])]);
        append(&wal, [entry(1, first + 3, &[3; 9000])]);
        let before = contents(&wal);
        drop(wal);
        wal = open(&disk, 4).unwrap();
        assert_eq!(contents(&wal), before);
        if round > 0 {
            wal.purge(at(1, first - 1)).unwrap();
        }
    }
    append(&wal, [entry(1, 24, b"small")]);
    save_vote(&wal, 1);
    let last = wal.read(20, 25, usize::MAX).unwrap();
    let bytes = |entry: &Entry| entry.payload.bytes().map(Bytes::len);
    let lengths: Vec<_> = last.iter().filter_map(bytes).collect();
    assert_eq!(lengths, [5, ENTRY_BYTES_MAX, 17_000, 9000, 5]);
    // The next ones have the usual length again, and large ones are not kept for later.
    for index in 25..60 {
        append(&wal, [entry(1, index, &[4; 3000])]);
        wal.purge(at(1, index)).unwrap();
    }
    save_vote(&wal, 2);
    let files = disk.files();
    let segments = files.iter().filter(|(name, _)| name.ends_with(".wal"));
    let lengths: Vec<_> = segments.map(|(_, content)| content.len()).collect();
    assert!(lengths.iter().all(|length| *length == usual), "{lengths:?}");
}

#[test]
fn the_newest_writes_are_kept_however_long_they_are() {
    let wal = create(&MemoryDisk::default(), 4);
    for index in 0..8 {
        append(&wal, [entry(1, index, &[0; 20_000])]);
    }
    assert_eq!(wal.first_index_within(4096), Some(4));
    assert_eq!(wal.first_index_within(5 * 6 * 4096), Some(3));
    assert_eq!(wal.first_index_within(1 << 20), None);
}

#[test]
fn purging_beyond_the_end_leaves_an_empty_log_that_goes_on_there() {
    let disk = MemoryDisk::default();
    let wal = history(&disk);
    wal.purge(at(9, 100)).unwrap();
    append(&wal, [entry(9, 101, b"next")]);
    let before = contents(&wal);
    assert_eq!(before.entries.len(), 1);
    drop(wal);
    assert_eq!(contents(&open(&disk, 4).unwrap()), before);
}

#[test]
fn what_is_remembered_of_others_outlives_segments_and_restarts() {
    let disk = MemoryDisk::default();
    let wal = create(&disk, 4);
    let of = |member, acknowledged| PeerMemory {
        member: MemberId(member),
        term: 3,
        leader: MemberId(7),
        acknowledged,
    };
    wal.save_peers(&[of(1, 4)]).unwrap();
    wal.save_peers(&[of(1, 9), of(2, 0)]).unwrap();
    // With what comes next, over several segments whose beginnings are let go.
    for index in 0..40 {
        append(&wal, [entry(1, index, &[1; 2000])]);
        wal.purge(at(1, index)).unwrap();
    }
    drop(wal);
    let wal = open(&disk, 4).unwrap();
    assert_eq!(*wal.peers(), [of(1, 9), of(2, 0)]);
    wal.save_peers(&vec![of(5, 1); 1000]).unwrap();
    append(&wal, [entry(1, 40, b"")]);
    drop(wal);
    assert_eq!(open(&disk, 4).unwrap().peers().len(), 64);
}

#[test]
fn segments_are_recycled_and_their_number_stays_small() {
    let disk = MemoryDisk::default();
    let mut wal = create(&disk, 4);
    for index in 0..300 {
        append(&wal, [entry(1, index, &[index as u8; 2000])]);
        if index >= 5 {
            wal.purge(at(1, index - 5)).unwrap();
        }
        if index % 50 == 49 {
            let before = contents(&wal);
            drop(wal);
            wal = open(&disk, 4).unwrap();
            assert_eq!(contents(&wal), before);
        }
        assert!(disk.files().len() < 12, "{:?}", disk.files().keys());
    }
}

#[test]
fn a_log_that_failed_to_write_says_so_and_is_dead() {
    let disk = MemoryDisk::default();
    let wal = history(&disk);
    let fault = wal.fault();
    disk.fail_writes();
    let (sender, receiver) = std::sync::mpsc::channel();
    let told = sender.clone();
    let _ = wal.append([entry(2, 8, b"lost")], move |result| {
        told.send(result.is_err()).unwrap()
    });
    assert!(receiver.try_recv().unwrap());
    assert!(
        fault
            .borrow()
            .as_ref()
            .unwrap()
            .contains("cannot write the log")
    );
    assert!(wal.append([entry(2, 9, b"")], |_| ()).is_err());
    assert!(try_save_vote(&wal, 5).is_err());
}

#[test]
fn with_a_thread_of_its_own_callbacks_come_in_order_and_only_when_durable() {
    let disk = MemoryDisk::default();
    let options = Options {
        threaded: true,
        ..options(8)
    };
    let wal = Wal::create_on(Arc::new(disk.clone()), &identity(), options).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    for index in 0..500 {
        let sender = sender.clone();
        let flushed =
            move |result: std::io::Result<()>| sender.send((index, result.is_ok())).unwrap();
        wal.append_each([entry(1, index, &[1; 100])], flushed)
            .unwrap();
    }
    for index in 0..500 {
        assert_eq!(receiver.recv().unwrap(), (index, true));
    }
    let before = contents(&wal);
    // As after a crash: the bytes on disk now, without those that closing adds.
    let copy = MemoryDisk::with(disk.files());
    assert_eq!(contents(&open(&copy, 8).unwrap()).entries, before.entries);
}

#[test]
fn on_a_real_directory() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("wal");
    let small = Options {
        segment_bytes: 1 << 16,
        ..Options::default()
    };
    std::fs::create_dir(&path).unwrap();
    let disk = Arc::new(crate::wal::Directory::new(&path));
    let wal = Wal::create_on(disk.clone(), &identity(), small).unwrap();
    for index in 0..200 {
        append(&wal, [entry(1, index, &[index as u8; 900])]);
    }
    save_vote(&wal, 3);
    wal.purge(at(1, 150)).unwrap();
    save_vote(&wal, 4);
    let before = contents(&wal);
    drop(wal);
    let wal = Wal::open_on(disk, small).unwrap();
    assert_eq!(contents(&wal), before);
    assert_eq!(wal.read(160, 170, usize::MAX).unwrap().len(), 10);
}

/// Random histories against the simplest log there is.
#[test]
fn any_history_is_read_back() {
    for seed in 0..150 {
        any_history(seed);
    }
}

fn any_history(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let disk = MemoryDisk::default();
    let blocks = random.random_range(4..9);
    let mut wal = create(&disk, blocks);
    let mut model: Vec<(LogPosition, Bytes)> = Vec::new();
    let mut ends = Ends {
        purged: None,
        last: None,
    };
    let mut term = 1;
    for _ in 0..60 {
        let next = ends.last.map_or(0, |last| last.index + 1);
        match random.random_range(0..10) {
            0 => {
                term += 1;
                save_vote(&wal, term);
            }
            1 if next > 0 => {
                let from = ends.purged.map_or(0, |purged| purged.index + 1);
                let keep = random.random_range(from..=next);
                let to = match keep.checked_sub(1) {
                    Some(index) if index + 1 == from => ends.purged,
                    Some(index) => Some(model.iter().find(|(at, _)| at.index == index).unwrap().0),
                    None => None,
                };
                wal.truncate(to).unwrap();
                model.retain(|(at, _)| at.index < keep);
                ends.last = to;
            }
            2 if !model.is_empty() => {
                let to = model[random.random_range(0..model.len())].0;
                wal.purge(to).unwrap();
                model.retain(|(at, _)| at.index > to.index);
                ends.purged = Some(to);
            }
            3 => {
                drop(wal);
                wal = open(&disk, blocks).unwrap();
            }
            _ => {
                let count = random.random_range(1..4);
                let mut entries = Vec::new();
                for index in next..next + count {
                    let bytes = vec![index as u8; random.random_range(0..1500)];
                    model.push((at(term, index), Bytes::from(bytes.clone())));
                    entries.push(entry(term, index, &bytes));
                }
                append(&wal, entries);
                ends.last = Some(at(term, next + count - 1));
            }
        }
        let now = contents(&wal);
        assert_eq!(now.ends, ends, "seed {seed}");
        assert_eq!(now.entries, model, "seed {seed}");
    }
}

#[test]
fn a_log_with_a_stepper_is_durable_only_when_that_says_so() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let disk = MemoryDisk::default();
    drop(create(&disk, 8));
    let stepper = Stepper::default();
    let wal = Wal::open_stepped(Arc::new(disk.clone()), options(8), stepper.clone()).unwrap();
    let flushed = Arc::new(AtomicBool::new(false));
    let told = flushed.clone();
    wal.append([entry(1, 0, b"zero")], move |result| {
        result.unwrap();
        told.store(true, Ordering::Relaxed);
    })
    .unwrap();
    assert!(!flushed.load(Ordering::Relaxed));
    let crashed = MemoryDisk::with(disk.files());
    assert!(contents(&open(&crashed, 8).unwrap()).entries.is_empty());
    stepper.step();
    assert!(flushed.load(Ordering::Relaxed));
    let crashed = MemoryDisk::with(disk.files());
    assert_eq!(contents(&open(&crashed, 8).unwrap()).entries.len(), 1);
}
