//! The leader hands over; how long does a write wait meanwhile?

use std::cell::Cell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coord_proto::etcd::etcdserverpb::{MoveLeaderRequest, MoveLeaderResponse};
use coord_proto::etcd::etcdserverpb::{PutRequest, PutResponse};

use super::failover;
use crate::cluster::{Cluster, member_id};
use crate::data::{Random, key};
use crate::gauge::Processors;
use crate::reading::Reading;
use crate::wire::{Connection, Rpc};

/// A write that failed is tried again after this long.
const TRY_AGAIN: Duration = Duration::from_millis(2);
/// The time for which writes go on after the hand-over was answered: some effects come late.
const AFTERMATH: Duration = Duration::from_millis(500);
/// A trial begins in steady state.
const SETTLE: Duration = Duration::from_millis(500);

/// Hands leadership to the next member in turn, `trials` times.
pub(super) async fn measure(cluster: &mut Cluster, trials: u32) -> Result<Reading> {
    let processors = Processors::now()?;
    let mut seconds = Vec::new();
    for _ in 0..trials {
        seconds.push(trial(cluster).await?.as_secs_f64());
        tokio::time::sleep(SETTLE).await;
    }
    failover::reading(seconds, processors)
}

async fn trial(cluster: &Cluster) -> Result<Duration> {
    let leader = cluster.leader().await?;
    let next = (leader + 1) % cluster.members.len();
    let target = member_id(&cluster.members[next].status().await?);
    let admin = Connection::open(cluster.members[leader].client_port).await?;
    // The third member's clients are told by nobody who leads.
    let third = (leader + 2) % cluster.members.len();
    let writer = Connection::open(cluster.members[third].client_port).await?;
    let mut nth = 0;
    write(&writer, &mut nth).await;

    let is_over = Cell::new(false);
    let moved = async {
        let request = MoveLeaderRequest { target_id: target };
        let answer = admin.call::<MoveLeaderResponse>(Rpc::MoveLeader, &request);
        let answer = answer.await.context("MoveLeader");
        tokio::time::sleep(AFTERMATH).await;
        is_over.set(true);
        answer
    };
    let writes = async {
        let mut longest = Duration::ZERO;
        while !is_over.get() {
            longest = longest.max(write(&writer, &mut nth).await);
        }
        longest
    };
    let (moved, longest) = tokio::join!(moved, writes);
    moved?;
    ensure!(
        cluster.leader().await? == next,
        "another member leads than was asked for"
    );
    Ok(longest)
}

/// One write, tried until it is acknowledged; how long that took.
async fn write(connection: &Connection, nth: &mut u64) -> Duration {
    let started = Instant::now();
    loop {
        *nth += 1;
        let request = PutRequest {
            key: key(0),
            value: Random::new(*nth).value(),
            ..PutRequest::default()
        };
        match connection.call::<PutResponse>(Rpc::Put, &request).await {
            Ok(_) => return started.elapsed(),
            Err(_) => tokio::time::sleep(TRY_AGAIN).await,
        }
    }
}
