//! A power cut at every write, with any part of the write done.

use super::*;

type Step = Box<dyn Fn(&Wal)>;

/// A history in steps, each acknowledged before the next begins; the contents after each.
fn steps() -> Vec<Step> {
    let mut steps: Vec<Step> = vec![Box::new(|wal| save_vote(wal, 1))];
    for index in 0..12u64 {
        let bytes = vec![index as u8; (index as usize % 4) * 900];
        steps.push(Box::new(move |wal| append(wal, [entry(1, index, &bytes)])));
    }
    steps.push(Box::new(|wal| {
        wal.truncate(Some(at(1, 9))).unwrap();
        append(wal, [entry(2, 10, &[9; 5000])]);
    }));
    steps.push(Box::new(|wal| {
        wal.purge(at(1, 8)).unwrap();
        save_vote(wal, 2);
    }));
    // Larger than a segment: one is made for it, over the prepared one.
    steps.push(Box::new(|wal| append(wal, [entry(2, 11, &[7; 30_000])])));
    for index in 12..20u64 {
        steps.push(Box::new(move |wal| {
            append(wal, [entry(2, index, &[3; 2500])])
        }));
    }
    steps
}

#[test]
fn a_power_cut_anywhere_loses_nothing_that_was_acknowledged() {
    let disk = MemoryDisk::default();
    let wal = create(&disk, 5);
    let mut acknowledged = contents(&wal);
    for (number, step) in steps().iter().enumerate() {
        disk.record();
        step(&wal);
        let after = contents(&wal);
        for (place, write) in disk.recorded().into_iter().enumerate() {
            let sectors = write.bytes.len() / 512;
            let kept: Vec<Vec<bool>> = (0..=sectors)
                // A disk may write from the front, from the back, or leave one out.
                .flat_map(|count| {
                    let front = (0..sectors).map(|sector| sector < count).collect();
                    let back = (0..sectors).map(|sector| sector >= count).collect();
                    let without = (0..sectors).map(|sector| sector != count).collect();
                    [front, back, without]
                })
                .collect();
            for kept in kept {
                let mut files = write.before.clone();
                let file = files.get_mut(&write.name).unwrap();
                for sector in (0..sectors).filter(|sector| kept[*sector]) {
                    let (from, to) = (sector * 512, sector * 512 + 512);
                    file[write.offset + from..write.offset + to]
                        .copy_from_slice(&write.bytes[from..to]);
                }
                let image = MemoryDisk::with(files);
                let wal = open(&image, 5)
                    .unwrap_or_else(|fault| panic!("step {number}.{place}: {fault}"));
                let found = contents(&wal);
                // Lazy records (commit position, purge, truncation) may ride on the write before the one waited for.
                let entries_ok =
                    found.entries == acknowledged.entries || found.entries == after.entries;
                assert!(entries_ok, "step {number}.{place}: {found:?}");
                assert!(found.vote == acknowledged.vote || found.vote == after.vote);
                // And it goes on from there, through another cut and restart.
                let next = found.ends.last.map_or(0, |last| last.index + 1);
                append(&wal, [entry(9, next, b"after the cut")]);
                drop(wal);
                let wal = open(&image, 5).unwrap();
                assert_eq!(wal.ends().last, Some(at(9, next)));
            }
        }
        acknowledged = after;
    }
}

/// Sectors are written whole by every disk we know of. If one is not, the log refuses rather than guesses.
#[test]
fn a_write_cut_inside_a_sector_is_never_taken_for_less() {
    let disk = MemoryDisk::default();
    let wal = create(&disk, 5);
    append(&wal, [entry(1, 0, b"zero")]);
    let before = contents(&wal);
    disk.record();
    append(&wal, [entry(1, 1, &[1; 300])]);
    let after = contents(&wal);
    let write = disk.recorded().pop().unwrap();
    for cut in 0..write.bytes.len() {
        let mut files = write.before.clone();
        let file = files.get_mut(&write.name).unwrap();
        file[write.offset..write.offset + cut].copy_from_slice(&write.bytes[..cut]);
        if let Ok(wal) = open(&MemoryDisk::with(files), 5) {
            let found = contents(&wal);
            assert!(found == before || found == after, "{cut}");
        }
    }
}
