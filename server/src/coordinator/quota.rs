//! The store's quota: the bytes that a write adds, and the writes that a full store still takes.
//!
//! Checked before a write is proposed, against this member's own state: several under way at once may go a little beyond.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::command::{
    Command, Fault, Keys, LimitRefusal, Order, Put, PutValue, Query, Range, RangeFilter, Refusal,
    Response, SortTarget,
};
use crate::state::{No, State};

/// A full store still takes values up to this size for keys that it has. kube-apiserver compacts only after it has noted
/// so in a key, in a few bytes: refused that, no client of Kubernetes could ever make room again.
const SMALL_VALUE_BYTES_MAX: usize = 64;
const SMALL_KEY_BYTES_MAX: usize = 1024;
/// Beyond the quota for those: a part of it, and enough for some thousand in any case.
const RESERVE_PART: u64 = 64;
const RESERVE_BYTES_MIN: u64 = 1024 * 1024;

/// The limit, and whether it was met.
#[derive(Debug)]
pub(super) struct Quota {
    /// `None` is no limit.
    bytes: Option<u64>,
    /// Bytes needed by the last write that was refused; 0 if none was.
    refused: AtomicU64,
}

impl Quota {
    pub(super) fn new(bytes: Option<u64>) -> Self {
        Self {
            bytes,
            refused: AtomicU64::new(0),
        }
    }

    /// The limit.
    pub(super) fn bytes(&self) -> Option<u64> {
        self.bytes
    }

    /// Whether a write was refused that would be refused now, too.
    pub(super) fn is_full(&self, logical_bytes: u64) -> bool {
        let refused = self.refused.load(Relaxed);
        let is_full = refused > 0
            && self
                .bytes
                .is_some_and(|quota| logical_bytes + refused > quota);
        if !is_full {
            self.forget();
        }
        is_full
    }

    /// Forgets what was refused.
    pub(super) fn forget(&self) {
        self.refused.store(0, Relaxed);
    }

    /// Refuses what would add data to a full store. Deletes, revokes and compaction always pass: they make room.
    /// `bytes` is the command's encoded length, which is at least what it adds.
    pub(super) fn check(&self, command: &Command, bytes: u64, state: &State) -> Result<(), No> {
        let Some(quota) = self.bytes else {
            return Ok(());
        };
        let after = state.logical_bytes() + bytes;
        if !command.stores() || after <= quota {
            return Ok(());
        }
        let reserve = RESERVE_BYTES_MIN.max(quota / RESERVE_PART);
        if after <= quota + reserve && only_replaces_little(command, state)? {
            return Ok(());
        }
        self.refused.store(bytes, Relaxed);
        Err(Refusal::Limit(LimitRefusal::NoSpace).into())
    }
}

/// Whether all that it may store are small values of keys that are there.
fn only_replaces_little(command: &Command, state: &State) -> Result<bool, Fault> {
    let puts = match command {
        Command::Kv(command) => command.puts(),
        Command::Lease(_)
        | Command::Member(_)
        | Command::Level(_)
        | Command::Alarm(_)
        | Command::Auth(_) => {
            return Ok(false);
        }
    };
    for put in puts {
        let is_small = match &put.value {
            PutValue::Set(value) => value.len() <= SMALL_VALUE_BYTES_MAX,
            // It may be of any size, and is stored again.
            PutValue::Keep => false,
        };
        if !is_small || put.key.len() > SMALL_KEY_BYTES_MAX || !exists(put, state)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn exists(put: &Put, state: &State) -> Result<bool, Fault> {
    let query = Query::Range(Range {
        keys: Keys::One(put.key.clone()),
        revision: None,
        limit: None,
        sort: (SortTarget::Key, Order::Ascending),
        keys_only: true,
        count_only: true,
        filter: RangeFilter::default(),
    });
    let found = state.answer(&query)?.result;
    Ok(matches!(found, Ok(Response::Range(found)) if found.count > 0))
}
