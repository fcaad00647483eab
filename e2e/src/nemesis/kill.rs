//! Processes that are gone from one moment to the next (SIGKILL), and start again on what is on disk.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Evidence;
use crate::cluster::Cluster;

/// Kills a member and starts it again after a while.
pub async fn one(cluster: &mut Cluster, member: usize, down: Duration) -> Result<Evidence> {
    all(cluster, &[member], down).await
}

/// Kills members at once and starts them again after a while, ready or not.
pub async fn all(cluster: &mut Cluster, members: &[usize], down: Duration) -> Result<Evidence> {
    let names: Vec<_> = members
        .iter()
        .map(|member| cluster.name(*member).to_owned())
        .collect();
    cluster.kill_all(members).await?;
    for member in members {
        ensure!(!cluster.runs(*member), "{} survived", cluster.name(*member));
    }
    tokio::time::sleep(down).await;
    for member in members {
        cluster.spawn(*member)?;
    }
    Ok(Evidence(format!(
        "killed {} for {} ms",
        names.join(", "),
        down.as_millis()
    )))
}

/// Kills a member and starts it again without even waiting for its end.
pub async fn replace(cluster: &mut Cluster, member: usize) -> Result<Evidence> {
    cluster.replace(member).await?;
    Ok(Evidence(format!(
        "killed {} and started it again at once",
        cluster.name(member)
    )))
}
