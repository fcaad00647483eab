//! The closed loop: each client sends, waits for the answer, sends again; and the gauges read around it.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use coord_proto::etcd::etcdserverpb::StatusResponse;

use crate::cluster::{Cluster, member_id, revision, status};
use crate::gauge::{Processors, Usage};
use crate::histogram::Histogram;
use crate::reading::{MemberReading, Metric, Reading};
use crate::wire::{CallError, Connection};

/// Connections are warm and caches filled after this long.
const WARM_UP: Duration = Duration::from_millis(400);
/// How often the members are asked how far they are while the load runs.
const LOOKS: u32 = 4;
/// Syncs of the log, as both sides call them.
const LOG_SYNCS: &str = "etcd_disk_wal_fsync_duration_seconds_count";

/// One client's work.
pub trait Operator: Send + 'static {
    /// One operation, from its first byte sent to its last byte received.
    fn step(&mut self) -> impl Future<Output = Result<(), CallError>> + Send;
}

const WARMING: u8 = 0;
const MEASURING: u8 = 1;
const DONE: u8 = 2;

/// The phase that all clients of a load are in; they end with it, also when the load ends early.
struct Phase(Arc<AtomicU8>);

impl Phase {
    fn begin() -> Self {
        Self(Arc::new(AtomicU8::new(WARMING)))
    }

    fn enter(&self, phase: u8) {
        self.0.store(phase, Ordering::Relaxed);
    }
}

impl Drop for Phase {
    fn drop(&mut self) {
        self.enter(DONE);
    }
}

#[derive(Default)]
struct Tally {
    latencies: Histogram,
    errors: u64,
    first_error: Option<String>,
}

async fn work<O: Operator>(mut operator: O, phase: Arc<AtomicU8>) -> Tally {
    let mut tally = Tally::default();
    loop {
        let started = Instant::now();
        let result = operator.step().await;
        let now = phase.load(Ordering::Relaxed);
        match result {
            Ok(()) if now == MEASURING => tally.latencies.record(started.elapsed()),
            Ok(()) => {}
            Err(error) => {
                tally.errors += 1;
                tally.first_error.get_or_insert_with(|| error.to_string());
                // A server that refuses at once must not turn the generator into a spinning loop.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        if now == DONE {
            return tally;
        }
    }
}

/// The counters of everyone, read at one moment.
struct Gauges {
    at: Instant,
    members: Vec<Usage>,
    generator: Usage,
    processors: Processors,
}

impl Gauges {
    fn read(cluster: &Cluster) -> Result<Self> {
        let members = cluster
            .members
            .iter()
            .map(|member| Usage::of(member.pid()?))
            .collect::<Result<_>>()?;
        Ok(Self {
            at: Instant::now(),
            members,
            generator: Usage::of(std::process::id())?,
            processors: Processors::now()?,
        })
    }
}

async fn statuses(connections: &[Connection]) -> Result<Vec<StatusResponse>> {
    let asked: Vec<_> = connections
        .iter()
        .cloned()
        .map(|connection| tokio::spawn(async move { status(&connection).await }))
        .collect();
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        answers.push(answer.await??);
    }
    Ok(answers)
}

/// How often each member has synced its log since it started. Read outside the gauges: the page costs its server time.
async fn syncs(cluster: &Cluster) -> Result<Vec<f64>> {
    let mut counts = Vec::with_capacity(cluster.members.len());
    for member in &cluster.members {
        counts.push(member.metric(LOG_SYNCS).await?);
    }
    Ok(counts)
}

/// Runs all operators against `cluster` for `seconds`.
///
/// `events` is how many operations one step counts as. Ends with an error only when the cluster cannot be read;
/// operations that fail are counted in the reading.
pub async fn drive<O: Operator>(
    cluster: &Cluster,
    operators: Vec<O>,
    events: u64,
    seconds: f64,
) -> Result<Reading> {
    let askers = cluster.connections(cluster.members.len()).await?;
    let phase = Phase::begin();
    let tasks: Vec<_> = operators
        .into_iter()
        .map(|operator| tokio::spawn(work(operator, phase.0.clone())))
        .collect();
    tokio::time::sleep(WARM_UP).await;
    let indexes_before = statuses(&askers).await?;
    let syncs_before = syncs(cluster).await?;
    let before = Gauges::read(cluster)?;
    phase.enter(MEASURING);
    let mut behind = vec![0; cluster.members.len()];
    for _ in 0..LOOKS {
        tokio::time::sleep(Duration::from_secs_f64(seconds / f64::from(LOOKS))).await;
        note_lag(&mut behind, &statuses(&askers).await?);
    }
    phase.enter(DONE);
    let after = Gauges::read(cluster)?;
    let syncs_after = syncs(cluster).await?;
    let last = statuses(&askers).await?;
    let mut all = Tally::default();
    for task in tasks {
        let tally = task.await?;
        all.latencies.merge(&tally.latencies);
        all.errors += tally.errors;
        all.first_error = all.first_error.or(tally.first_error);
    }
    let (_, catch_up) = cluster.settle().await?;
    let operations = (all.latencies.count() * events).max(1) as f64;
    let wall = (after.at - before.at).as_secs_f64();
    let mut members = Vec::new();
    for (index, member) in cluster.members.iter().enumerate() {
        let (was, is) = (before.members[index], after.members[index]);
        members.push(MemberReading {
            name: member.name.clone(),
            is_leader: last[index].leader == member_id(&last[index]),
            cpu_us_per_op: micros(is.cpu - was.cpu) / operations,
            syncs_per_second: (syncs_after[index] - syncs_before[index]) / wall,
            disk_bytes_per_op: (is.disk_bytes - was.disk_bytes) as f64 / operations,
            resident_megabytes: megabytes(is.resident_bytes),
            revisions_behind: behind[index],
            indexes_applied: last[index]
                .raft_applied_index
                .saturating_sub(indexes_before[index].raft_applied_index),
        });
    }
    let generator = after.generator.cpu - before.generator.cpu;
    let servers: Duration = (0..members.len())
        .map(|index| after.members[index].cpu - before.members[index].cpu)
        .sum();
    let mut figures = [
        (Metric::CpuMicros, micros(servers) / operations),
        (Metric::PerSecond, operations / wall),
        (
            Metric::DiskBytes,
            members.iter().map(|member| member.disk_bytes_per_op).sum(),
        ),
        (
            Metric::ResidentMegabytes,
            members
                .iter()
                .map(|member| member.resident_megabytes)
                .fold(0.0, f64::max),
        ),
    ]
    .to_vec();
    for (metric, share) in [
        (Metric::P50Millis, 0.5),
        (Metric::P99Millis, 0.99),
        (Metric::P999Millis, 0.999),
    ] {
        if let Some(millis) = all.latencies.quantile_millis(share) {
            figures.push((metric, millis));
        }
    }
    Ok(Reading {
        figures: figures.into_iter().collect(),
        members,
        catch_up_millis: catch_up.as_secs_f64() * 1e3,
        noise: before
            .processors
            .noise(after.processors, servers + generator),
        generator_us_per_op: micros(generator) / operations,
        errors: all.errors,
        first_error: all.first_error,
        remark: None,
    })
}

fn note_lag(behind: &mut [i64], statuses: &[StatusResponse]) {
    let newest = statuses.iter().map(revision).max().unwrap_or_default();
    for (worst, status) in behind.iter_mut().zip(statuses) {
        *worst = (*worst).max(newest - revision(status));
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Bytes as the megabytes of the tables (10^6).
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
