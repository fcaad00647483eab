//! Processes that stand still (SIGSTOP) and then go on as if nothing had happened: a machine that swaps, or is moved.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Evidence;
use crate::cluster::Cluster;

/// Freezes a member for a while.
pub async fn one(cluster: &mut Cluster, member: usize, held: Duration) -> Result<Evidence> {
    cluster.pause(member)?;
    tokio::time::sleep(held).await;
    let stood_still = cluster.is_paused(member)?;
    cluster.resume(member)?;
    ensure!(
        stood_still,
        "{} ran while it was frozen",
        cluster.name(member)
    );
    Ok(Evidence(format!(
        "froze {} for {} ms",
        cluster.name(member),
        held.as_millis()
    )))
}
