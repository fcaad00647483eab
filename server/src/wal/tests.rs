//! The log gives back what was acknowledged, or refuses: over round trips, power cuts at every point, and damage anywhere.

mod crash;
mod damage;
mod golden;
mod round_trip;

use std::sync::Arc;

use bytes::Bytes;

use super::{Ends, Entry, Identity, MemoryDisk, Options, Payload, Proposals, Vote, Wal};
use crate::command::{ClusterId, Fault, Incarnation, LogPosition, MemberId};

const ENTRY_BYTES_MAX: usize = 50_000;

/// Segments of 3 to 8 blocks, so that a few records fill them.
fn options(blocks: u64) -> Options {
    Options {
        segment_bytes: blocks * 4096,
        entry_bytes_max: ENTRY_BYTES_MAX,
        recent_bytes_max: 600,
        threaded: false,
    }
}

#[test]
fn a_small_machine_keeps_fewer_entries_in_memory() {
    let bytes = |memory_bytes| Options::of(memory_bytes).recent_bytes_max;
    assert_eq!(bytes(256 << 20), 8 << 20);
    assert_eq!(bytes(u64::MAX), Options::default().recent_bytes_max);
}

fn identity() -> Identity {
    Identity {
        cluster: ClusterId(0xc1),
        member: MemberId(0xa1),
        incarnation: Incarnation(0x11),
        token: "token".to_owned(),
        owner: String::new(),
    }
}

fn create(disk: &MemoryDisk, blocks: u64) -> Wal {
    Wal::create_on(Arc::new(disk.clone()), &identity(), options(blocks)).unwrap()
}

fn open(disk: &MemoryDisk, blocks: u64) -> Result<Wal, Fault> {
    Wal::open_on(Arc::new(disk.clone()), options(blocks))
}

fn at(term: u64, index: u64) -> LogPosition {
    LogPosition {
        term,
        leader: MemberId(7),
        index,
    }
}

fn entry(term: u64, index: u64, bytes: &[u8]) -> Entry {
    let proposals = Proposals::encoded(Bytes::copy_from_slice(bytes));
    Entry {
        position: at(term, index),
        payload: Payload::Proposals(proposals),
    }
}

fn vote(term: u64) -> Vote {
    Vote {
        term,
        leader: MemberId(7),
        committed: term.is_multiple_of(2),
    }
}

/// Everything a log says.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Contents {
    ends: Ends,
    vote: Option<Vote>,
    committed: Option<LogPosition>,
    entries: Vec<(LogPosition, Bytes)>,
}

fn contents(wal: &Wal) -> Contents {
    let entries = wal.read(0, u64::MAX, usize::MAX).unwrap();
    let bytes = |entry: Entry| {
        (
            entry.position,
            entry.payload.bytes().cloned().unwrap_or_default(),
        )
    };
    Contents {
        ends: wal.ends(),
        vote: wal.vote(),
        committed: wal.committed(),
        entries: entries.into_iter().map(bytes).collect(),
    }
}

/// Appends and waits, as far as a stepped log needs it.
fn append(wal: &Wal, entries: impl IntoIterator<Item = Entry>) {
    wal.append(entries, |result| result.unwrap()).unwrap();
}

fn save_vote(wal: &Wal, term: u64) {
    try_save_vote(wal, term).unwrap();
}

fn try_save_vote(wal: &Wal, term: u64) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    runtime.block_on(wal.save_vote(vote(term)))
}

/// A log with some history in several segments: a truncation, a purge, votes, and a tail.
fn history(disk: &MemoryDisk) -> Wal {
    let wal = create(disk, 4);
    save_vote(&wal, 1);
    append(
        &wal,
        (0..4).map(|index| entry(1, index, &[index as u8; 700])),
    );
    append(&wal, [entry(1, 4, b"to be taken back")]);
    wal.truncate(Some(at(1, 3))).unwrap();
    save_vote(&wal, 2);
    append(&wal, [entry(2, 4, &[4; 3000]), entry(2, 5, b"five")]);
    wal.save_committed(at(2, 4)).unwrap();
    wal.purge(at(1, 1)).unwrap();
    append(&wal, [entry(2, 6, &[6; 2000])]);
    append(&wal, [entry(2, 7, b"seven")]);
    wal
}
