//! The events of a run, in one number: equal numbers, equal runs.
//!
//! Everything that arrives on the network, every write to a disk and every fault goes in, with its virtual time.

use std::cell::Cell;

use crate::interpose;

thread_local! {
    static HASH: Cell<u64> = const { Cell::new(0xcbf2_9ce4_8422_2325) };
    static EVENTS: Cell<u64> = const { Cell::new(0) };
}

fn mix(number: u64) {
    let mixed = (HASH.get() ^ number).wrapping_mul(0x0000_0100_0000_01b3);
    HASH.set(mixed ^ (mixed >> 29));
}

/// Something happened now.
pub fn event(what: u64) {
    EVENTS.set(EVENTS.get() + 1);
    mix(interpose::now());
    mix(what);
}

/// These bytes were in it.
pub fn bytes(bytes: &[u8]) {
    mix(u64::from(crc32fast::hash(bytes)));
}

/// The number for everything so far, and how many events it stands for.
pub fn read() -> (u64, u64) {
    (HASH.get(), EVENTS.get())
}
