//! The cost of a member that has nothing to do.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cluster::Cluster;
use crate::gauge::{Processors, Usage};
use crate::load::megabytes;
use crate::reading::{Metric, Reading};

/// Starting has ended after this long.
const SETTLE: Duration = Duration::from_secs(3);
/// The kernel counts processor time in steps of 10 ms: over 10 s that is 0.1 %.
const WATCHED_SECONDS_MIN: f64 = 10.0;

/// Watches the first member.
pub(super) async fn measure(cluster: &Cluster, seconds: f64) -> Result<Reading> {
    let pid = cluster.members[0].pid()?;
    tokio::time::sleep(SETTLE).await;
    let (before, processors, started) = (Usage::of(pid)?, Processors::now()?, Instant::now());
    tokio::time::sleep(Duration::from_secs_f64(seconds.max(WATCHED_SECONDS_MIN))).await;
    let after = Usage::of(pid)?;
    let used = after.cpu - before.cpu;
    let share = used.as_secs_f64() / started.elapsed().as_secs_f64();
    Ok(Reading {
        figures: [
            (Metric::ResidentMegabytes, megabytes(after.resident_bytes)),
            (Metric::CpuPercent, share * 100.0),
        ]
        .into(),
        noise: processors.noise(Processors::now()?, used),
        ..Reading::default()
    })
}
