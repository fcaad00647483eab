//! The leader is killed; how long until the next write is acknowledged?

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use coord_proto::etcd::etcdserverpb::{PutRequest, PutResponse};
use tokio::sync::mpsc;

use crate::cluster::Cluster;
use crate::data::{Random, key};
use crate::gauge::Processors;
use crate::reading::{Metric, Reading, Spread};
use crate::wire::{Connection, Rpc};

/// A write is tried on every survivor this often; one write alone could hang until its own time limit.
const TRY_EVERY: Duration = Duration::from_millis(10);
const PATIENCE: Duration = Duration::from_secs(30);
/// A trial begins in steady state: the restarted member has caught up and heartbeats go round.
const SETTLE: Duration = Duration::from_millis(1500);

/// Kills the leader `trials` times; each time it comes back with its data before the next.
pub(super) async fn measure(cluster: &mut Cluster, trials: u32) -> Result<Reading> {
    let processors = Processors::now()?;
    let mut seconds = Vec::new();
    for _ in 0..trials {
        seconds.push(trial(cluster).await?.as_secs_f64());
    }
    reading(seconds, processors)
}

/// How long the trials took, each.
pub(super) fn reading(seconds: Vec<f64>, since: Processors) -> Result<Reading> {
    let spread = Spread::of(seconds).context("no trials")?;
    Ok(Reading {
        figures: [
            (Metric::FailoverSeconds, spread.median),
            (Metric::FailoverWorstSeconds, spread.max),
        ]
        .into(),
        noise: since.noise(Processors::now()?, Duration::ZERO),
        ..Reading::default()
    })
}

async fn trial(cluster: &mut Cluster) -> Result<Duration> {
    let leader = cluster.leader().await?;
    let mut survivors = Vec::new();
    for (index, member) in cluster.members.iter().enumerate() {
        if index != leader {
            survivors.push(Connection::open(member.client_port).await?);
        }
    }
    for survivor in &survivors {
        put(survivor.clone(), 0).await.context("before the kill")?;
    }
    cluster.members[leader].kill();
    let killed = Instant::now();
    let down = first_acknowledged(&survivors, killed).await?;
    cluster.members[leader].spawn()?;
    cluster.members[leader].ready(PATIENCE).await?;
    cluster.settle().await?;
    tokio::time::sleep(SETTLE).await;
    Ok(down)
}

/// Only writes that were sent after the kill count.
async fn first_acknowledged(survivors: &[Connection], killed: Instant) -> Result<Duration> {
    let (acknowledged, mut first) = mpsc::channel(1);
    let tries = async {
        for nth in 1.. {
            for survivor in survivors {
                let (survivor, acknowledged) = (survivor.clone(), acknowledged.clone());
                tokio::spawn(async move {
                    if put(survivor, nth).await.is_ok() {
                        // Full: another was first.
                        let _ = acknowledged.try_send(killed.elapsed());
                    }
                });
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
    };
    tokio::select! {
        down = first.recv() => down.context("nobody is trying"),
        () = tries => unreachable!("tries go on for ever"),
        () = tokio::time::sleep(PATIENCE) => anyhow::bail!("no write in {PATIENCE:?} after the kill"),
    }
}

async fn put(connection: Connection, nth: u64) -> Result<()> {
    let request = PutRequest {
        key: key(nth),
        value: Random::new(nth).value(),
        ..PutRequest::default()
    };
    connection.call::<PutResponse>(Rpc::Put, &request).await?;
    Ok(())
}
