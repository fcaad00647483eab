use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A write that the API server has not answered by then may still happen; the next pass sees it.
pub(super) const DEADLINE: Duration = Duration::from_secs(8);

/// Counts writes, and ends the process after a given number of them.
///
/// That end is for fault tests: an operator that dies after each of its writes must reach the same state as one that
/// does not.
#[derive(Debug, Default)]
pub struct Writes {
    count: AtomicU64,
    exit_after: Option<u64>,
}

impl Writes {
    /// Ends the process after `exit_after` writes; never if `None`.
    pub fn new(exit_after: Option<u64>) -> Self {
        Self {
            count: AtomicU64::new(0),
            exit_after,
        }
    }

    /// Call after each write that changed something, before its result is used.
    pub fn wrote(&self, what: &str) {
        let count = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(write = what, count, "wrote");
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
