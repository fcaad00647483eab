//! How much log is kept: not more than it is worth. A member that was away may catch up by the log or be sent the state,
//! so a log much longer than the state only costs room, and the filling of new segments.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use crate::raft::core::Core;
use crate::raft::types::Log;
use crate::state;
use crate::wal::Wal;

/// How much log is kept below what is applied.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Entries, at most.
    pub entries: u64,
    /// Bytes on disk, at most, beside segments that are only partly cut; less for a small state.
    pub bytes: u64,
    /// How often the log is looked at.
    pub every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // The default of `--snapshot-catchup-entries`.
            entries: 300_000,
            // Some 200,000 puts of a few hundred bytes, a minute of many clients or hours of few.
            bytes: 64 << 20,
            every: Duration::from_secs(1),
        }
    }
}

/// Bytes of log that are kept however small the state is: sending a state costs a turn or two of everyone.
const SMALL_BYTES: u64 = 16 << 20;

impl Limits {
    /// Bytes of log to keep above a state of `state` bytes: it is sent in about half of the time that twice as much log
    /// takes to be sent, written and applied.
    fn bytes_above(&self, state: u64) -> u64 {
        self.bytes.min(state.saturating_mul(2).max(SMALL_BYTES))
    }

    /// While a state is being sent, the log goes on from it: cutting it then would only mean to send the state again.
    /// As much more as the state has bytes; beyond that, sending it again is cheaper.
    fn bytes_while_sending(&self, state: u64) -> u64 {
        self.bytes_above(state).saturating_add(state)
    }

    /// How many more before they are cut.
    fn step(&self) -> u64 {
        (self.entries / 10).max(1)
    }
}

/// Counts the peers that are being sent the state, or have been a moment ago. Clones count the same.
#[derive(Clone, Default)]
pub(in crate::raft) struct Sending(Arc<AtomicUsize>);

/// One of them, until it is dropped.
pub(in crate::raft) struct Sent(Arc<AtomicUsize>);

impl Sending {
    pub(in crate::raft) fn begin(&self) -> Sent {
        self.0.fetch_add(1, Ordering::Relaxed);
        Sent(self.0.clone())
    }

    fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Sent {
    /// A member that has installed a state asks for the log from there on; until it has, the log must still be there.
    pub(in crate::raft) fn end(self) {
        const ASKS_IN: Duration = Duration::from_secs(2);
        tokio::spawn(async move {
            tokio::time::sleep(ASKS_IN).await;
            drop(self);
        });
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Cuts the log for as long as the process runs.
pub(in crate::raft) async fn run(
    core: Core,
    wal: Wal,
    state: state::Handle,
    limits: Limits,
    sending: Sending,
) {
    loop {
        tokio::time::sleep(limits.every).await;
        let (applied, purged) = {
            let metrics = core.metrics();
            let metrics = metrics.borrow_watched();
            (
                metrics.last_applied.map(|at| at.index),
                metrics.purged.map(|at| at.index),
            )
        };
        let Some(applied) = applied else {
            continue;
        };
        let state_bytes = state.with(|state| {
            // A fault is met by the next entry as well, which ends this member.
            let _ = state.sweep_released();
            state.logical_bytes()
        });
        let (bytes, entries) = match sending.is_any() {
            false => (limits.bytes_above(state_bytes), limits.entries),
            true => (limits.bytes_while_sending(state_bytes), u64::MAX),
        };
        let by_count = applied.saturating_sub(entries);
        // An eighth more than allowed: each cut first makes the state durable, and what it frees is kept to be used again.
        let is_too_long = wal.first_index_within(bytes + bytes / 8).is_some();
        let by_bytes = match is_too_long {
            true => wal.first_index_within(bytes).unwrap_or(0).min(applied),
            false => 0,
        };
        let upto = by_count.max(by_bytes);
        let first = purged.map_or(0, |purged| purged + 1);
        let step = if is_too_long { 1 } else { limits.step() };
        if upto < first + step {
            continue;
        }
        // A "snapshot" makes the state durable up to here; only then may the log below go.
        if core.trigger().snapshot().await.is_err() {
            return;
        }
        let built = core.wait(Some(Duration::from_secs(60)));
        let is_built = |at: &Option<Log>| at.as_ref().is_some_and(|at| at.index >= upto);
        if let Err(error) = built
            .metrics(
                |metrics| is_built(&metrics.snapshot),
                "the state is durable",
            )
            .await
        {
            tracing::warn!(%error, "the log is not cut: the state is not durable");
            continue;
        }
        if core.trigger().purge_log(upto).await.is_err() {
            return;
        }
        tracing::debug!(upto, "cut the log");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_kept_as_long_as_it_is_worth() {
        const MB: u64 = 1 << 20;
        let limits = Limits::default();
        assert_eq!(limits.bytes_above(0), 16 * MB);
        assert_eq!(limits.bytes_above(20 * MB), 40 * MB);
        assert_eq!(limits.bytes_above(1000 * MB), 64 * MB);
        assert_eq!(limits.bytes_while_sending(1000 * MB), 1064 * MB);
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_counts_as_on_its_way_until_its_receiver_has_had_time_to_catch_up() {
        let sending = Sending::default();
        drop(sending.begin());
        assert!(!sending.is_any(), "given up");
        sending.begin().end();
        assert!(sending.is_any());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(!sending.is_any());
    }
}
