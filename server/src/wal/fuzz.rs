//! Logs of any records, in frames whose checksums fit: as any writer of the file could make them.

use std::sync::Arc;

use bytes::Bytes;

use super::record::Record;
use super::sector::{self, BLOCK, Found, Place};
use super::{Entry, Files, Identity, MemoryDisk, Options, Payload, Proposals, Vote, Wal};
use crate::command::fuzz::Numbers;
use crate::command::{ClusterId, Fault, Incarnation, LogPosition, MemberId};

const OPTIONS: Options = Options {
    segment_bytes: 16 * BLOCK as u64,
    entry_bytes_max: 8 * BLOCK,
    recent_bytes_max: 600,
    threaded: false,
};

/// An empty log.
fn empty() -> Files {
    let identity = Identity {
        cluster: ClusterId(0xc1),
        member: MemberId(0xa1),
        incarnation: Incarnation(0x11),
        token: "token".to_owned(),
        owner: String::new(),
    };
    let disk = MemoryDisk::default();
    let made = Wal::create_on(Arc::new(disk.clone()), &identity, OPTIONS);
    drop(made.expect("a disk in memory does not fail"));
    disk.files()
}

fn open(files: &Files) -> (MemoryDisk, Result<Wal, Fault>) {
    let disk = MemoryDisk::with(files.clone());
    let wal = Wal::open_on(Arc::new(disk.clone()), OPTIONS);
    (disk, wal)
}

/// Reads a log of one segment whose frames hold the parts of `data`, each with a byte of length before it. It is refused, or
/// says the same when it is opened again.
pub fn replay(data: &[u8]) {
    let mut files = empty();
    let segment = files.iter_mut().find(|(name, _)| name.ends_with(".wal"));
    let (_, segment) = segment.expect("a log has a segment");
    let head = Place {
        generation: 1,
        frame: 0,
        block: 0,
        chain: 0,
    };
    let Found::Frame { blocks, chain, .. } = sector::find(segment, head) else {
        panic!("a log begins with a header");
    };
    let mut place = Place {
        frame: 1,
        block: blocks,
        chain,
        ..head
    };
    let mut numbers = Numbers::new(data);
    let mut content = Vec::new();
    while !numbers.is_empty() {
        sector::start_frame(&mut content);
        content.extend_from_slice(numbers.bytes(u8::MAX - 1));
        let start = place.block as usize * BLOCK;
        let Some(block) = segment.get_mut(start..start + BLOCK) else {
            break;
        };
        place.chain = sector::seal_frame(&mut content, place, block);
        place.frame += 1;
        place.block += 1;
    }
    let (disk, first) = open(&files);
    let Ok(first) = first else { return };
    let said = contents(&first);
    drop(first);
    let (_, again) = open(&disk.files());
    let again = again.expect("what was read once can be read again");
    assert_eq!(contents(&again), said);
}

/// Everything that a log says, as text.
fn contents(wal: &Wal) -> String {
    let entries = wal.read(0, u64::MAX, usize::MAX);
    let entries = entries.map_err(|error| error.to_string());
    format!(
        "{:?} {:?} {:?} {entries:?}",
        wal.ends(),
        wal.vote(),
        wal.committed()
    )
}

/// Frames of proper records.
pub fn logs() -> Vec<Vec<u8>> {
    let at = |term, index| LogPosition {
        term,
        leader: MemberId(7),
        index,
    };
    let entry = |term, index, bytes: &'static [u8]| {
        Record::Entry(Entry {
            position: at(term, index),
            payload: Payload::Proposals(Proposals::encoded(Bytes::from_static(bytes))),
        })
    };
    let vote = Record::Vote(Vote {
        term: 2,
        leader: MemberId(7),
        committed: true,
    });
    let frames = [
        vec![entry(1, 0, b"zero"), entry(1, 1, b"one")],
        vec![vote, entry(2, 2, b"two")],
        vec![Record::Sealed],
    ];
    let parts = |frames: &[Vec<Record>]| {
        let mut data = Vec::new();
        for records in frames {
            let mut content = Vec::new();
            records
                .iter()
                .for_each(|record| record.encode(&mut content));
            data.push(u8::try_from(content.len()).unwrap_or(u8::MAX));
            data.extend(content);
        }
        data
    };
    vec![parts(&frames[..2]), parts(&frames)]
}
