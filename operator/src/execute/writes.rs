//! Counts what was written, at one place, so that a fault test can end the process after any of its writes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A write that the API server has not answered by then may still happen; the next pass sees it.
pub(super) const DEADLINE: Duration = Duration::from_secs(8);

/// How many writes this process has made.
///
/// With the feature `failpoints` it ends the process after a given number of them, and stops it before a given step. An
/// operator that dies after each of its writes must reach the same state as one that lives, and one that slept past its
/// lease must do no harm when it wakes.
#[derive(Debug, Default)]
pub struct Writes {
    count: AtomicU64,
    #[cfg(feature = "failpoints")]
    failpoints: failpoints::Failpoints,
}

impl Writes {
    /// Ends the process after `exit_after` writes, and stops it before each step of the name `pause_before`; never if
    /// `None`.
    #[cfg(feature = "failpoints")]
    pub fn with(exit_after: Option<u64>, pause_before: Option<String>) -> Self {
        Self {
            count: AtomicU64::new(0),
            failpoints: failpoints::Failpoints {
                exit_after,
                pause_before,
            },
        }
    }

    /// Call before a step is done, when what it needs is written down and nothing of it is sent.
    pub(super) fn about_to(&self, step: &str) {
        tracing::trace!(step, "about to");
        #[cfg(feature = "failpoints")]
        self.failpoints.before(step);
    }

    /// Call after each write that changed something, before its result is used.
    pub fn wrote(&self, what: &str) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(write = what, count, "wrote");
        #[cfg(feature = "failpoints")]
        self.failpoints.after(what, count);
    }
}

#[cfg(feature = "failpoints")]
mod failpoints {
    use rustix::process::{Signal, getpid, kill_process};

    #[derive(Debug, Default)]
    pub(super) struct Failpoints {
        pub(super) exit_after: Option<u64>,
        pub(super) pause_before: Option<String>,
    }

    impl Failpoints {
        pub(super) fn before(&self, step: &str) {
            if self.pause_before.as_deref() == Some(step) {
                tracing::warn!(step, "stops here, as --pause-before-step asks");
                // All threads stand still when this returns to us, long after.
                let _ = kill_process(getpid(), Signal::STOP);
            }
        }

        pub(super) fn after(&self, what: &str, count: u64) {
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
