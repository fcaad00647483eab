//! The guard before every write: it counts them and refuses those that come after the leader's lease or too long after
//! the look that they rest on.

use rustix::process::{Signal, getpid, kill_process};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A write that the API server has not answered by then may still happen; the next pass sees it.
pub(super) const DEADLINE: Duration = Duration::from_secs(8);

/// Counts writes, and ends or stops the process after a given number of them.
///
/// Both are for fault tests: an operator that dies after each of its writes must reach the same state as one that does
/// not, and one that slept past its lease must do no harm when it wakes.
#[derive(Debug, Default)]
pub struct Writes {
    count: AtomicU64,
    exit_after: Option<u64>,
    pause_after: Option<u64>,
}

impl Writes {
    /// Ends the process after `exit_after` writes and stops it after `pause_after`; never if `None`.
    pub fn new(exit_after: Option<u64>, pause_after: Option<u64>) -> Self {
        Self {
            count: AtomicU64::new(0),
            exit_after,
            pause_after,
        }
    }

    /// Call after each write that changed something, before its result is used.
    pub fn wrote(&self, what: &str) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(write = what, count, "wrote");
        if self.pause_after == Some(count) {
            tracing::warn!(
                write = what,
                count,
                "stops here, as --pause-after-writes asks"
            );
            // All threads stand still when this returns to us, long after.
            let _ = kill_process(getpid(), Signal::STOP);
        }
        if self.exit_after.is_some_and(|limit| count >= limit) {
            tracing::warn!(
                write = what,
                count,
                "ends here, as --exit-after-writes asks"
            );
            std::process::exit(70);
        }
    }
}
