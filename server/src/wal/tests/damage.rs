//! Damage anywhere: the same contents, or a refusal that says where it is and how to go on. Never less.

use super::*;
use crate::command::level::FIRST_LEVEL;
use crate::wal::Files;

fn check(files: Files, before: &Contents, what: &str) -> bool {
    match open(&MemoryDisk::with(files), 4) {
        Ok(wal) => {
            let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| contents(&wal)));
            assert_eq!(&found.unwrap(), before, "{what}");
            false
        }
        Err(Fault::Corrupt { what: place, why }) => {
            assert!(place.contains("memory/"), "{what}: {place}");
            assert!(
                why.contains("add it again as a new member"),
                "{what}: {why}"
            );
            true
        }
        Err(other) => panic!("{what}: {other}"),
    }
}

fn damaged_log() -> (Files, Contents) {
    let disk = MemoryDisk::default();
    let wal = history(&disk);
    let files = disk.files();
    drop(wal);
    let before = contents(&open(&MemoryDisk::with(files.clone()), 4).unwrap());
    (files, before)
}

#[test]
fn a_flipped_bit_in_any_byte_is_harmless_or_refused() {
    let (files, before) = damaged_log();
    let mut refused = 0;
    for (name, content) in &files {
        // Each byte of what was written, and every 61st of the rest.
        let written = |place: usize| content[place - place % 512 + 4..][..8] != [0; 8];
        for place in (0..content.len()).filter(|place| place % 61 == 0 || written(*place)) {
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap()[place] ^= 1 << (place % 8);
            refused += u32::from(check(damaged, &before, &format!("{name} byte {place}")));
        }
    }
    assert!(refused > 1000, "{refused}");
}

#[test]
fn a_zeroed_or_overwritten_page_is_harmless_or_refused() {
    let (files, before) = damaged_log();
    for (name, content) in &files {
        for page in (0..content.len()).step_by(4096) {
            for filler in [0u8, 0xff, 0x5a] {
                let mut damaged = files.clone();
                let end = content.len().min(page + 4096);
                damaged.get_mut(name).unwrap()[page..end].fill(filler);
                check(
                    damaged,
                    &before,
                    &format!("{name} page {page} with {filler}"),
                );
            }
        }
    }
}

#[test]
fn a_page_in_the_place_of_another_is_refused() {
    let (files, before) = damaged_log();
    for (name, content) in files.iter().filter(|(name, _)| name.ends_with(".wal")) {
        for from in (0..content.len()).step_by(4096) {
            for to in (0..content.len()).step_by(4096).filter(|to| *to != from) {
                let mut damaged = files.clone();
                let page = content[from..from + 4096].to_vec();
                damaged.get_mut(name).unwrap()[to..to + 4096].copy_from_slice(&page);
                check(damaged, &before, &format!("{name}: {from} over {to}"));
            }
        }
    }
}

#[test]
fn a_file_that_is_cut_short_or_missing_is_refused() {
    let (files, before) = damaged_log();
    for (name, content) in &files {
        let mut damaged = files.clone();
        damaged.remove(name);
        let newest = files.keys().rfind(|name| name.ends_with(".wal")) == Some(name);
        let refused = check(damaged, &before, &format!("{name} missing"));
        // The newest file may be one that was only prepared.
        assert!(refused || newest, "{name}");
        for length in (0..content.len()).step_by(512) {
            let mut damaged = files.clone();
            damaged.get_mut(name).unwrap().truncate(length);
            check(damaged, &before, &format!("{name} cut at {length}"));
        }
    }
}

#[test]
fn the_log_of_another_member_is_refused() {
    let (mut files, _) = damaged_log();
    let other = Identity {
        member: MemberId(0xb2),
        ..identity()
    };
    files.insert("identity".to_owned(), other.encode(FIRST_LEVEL));
    let fault = open(&MemoryDisk::with(files), 4).map(|_| ()).unwrap_err();
    assert!(fault.to_string().contains("another member's"), "{fault}");
}
