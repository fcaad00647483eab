//! How much log is kept: enough that a member which was away for minutes needs no snapshot, and not more than a disk
//! should hold.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::Core;
use crate::wal::Wal;

/// How much log is kept below what is applied.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At most so many entries.
    pub entries: u64,
    /// At most so many bytes on disk, beside segments that are only partly cut.
    pub bytes: u64,
    /// How often the log is looked at.
    pub every: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            // What `--snapshot-catchup-entries` is by default.
            entries: 300_000,
            // Some 300,000 puts of a few hundred bytes: the log takes less room than a state of a million keys.
            bytes: 96 << 20,
            every: Duration::from_secs(1),
        }
    }
}

impl Limits {
    /// How many more before they are cut.
    fn step(&self) -> u64 {
        (self.entries / 10).max(1)
    }
}

/// Cuts the log for as long as the process runs.
pub(super) async fn run(core: Core, wal: Wal, limits: Limits) {
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
        let by_count = applied.saturating_sub(limits.entries);
        // A quarter more than allowed: cutting in larger steps costs less, each first makes the state durable.
        let is_too_long = wal
            .first_index_within(limits.bytes + limits.bytes / 4)
            .is_some();
        let by_bytes = match is_too_long {
            true => wal
                .first_index_within(limits.bytes)
                .unwrap_or(0)
                .min(applied),
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
        let is_built =
            |at: &Option<super::types::Log>| at.as_ref().is_some_and(|at| at.index >= upto);
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
