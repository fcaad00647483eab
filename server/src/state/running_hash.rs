//! A hash over all that was ever applied: two members that have applied the same have the same one.
//!
//! Each entry's is made of the one before, the entry's position and bytes, and what the entry came to: every change in
//! order, and the ledger after it. So it differs from the first entry on that was another one, or that the law decided
//! otherwise, whether because of a version, a flipped bit or a disk that was put back, and stays different. Nothing in it
//! is a member's own: neither when its rows reach the disk nor whom it answers.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::command::{Event, EventKind, LogPosition};

/// The hash after an entry. 0 before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunningHash(pub u64);

impl std::fmt::Display for RunningHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Numbers, in their order, as bytes that are hashed at once.
fn numbers<const COUNT: usize>(numbers: [u64; COUNT]) -> [[u8; 8]; COUNT] {
    numbers.map(u64::to_le_bytes)
}

impl RunningHash {
    fn add(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    /// Begins an entry. `bytes` are its content, of any kind.
    pub(super) fn begin(&mut self, at: LogPosition, bytes: &[u8]) {
        let LogPosition {
            term,
            leader,
            index,
        } = at;
        self.add(numbers([term, leader.0, index]).as_flattened());
        self.add(bytes);
    }

    /// A change that the entry made.
    pub(super) fn change(&mut self, event: &Event) {
        // The version that it replaced follows from the changes before it.
        let Event { kind, kv, prev: _ } = event;
        let kind = match kind {
            EventKind::Put => 0,
            EventKind::Delete => 1,
        };
        let lease = kv.lease.map_or(0, |lease| lease.0.cast_unsigned());
        let head = [
            kind,
            kv.create_revision.0,
            kv.mod_revision.0,
            kv.version,
            lease,
        ];
        self.add(numbers(head).as_flattened());
        self.add(&kv.key);
        self.add(&kv.value);
    }

    /// Ends an entry, with what the ledger says after it.
    pub(super) fn end(&mut self, [revision, floor, leader_time, bytes]: [u64; 4], level: u32) {
        let tail = [revision, floor, leader_time, bytes, u64::from(level)];
        self.add(numbers(tail).as_flattened());
    }
}
