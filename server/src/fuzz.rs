//! Any bytes, wherever bytes of others are read: functions that must not panic whatever they are given, and that hold what
//! was read against a second opinion.
//!
//! Each room has its own in a file `fuzz.rs`; this one lists them. Tests give them bytes made from a seed, in `make test`
//! always the same ones and in `make fuzz` others for as long as wanted. Only in tests.

#[cfg(test)]
mod drive;

use crate::{command, etcd, state, wal};

/// A place where bytes of others are read.
pub struct Target {
    /// In English, with hyphens.
    pub name: &'static str,
    /// Reads `data`. Panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that go deep, to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub static TARGETS: [Target; 6] = [
    Target {
        name: "requests",
        run: etcd::fuzz::request,
        seeds: etcd::fuzz::requests,
    },
    Target {
        name: "transactions",
        run: command::fuzz::transaction,
        seeds: Vec::new,
    },
    Target {
        name: "permissions",
        run: state::fuzz::permissions,
        seeds: Vec::new,
    },
    Target {
        name: "log-entries",
        run: command::fuzz::envelope,
        seeds: command::fuzz::envelopes,
    },
    Target {
        name: "log-replay",
        run: wal::fuzz::replay,
        seeds: wal::fuzz::logs,
    },
    Target {
        name: "snapshots",
        run: state::fuzz::snapshot,
        seeds: state::fuzz::snapshots,
    },
];
