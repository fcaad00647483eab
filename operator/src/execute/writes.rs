//! Counts what was written, at one place, so that a fault test can end the process after any of its writes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A write that the API server has not answered by then may still happen; the next pass sees it.
pub(super) const DEADLINE: Duration = Duration::from_secs(8);

/// How many writes this process has made.
///
/// With the feature `failpoints` it ends or stops the process after a given number of them. An operator that dies after
/// each of its writes must reach the same state as one that lives, and one that slept past its lease must do no harm
/// when it wakes.
#[derive(Debug, Default)]
pub struct Writes {
    count: AtomicU64,
    #[cfg(feature = "failpoints")]
    failpoints: failpoints::After,
}

impl Writes {
    /// Ends the process after `exit_after` writes and stops it after `pause_after`; never if `None`.
    #[cfg(feature = "failpoints")]
    pub fn with(exit_after: Option<u64>, pause_after: Option<u64>) -> Self {
        Self {
            count: AtomicU64::new(0),
            failpoints: failpoints::After {
                exit_after,
                pause_after,
            },
        }
    }

    /// Call after each write that changed something, before its result is used.
    pub fn wrote(&self, what: &str) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(write = what, count, "wrote");
        #[cfg(feature = "failpoints")]
        self.failpoints.reached(what, count);
    }
}

#[cfg(feature = "failpoints")]
mod failpoints {
    use rustix::process::{Signal, getpid, kill_process};

    #[derive(Debug, Default)]
    pub(super) struct After {
        pub(super) exit_after: Option<u64>,
        pub(super) pause_after: Option<u64>,
    }

    impl After {
        pub(super) fn reached(&self, what: &str, count: u64) {
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
}
