//! The cost of a whole state on its way to a member that needs it: for the leader, the receiver, and writers meanwhile.
//!
//! Two members of three are filled. The third starts with nothing, and later again far behind: both times the log no
//! longer reaches back, so the leader sends a snapshot. Not a row of the catalogue, because etcd is not asked for it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coord_proto::etcd::etcdserverpb::{PutRequest, PutResponse};
use tokio::task::JoinHandle;

use crate::cluster::{Cluster, Program, revision};
use crate::data::{self, Random, key};
use crate::gauge::Usage;
use crate::histogram::Histogram;
use crate::load::megabytes;
use crate::wire::{CallError, Connection, Rpc};

/// Bytes of a value.
const VALUE_BYTES: usize = 1024;
/// Clients that write while the snapshot goes, and how long each rests after a write: some hundreds a second, so that
/// the machine has room for more than the writes.
const WRITERS: u64 = 8;
const REST: Duration = Duration::from_millis(10);
/// How long writes are measured without a snapshot under way, and how often memory is looked at.
const QUIET: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(20);
/// The time after which a member holds what it keeps.
const SETTLE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(600);
/// Bytes written so that the log, of which 64 MiB are kept, no longer reaches back.
const MORE_BYTES: u64 = 300 << 20;

/// The cost of one transfer.
pub struct Transfer {
    /// From the start of the receiving process until it had everything.
    pub took: Duration,
    /// The leader's memory before, and its peak meanwhile.
    pub sender: (u64, u64),
    /// The receiver's peak meanwhile, and its memory a while after.
    pub receiver: (u64, u64),
    /// Writes before and meanwhile.
    pub writes: (Histogram, Histogram),
}

impl std::fmt::Display for Transfer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let millis = |writes: &Histogram, share| writes.quantile_millis(share).unwrap_or(f64::NAN);
        let above = |(idle, peak): (u64, u64)| megabytes(peak.saturating_sub(idle));
        let (before, during) = &self.writes;
        writeln!(f, "  took {:.1} s", self.took.as_secs_f64())?;
        writeln!(
            f,
            "  sender: {:.0} MB before, peak {:.0} MB, so {:.0} MB above",
            megabytes(self.sender.0),
            megabytes(self.sender.1),
            above(self.sender)
        )?;
        let (peak, after) = self.receiver;
        writeln!(
            f,
            "  receiver: peak {:.0} MB, {:.0} MB afterwards, so {:.0} MB above",
            megabytes(peak),
            megabytes(after),
            above((after, peak))
        )?;
        for (what, writes) in [("before", before), ("meanwhile", during)] {
            writeln!(
                f,
                "  puts {what}: {} of them, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms",
                writes.count(),
                millis(writes, 0.5),
                millis(writes, 0.99),
                millis(writes, 0.999)
            )?;
        }
        write!(
            f,
            "  p99 {:.2} times",
            millis(during, 0.99) / millis(before, 0.99)
        )
    }
}

/// Measures both, with a state of about `bytes`; tells each as it is known.
pub async fn measure(
    program: &Program,
    dir: &Path,
    bytes: u64,
    mut told: impl FnMut(&str, &Transfer),
) -> Result<()> {
    let mut cluster = Cluster::plan(program, 3, dir)?;
    for member in &mut cluster.members[..2] {
        member.spawn()?;
    }
    for member in &mut cluster.members[..2] {
        member.ready(PATIENCE).await?;
    }
    let keys = bytes / VALUE_BYTES as u64;
    data::fill_with(&connections(&cluster).await?, keys, 8, VALUE_BYTES).await?;
    tokio::time::sleep(SETTLE).await;
    told("to a member with nothing", &transfer(&mut cluster).await?);

    cluster.members[2].stop().await?;
    let more = MORE_BYTES / VALUE_BYTES as u64;
    data::fill_with(
        &connections(&cluster).await?,
        more.min(keys),
        8,
        VALUE_BYTES,
    )
    .await?;
    tokio::time::sleep(SETTLE).await;
    told("to a member far behind", &transfer(&mut cluster).await?);
    Ok(())
}

/// Connections to the two members that always run.
async fn connections(cluster: &Cluster) -> Result<Vec<Connection>> {
    let mut connections = Vec::new();
    for member in cluster.members[..2].iter().cycle().take(8) {
        connections.push(Connection::open(member.client_port).await?);
    }
    Ok(connections)
}

async fn transfer(cluster: &mut Cluster) -> Result<Transfer> {
    let leader = cluster.leader().await?;
    ensure!(leader < 2, "the third member does not lead");
    let sender = cluster.members[leader].pid()?;
    let connections = connections(cluster).await?;
    let resident_before = Usage::of(sender)?.resident_bytes;
    let writers = Writers::start(&connections);
    tokio::time::sleep(QUIET).await;
    let before = writers.stop().await?;

    let started = Instant::now();
    cluster.members[2].spawn()?;
    let receiver = cluster.members[2].pid()?;
    let writers = Writers::start(&connections);
    let (mut sender_peak, mut receiver_peak) = (0, 0);
    let mut arrived = None;
    // Also while it settles: received rows are still being sorted then.
    while arrived.is_none_or(|at: Instant| at.elapsed() < SETTLE) {
        ensure!(started.elapsed() < PATIENCE, "the snapshot does not arrive");
        sender_peak = sender_peak.max(Usage::of(sender)?.resident_bytes);
        receiver_peak = receiver_peak.max(Usage::of(receiver)?.resident_bytes);
        if arrived.is_none() && has_caught_up(cluster, leader).await {
            arrived = Some(Instant::now());
        }
        tokio::time::sleep(LOOK).await;
    }
    let during = writers.stop().await?;
    let arrived = arrived.context("the loop ends after it")?;
    ensure!(
        has_caught_up(cluster, leader).await,
        "the receiver fell behind again"
    );
    Ok(Transfer {
        took: arrived - started,
        sender: (resident_before, sender_peak),
        receiver: (receiver_peak, Usage::of(receiver)?.resident_bytes),
        writes: (before, during),
    })
}

/// Whether the third member is where the leader was when it was asked, or nearly.
async fn has_caught_up(cluster: &Cluster, leader: usize) -> bool {
    const NEARLY: i64 = 1000;
    let (Ok(ahead), Ok(behind)) = (
        cluster.members[leader].status().await,
        cluster.members[2].status().await,
    ) else {
        return false;
    };
    revision(&behind) + NEARLY > revision(&ahead)
}

/// Clients that write at their own pace until they are stopped.
struct Writers {
    is_done: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<Result<Histogram, CallError>>>,
}

impl Writers {
    fn start(connections: &[Connection]) -> Self {
        let is_done = Arc::new(AtomicBool::new(false));
        let tasks = (0..WRITERS).map(|client| {
            let connection = connections[client as usize % connections.len()].clone();
            tokio::spawn(write(connection, client, is_done.clone()))
        });
        let tasks = tasks.collect();
        Self { is_done, tasks }
    }

    async fn stop(self) -> Result<Histogram> {
        self.is_done.store(true, Ordering::Relaxed);
        let mut all = Histogram::default();
        for task in self.tasks {
            all.merge(&task.await??);
        }
        Ok(all)
    }
}

async fn write(
    connection: Connection,
    client: u64,
    is_done: Arc<AtomicBool>,
) -> Result<Histogram, CallError> {
    let mut random = Random::new(client);
    let mut latencies = Histogram::default();
    while !is_done.load(Ordering::Relaxed) {
        let request = PutRequest {
            key: key(random.below(data::KEYS)),
            value: random.value(),
            ..PutRequest::default()
        };
        let started = Instant::now();
        connection.call::<PutResponse>(Rpc::Put, &request).await?;
        latencies.record(started.elapsed());
        tokio::time::sleep(REST).await;
    }
    Ok(latencies)
}
