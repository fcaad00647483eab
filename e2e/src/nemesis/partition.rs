//! Cuts between members. Clients still reach all of them.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::Evidence;
use crate::cluster::Cluster;

/// The directions in which a member is cut off from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Nothing gets through.
    Both,
    /// The others do not hear it.
    Unheard,
    /// It does not hear the others.
    Deaf,
}

/// Cuts a member off from all others for a while.
pub async fn cut_off(
    cluster: &mut Cluster,
    member: usize,
    way: Way,
    held: Duration,
) -> Result<Evidence> {
    cut(cluster, member, way)?;
    tokio::time::sleep(held).await;
    heal(cluster, member, way)
}

/// Cuts a member off from all others.
pub fn cut(cluster: &Cluster, member: usize, way: Way) -> Result<()> {
    for other in (0..cluster.len()).filter(|other| *other != member) {
        if way != Way::Deaf {
            cluster.cut(member, other)?;
        }
        if way != Way::Unheard {
            cluster.cut(other, member)?;
        }
    }
    Ok(())
}

/// Undoes every cut of the cluster.
///
/// Errors: nothing was dropped, so nobody was cut off.
pub fn heal(cluster: &Cluster, member: usize, way: Way) -> Result<Evidence> {
    let mut dropped = 0;
    for index in 0..cluster.len() {
        dropped += cluster.heal(index)?;
    }
    ensure!(dropped > 0, "the cut dropped no packet");
    let how = match way {
        Way::Both => "cut off",
        Way::Unheard => "was not heard",
        Way::Deaf => "heard nobody",
    };
    Ok(Evidence(format!(
        "{} {how}, {dropped} packets dropped",
        cluster.name(member)
    )))
}
