//! The store alone: the rows that come back, also from damaged files. Each byte of a member is tried in
//! `node/tests/damage.rs`.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::marks::{Mark, batch_key};
use super::*;

const SYSTEM: Space = Space::new(0);
pub(super) const CURRENT: Space = Space::new(1);
const PAST: Space = Space::new(2);
const LOG: Space = Space::new(3);

/// Nothing becomes garbage.
pub(super) static LAYOUT: Layout = Layout {
    names: &["system", "current", "past", "log"],
    swept: LOG,
    sweep: |_, _, _| None,
};

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
    rows.put(SYSTEM, Bytes::from_static(b"last"), number(n));
    for space in [CURRENT, PAST, LOG] {
        rows.put(space, number(n), Bytes::from(vec![7; 40]));
        rows.put(space, Bytes::from_static(b"same"), number(n));
        rows.delete(space, number(n.wrapping_sub(1)));
    }
}

/// Asserts the rows of all spaces after entry `n`.
fn check(disk: &Disk) -> Result<u32, Fault> {
    let last = match disk.rows().get(SYSTEM, b"last")? {
        None => 0,
        Some(last) => u32::from_be_bytes(last.as_ref().try_into().unwrap()),
    };
    for space in [CURRENT, PAST, LOG] {
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

/// The rows of a space in a view; `None` if its store is closed.
fn viewed(view: &View, space: Space) -> Option<Vec<(Bytes, Bytes)>> {
    let mut found = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        found.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
        ControlFlow::Continue(())
    };
    view.read(|rows| rows.scan(space, &[], None, visit).unwrap())?;
    Some(found)
}

#[test]
fn a_view_goes_on_showing_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.unwrap();
    for disk in [
        Disk::open(dir.path(), &LAYOUT).unwrap(),
        Disk::in_memory(&LAYOUT),
    ] {
        let has_files = disk.store.is_some();
        (1..=100).for_each(|n| entry(&disk, n));
        let spaces = [SYSTEM, CURRENT, PAST, LOG];
        let then = spaces.map(|space| all(&disk, space).unwrap());
        let view = runtime.block_on(disk.view()).unwrap();
        // Enough for tables to be written and merged.
        for n in 101..=900 {
            entry(&disk, n);
            if n % 40 == 0 {
                persist(&disk);
            }
        }
        for (space, then) in spaces.into_iter().zip(&then) {
            assert_eq!(viewed(&view, space).as_ref(), Some(then));
        }
        let view_now = runtime.block_on(disk.view()).unwrap();
        assert_eq!(
            viewed(&view_now, CURRENT),
            Some(all(&disk, CURRENT).unwrap())
        );
        drop(disk);
        assert_eq!(viewed(&view, CURRENT).is_none(), has_files);
    }
}

#[test]
fn rows_come_back_in_order_from_every_layer() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..4 {
        let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
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
fn rows_for_which_memtables_have_no_room_wait_and_come_through() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    disk.limit_memtables(0);
    for n in 1..=200 {
        entry(&disk, n);
        if n % 10 == 0 {
            persist(&disk);
        }
    }
    drop(disk);
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    assert_eq!(check(&disk).unwrap(), 200);
}

#[test]
fn an_entry_that_was_given_up_never_reaches_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    entry(&disk, 1);
    persist(&disk);
    let mut rows = disk.rows();
    rows.put(CURRENT, Bytes::from_static(b"half"), Bytes::new());
    rows.give_up(&Fault::Store("planned".to_owned()));
    drop(rows);
    assert!(disk.persist(None).blocking_recv().unwrap().is_err());
    assert!(disk.rows().check().is_err());
    drop(disk);
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    assert_eq!(check(&disk).unwrap(), 1);
}

#[test]
fn a_batch_missing_in_the_middle_sets_the_generation_aside() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    for n in 1..4 {
        entry(&disk, n);
        persist(&disk);
    }
    drop(disk);
    let store = Store::open(&dir.path().join("1"), &LAYOUT)
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

    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    assert_eq!(check(&disk).unwrap(), 0, "it begins anew");
    assert!(dir.path().join("1.damaged").is_dir());
    entry(&disk, 1);
    drop(disk);
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    assert_eq!(check(&disk).unwrap(), 1);
}

/// fjall keeps the place of a batch among the others in eight bytes that none of its checksums covers. One bit of them
/// changed would let older rows hide newer ones.
#[test]
fn a_batch_in_another_place_sets_the_generation_aside() {
    const TRAILER: &[u8] = b"FJL\x03";
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
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
        let disk = Disk::open(copied.path(), &LAYOUT).unwrap();
        assert_eq!(check(&disk).unwrap(), 0, "batch {which} at {wanted}");
        assert!(copied.path().join("1.damaged").is_dir());
    }
}

#[test]
fn damage_found_in_use_is_remembered_for_the_next_open() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    entry(&disk, 1);
    drop(disk);
    note::damaged(&dir.path().join("1"), "a block's checksum");
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    assert_eq!(check(&disk).unwrap(), 0);
    drop(disk);
    assert!(dir.path().join("1.damaged").is_dir());
    assert_eq!(check(&Disk::open(dir.path(), &LAYOUT).unwrap()).unwrap(), 0);
}

#[test]
fn an_unfinished_generation_is_removed_and_a_finished_one_switched_in() {
    let dir = tempfile::tempdir().unwrap();
    let mut disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    entry(&disk, 1);
    let mut fresh = Fresh::create(dir.path(), &LAYOUT).unwrap();
    fresh.write(&[row("half", "")]).unwrap();
    fresh.fill(CURRENT, vec![row("half", "")]).unwrap();
    drop(fresh);
    drop(disk);
    disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    assert!(!dir.path().join("2").exists());
    assert_eq!(check(&disk).unwrap(), 1);

    let mut fresh = Fresh::create(dir.path(), &LAYOUT).unwrap();
    fresh.write(&[row("new", "state")]).unwrap();
    let many = |from: u32| (from..from + 1000).map(|number| row(&format!("{number:05}"), "x"));
    fresh.fill(CURRENT, many(0).collect()).unwrap();
    fresh.write(&[row("between", "")]).unwrap();
    fresh.fill(CURRENT, many(1000).collect()).unwrap();
    fresh.fill(LOG, vec![row("a", "b")]).unwrap();
    fresh.sync().unwrap();
    let filled = Disk::filled(fresh, &LAYOUT);
    filled.make_current().unwrap();
    disk.remove().unwrap();
    disk = filled;
    assert!(!dir.path().join("1").exists());
    let expect = |disk: &Disk| {
        let system = vec![row("between", ""), row("new", "state")];
        assert_eq!(all(disk, SYSTEM).unwrap(), system);
        let current: Vec<_> = many(0).chain(many(1000)).collect();
        assert_eq!(all(disk, CURRENT).unwrap(), current);
        assert_eq!(all(disk, PAST).unwrap(), []);
        assert_eq!(all(disk, LOG).unwrap(), [row("a", "b")]);
    };
    expect(&disk);
    drop(disk);
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    expect(&disk);
    // A later row stands before a filled one.
    let mut rows = disk.rows();
    rows.put(
        CURRENT,
        Bytes::from_static(b"00007"),
        Bytes::from_static(b"later"),
    );
    drop(rows);
    drop(disk);
    let disk = Disk::open(dir.path(), &LAYOUT).unwrap();
    let later = disk.rows().get(CURRENT, b"00007").unwrap();
    assert_eq!(later.as_deref(), Some(&b"later"[..]));
}

fn row(key: &str, value: &str) -> (Bytes, Bytes) {
    let [key, value] = [key, value].map(|text| Bytes::copy_from_slice(text.as_bytes()));
    (key, value)
}

#[test]
fn a_generation_takes_no_rows_out_of_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut fresh = Fresh::create(dir.path(), &LAYOUT).unwrap();
    fresh.fill(CURRENT, vec![row("b", "")]).unwrap();
    for disorder in [
        vec![row("a", "")],
        vec![row("b", "")],
        vec![row("d", ""), row("c", "")],
    ] {
        let error = fresh.fill(CURRENT, disorder).unwrap_err();
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
        let disk = Disk::on(rows.clone(), &LAYOUT);
        entry(&disk, 1);
        entry(&disk, 2);
        persist(&disk);
        for n in 3..=5 {
            entry(&disk, n);
        }
        drop(disk);
        assert_eq!(rows.unsynced(), 3);
        rows.crash(kept);
        let disk = Disk::on(rows, &LAYOUT);
        assert_eq!(check(&disk).unwrap(), 2 + u32::try_from(kept).unwrap());
    }
}

/// As [`LAYOUT`], of a version that has one more.
static LATER: Layout = Layout {
    names: &["system", "current", "past", "log", "nodes"],
    ..LAYOUT
};
const NODES: Space = Space::new(4);

#[test]
fn a_later_version_adds_its_space_to_a_store_and_an_earlier_one_carries_it_along() {
    let dir = tempfile::tempdir().unwrap();
    let earlier = || Disk::open(dir.path(), &LAYOUT).unwrap();
    let later = || Disk::open(dir.path(), &LATER).unwrap();
    let node = || (Bytes::from_static(b"node"), Bytes::from_static(b"row"));
    let disk = earlier();
    entry(&disk, 1);
    persist(&disk);
    drop(disk);
    // Nothing is written: it must be at the others' batch all the same.
    drop(later());
    let disk = later();
    assert_eq!(check(&disk).unwrap(), 1);
    disk.rows().put(NODES, node().0, node().1);
    entry(&disk, 2);
    persist(&disk);
    drop(disk);
    for n in 3..6 {
        let disk = earlier();
        assert_eq!(check(&disk).unwrap(), n - 1, "nothing was set aside");
        entry(&disk, n);
        persist(&disk);
        drop(disk);
    }
    let disk = later();
    assert_eq!(check(&disk).unwrap(), 5);
    assert_eq!(all(&disk, NODES).unwrap(), [node()]);
}

#[test]
fn a_space_that_is_on_the_list_and_gone_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Disk::open(dir.path(), &LATER).unwrap();
    entry(&disk, 1);
    persist(&disk);
    drop(disk);
    let path = dir.path().join("1");
    let db = fjall::Database::builder(&path).open().unwrap();
    let nodes = db.keyspace("nodes", Default::default).unwrap();
    db.delete_keyspace(nodes).unwrap();
    drop(db);
    let disk = Disk::open(dir.path(), &LATER).unwrap();
    assert_eq!(
        check(&disk).unwrap(),
        0,
        "another generation is in its place"
    );
    assert!(dir.path().join("1.damaged").exists());
}

#[test]
fn a_list_of_spaces_has_one_reading() {
    let names = |names: &[&str]| {
        names
            .iter()
            .map(|&name| name.to_owned())
            .collect::<Vec<_>>()
    };
    for list in [names(&["system"]), names(&["system", "current", "a-b"])] {
        assert_eq!(super::marks::listed(&super::marks::list(&list)), Some(list));
    }
    for damaged in [&b""[..], b"system", b"system\0\0", b"\xff\0"] {
        assert_eq!(super::marks::listed(damaged), None);
    }
}
