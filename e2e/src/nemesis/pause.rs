//! Processes that stand still (SIGSTOP) and then go on as if nothing had happened: a machine that swaps, or is moved.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::Evidence;
use crate::cluster::Cluster;

/// A member that stands still.
#[derive(Debug)]
pub struct Paused {
    member: usize,
    since: Instant,
}

impl Paused {
    /// Freezes a member.
    pub fn begin(cluster: &mut Cluster, member: usize) -> Result<Self> {
        cluster.pause(member)?;
        Ok(Self {
            member,
            since: Instant::now(),
        })
    }

    /// Lets it go on. Errors: it did not stand still.
    pub fn end(self, cluster: &mut Cluster) -> Result<Evidence> {
        let Self { member, since } = self;
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
            since.elapsed().as_millis()
        )))
    }
}
