//! The store alone: what comes back, and what happens when its files are damaged. Each byte of a member is tried in
//! `node/tests/damage.rs`.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::marks::{Mark, batch_key};
use super::*;

pub(super) fn keep_all(_: &[u8], _: &[u8], _: u64) -> Option<Garbage> {
    None
}

fn all(disk: &Disk, space: Space) -> Result<Vec<(Bytes, Bytes)>, Fault> {
    let mut found = Vec::new();
    disk.rows().scan(space, &[], None, &mut |key, value| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

fn persist(disk: &Disk) {
    disk.persist(None).blocking_recv().unwrap().unwrap();
}

fn number(n: u32) -> Bytes {
    Bytes::copy_from_slice(&n.to_be_bytes())
}

/// Entry `n`: says in every space that it was there, and in one row that it was the last.
fn entry(disk: &Disk, n: u32) {
    let mut rows = disk.rows();
    rows.put(Space::System, Bytes::from_static(b"last"), number(n));
    for space in [Space::Current, Space::Past, Space::Log] {
        rows.put(space, number(n), Bytes::from(vec![7; 40]));
        rows.put(space, Bytes::from_static(b"same"), number(n));
        rows.delete(space, number(n.wrapping_sub(1)));
    }
}

/// What all spaces must hold after entry `n`.
fn check(disk: &Disk) -> Result<u32, Fault> {
    let last = match disk.rows().get(Space::System, b"last")? {
        None => 0,
        Some(last) => u32::from_be_bytes(last.as_ref().try_into().unwrap()),
    };
    for space in [Space::Current, Space::Past, Space::Log] {
        let expected = if last == 0 {
            Vec::new()
        } else {
            vec![
                (number(last), Bytes::from(vec![7; 40])),
                (Bytes::from_static(b"same"), number(last)),
            ]
        };
        assert_eq!(all(disk, space)?, expected, "{space:?} after entry {last}");
    }
    Ok(last)
}

#[test]
fn rows_come_back_in_order_from_every_layer() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let disk = Disk::open(dir.path(), keep_all).unwrap();
        assert_eq!(check(&disk).unwrap(), round * 100);
        for n in 1..=100 {
            entry(&disk, round * 100 + n);
            assert_eq!(check(&disk).unwrap(), round * 100 + n);
            if n % 20 == 0 {
                persist(&disk);
            }
        }
    }
}

#[test]
fn an_entry_that_was_given_up_never_reaches_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), keep_all).unwrap();
    entry(&disk, 1);
    persist(&disk);
    let mut rows = disk.rows();
    rows.put(Space::Current, Bytes::from_static(b"half"), Bytes::new());
    rows.give_up(&Fault::Store("planned".to_owned()));
    drop(rows);
    assert!(disk.persist(None).blocking_recv().unwrap().is_err());
    assert!(disk.rows().check().is_err());
    drop(disk);
    let disk = Disk::open(dir.path(), keep_all).unwrap();
    assert_eq!(check(&disk).unwrap(), 1);
}

#[test]
fn a_batch_missing_in_the_middle_sets_the_generation_aside() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), keep_all).unwrap();
    for n in 1..4 {
        entry(&disk, n);
        persist(&disk);
    }
    drop(disk);
    let store = Store::open(&dir.path().join("1"))
        .map_err(OpenError::into_fault)
        .unwrap();
    assert!(store.mark.last >= 3, "{:?}", store.mark);
    let mut batch = store.batch(
        Mark {
            last: store.mark.last + 1,
            checkpoint: 0,
        },
        0,
    );
    batch.forget(2);
    batch.commit().unwrap();
    drop(store);

    let disk = Disk::open(dir.path(), keep_all).unwrap();
    assert_eq!(check(&disk).unwrap(), 0, "it begins anew");
    assert!(dir.path().join("1.damaged").is_dir());
    entry(&disk, 1);
    drop(disk);
    let disk = Disk::open(dir.path(), keep_all).unwrap();
    assert_eq!(check(&disk).unwrap(), 1);
}

/// fjall keeps the place of a batch among the others in eight bytes that none of its checksums covers. One bit of them
/// changed would let older rows hide newer ones.
#[test]
fn a_batch_in_another_place_sets_the_generation_aside() {
    const TRAILER: &[u8] = b"FJL\x03";
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), keep_all).unwrap();
    for n in 1..=4 {
        entry(&disk, n);
        persist(&disk);
    }
    drop(disk);
    let mut names = Vec::new();
    files(dir.path(), &mut names);
    names.retain(|name| name.extension().is_some_and(|extension| extension == "jnl"));
    let journal = names.pop().expect("there is one journal");
    let bytes = fs::read(&journal).unwrap();
    // After a batch's trailer the next begins: a tag, the number of items, its place.
    let starts: Vec<usize> = bytes
        .windows(TRAILER.len())
        .enumerate()
        .filter(|(at, found)| *found == TRAILER && bytes[at + TRAILER.len()] == 1)
        .map(|(at, _)| at + TRAILER.len() + 5)
        .collect();
    assert!(starts.len() >= 3, "{starts:?}");
    let place = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    for (which, wanted) in [
        (1, place(starts[0]) - 1),
        (2, place(starts[0]) - 1),
        (0, place(starts[1]) + 1),
    ] {
        let copied = tempfile::tempdir().unwrap();
        copy(dir.path(), copied.path());
        let mut changed = bytes.clone();
        changed[starts[which]..][..8].copy_from_slice(&wanted.to_le_bytes());
        let journal = copied
            .path()
            .join(journal.strip_prefix(dir.path()).unwrap());
        fs::write(journal, changed).unwrap();
        let disk = Disk::open(copied.path(), keep_all).unwrap();
        assert_eq!(check(&disk).unwrap(), 0, "batch {which} at {wanted}");
        assert!(copied.path().join("1.damaged").is_dir());
    }
}

#[test]
fn damage_found_in_use_is_remembered_for_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), keep_all).unwrap();
    entry(&disk, 1);
    drop(disk);
    note::damaged(&dir.path().join("1"), "a block's checksum");
    let disk = Disk::open(dir.path(), keep_all).unwrap();
    assert_eq!(check(&disk).unwrap(), 0);
    drop(disk);
    assert!(dir.path().join("1.damaged").is_dir());
    assert_eq!(
        check(&Disk::open(dir.path(), keep_all).unwrap()).unwrap(),
        0
    );
}

#[test]
fn an_unfinished_generation_is_removed_and_a_finished_one_switched_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(dir.path(), keep_all).unwrap();
    entry(&disk, 1);
    let mut fresh = Fresh::create(dir.path()).unwrap();
    fresh.write(&[row("half", "")]).unwrap();
    fresh.fill(Space::Current, vec![row("half", "")]).unwrap();
    drop(fresh);
    drop(disk);
    disk = Disk::open(dir.path(), keep_all).unwrap();
    assert!(!dir.path().join("2").exists());
    assert_eq!(check(&disk).unwrap(), 1);

    let mut fresh = Fresh::create(dir.path()).unwrap();
    fresh.write(&[row("new", "state")]).unwrap();
    let many = |from: u32| (from..from + 1000).map(|number| row(&format!("{number:05}"), "x"));
    fresh.fill(Space::Current, many(0).collect()).unwrap();
    fresh.write(&[row("between", "")]).unwrap();
    fresh.fill(Space::Current, many(1000).collect()).unwrap();
    fresh.fill(Space::Log, vec![row("a", "b")]).unwrap();
    fresh.sync().unwrap();
    let filled = Disk::filled(fresh, keep_all);
    filled.make_current().unwrap();
    disk.remove().unwrap();
    disk = filled;
    assert!(!dir.path().join("1").exists());
    let expect = |disk: &Disk| {
        let system = vec![row("between", ""), row("new", "state")];
        assert_eq!(all(disk, Space::System).unwrap(), system);
        let current: Vec<_> = many(0).chain(many(1000)).collect();
        assert_eq!(all(disk, Space::Current).unwrap(), current);
        assert_eq!(all(disk, Space::Past).unwrap(), []);
        assert_eq!(all(disk, Space::Log).unwrap(), [row("a", "b")]);
    };
    expect(&disk);
    drop(disk);
    let disk = Disk::open(dir.path(), keep_all).unwrap();
    expect(&disk);
    // What comes later stands before what was filled.
    let mut rows = disk.rows();
    rows.put(
        Space::Current,
        Bytes::from_static(b"00007"),
        Bytes::from_static(b"later"),
    );
    drop(rows);
    drop(disk);
    let disk = Disk::open(dir.path(), keep_all).unwrap();
    let later = disk.rows().get(Space::Current, b"00007").unwrap();
    assert_eq!(later.as_deref(), Some(&b"later"[..]));
}

fn row(key: &str, value: &str) -> (Bytes, Bytes) {
    let [key, value] = [key, value].map(|text| Bytes::copy_from_slice(text.as_bytes()));
    (key, value)
}

#[test]
fn a_generation_takes_no_rows_out_of_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut fresh = Fresh::create(dir.path()).unwrap();
    fresh.fill(Space::Current, vec![row("b", "")]).unwrap();
    for disorder in [
        vec![row("a", "")],
        vec![row("b", "")],
        vec![row("d", ""), row("c", "")],
    ] {
        let error = fresh.fill(Space::Current, disorder).unwrap_err();
        assert!(matches!(error, Fault::Corrupt { .. }), "{error}");
    }
}

#[test]
fn marks_have_golden_bytes() {
    let mark = Mark {
        last: 258,
        checkpoint: 1,
    };
    assert_eq!(
        mark.encode(),
        [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    );
    assert_eq!(Mark::decode(&mark.encode()), Some(mark));
    assert_eq!(batch_key(258), [0, b'b', 0, 0, 0, 0, 0, 0, 1, 2]);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        let target = to.join(file.file_name());
        if file.file_type().unwrap().is_dir() {
            copy(&file.path(), &target);
        } else {
            // Journals are preallocated: keep that sparse.
            let bytes = fs::read(file.path()).unwrap();
            fs::write(&target, &bytes[..used(&bytes)]).unwrap();
            let length = bytes.len() as u64;
            fs::File::options()
                .write(true)
                .open(target)
                .unwrap()
                .set_len(length)
                .unwrap();
        }
    }
}

/// Up to where a file has content, in pages: the rest is preallocated.
fn used(bytes: &[u8]) -> usize {
    let pages = bytes.chunks(4096);
    let empty = pages
        .rev()
        .take_while(|page| **page == [0; 4096][..page.len()])
        .count();
    bytes.len().saturating_sub(empty * 4096)
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for file in fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn a_crash_of_memory_keeps_what_was_persisted_and_whole_entries_after_it() {
    for kept in 0..=3 {
        let rows = MemoryRows::default();
        let disk = Disk::on(rows.clone(), keep_all);
        entry(&disk, 1);
        entry(&disk, 2);
        persist(&disk);
        for n in 3..=5 {
            entry(&disk, n);
        }
        drop(disk);
        assert_eq!(rows.unsynced(), 3);
        rows.crash(kept);
        let disk = Disk::on(rows, keep_all);
        assert_eq!(check(&disk).unwrap(), 2 + u32::try_from(kept).unwrap());
    }
}
