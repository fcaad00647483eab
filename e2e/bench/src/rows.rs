//! The catalogue: every row that can be measured, in the order of the tables.

mod failover;
mod idle;
mod kv;
mod lease;
mod lock;
mod million;
mod transfer;
mod watch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::cluster::{Cluster, Program, Side};
use crate::data;
use crate::load::drive;
use crate::reading::{Metric, Reading};

/// Rows that share a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// Puts and transactions.
    Writes,
    /// Gets and ranges.
    Reads,
    /// Coordination: watches, leases, locks.
    Coordination,
    /// One million keys.
    Million,
    /// Nothing to do.
    Idle,
    /// A leader that goes.
    Failover,
    /// The cost of the audit log: Coord with it beside Coord without.
    Audit,
}

impl Group {
    /// In the order of the tables.
    pub const ALL: [Self; 7] = [
        Self::Writes,
        Self::Reads,
        Self::Coordination,
        Self::Million,
        Self::Idle,
        Self::Failover,
        Self::Audit,
    ];

    /// The table's heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Writes => "Writes",
            Self::Reads => "Reads",
            Self::Coordination => "Watches, leases, locks",
            Self::Million => "A million keys",
            Self::Idle => "Idle",
            Self::Failover => "A leader goes",
            Self::Audit => "Audit log",
        }
    }

    /// The names of its two sides.
    pub fn side(self, side: Side) -> &'static str {
        match (self, side) {
            (Self::Audit, Side::Ours) => "with",
            (Self::Audit, Side::Theirs) => "without",
            (_, Side::Ours) => "Coord",
            (_, Side::Theirs) => "etcd",
        }
    }

    /// The figures that the group's picture compares; if several, of its one row.
    pub fn pictured(self) -> &'static [Metric] {
        match self {
            Self::Writes | Self::Reads | Self::Coordination => &[Metric::CpuMicros],
            Self::Million => &[
                Metric::PeakMegabytes,
                Metric::DiskMegabytes,
                Metric::StartSeconds,
                Metric::SnapshotSeconds,
            ],
            Self::Idle => &[Metric::ResidentMegabytes, Metric::CpuPercent],
            Self::Failover => &[Metric::FailoverSeconds],
            // Its picture would show two bars of one length.
            Self::Audit => &[],
        }
    }

    /// The figures of its table, in the order of columns.
    pub fn columns(self) -> &'static [Metric] {
        match self {
            Self::Writes | Self::Reads | Self::Coordination | Self::Audit => &[
                Metric::CpuMicros,
                Metric::PerSecond,
                Metric::P50Millis,
                Metric::P99Millis,
                Metric::P999Millis,
                Metric::DiskBytes,
                Metric::ResidentMegabytes,
            ],
            Self::Million => &[
                Metric::PeakMegabytes,
                Metric::DiskMegabytes,
                Metric::StartSeconds,
                Metric::SnapshotSeconds,
                Metric::SnapshotSlowdown,
            ],
            Self::Idle => &[Metric::ResidentMegabytes, Metric::CpuPercent],
            Self::Failover => &[Metric::FailoverSeconds, Metric::FailoverWorstSeconds],
        }
    }
}

/// The work that is put on a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Random keys are overwritten.
    Put,
    /// The same, by Coord with its audit log beside Coord without.
    AuditedPut,
    /// Random keys are read.
    Get {
        /// By quorum, or by the member that is asked.
        linearizable: bool,
    },
    /// A range that holds exactly this many keys is read.
    Range(u64),
    /// The first page of this many keys of the range of all keys is read.
    Page(i64),
    /// A key is put if its revision is still the one last seen.
    CompareAndSwap,
    /// A put is seen by this many watchers; each event counts as an operation.
    Watch(u64),
    /// A lease is granted, a key put under it, the lease revoked.
    Lease,
    /// One of a few locks is taken and given back, as etcd's client library does it.
    Lock,
    /// Fill, restart, snapshot.
    Million,
    /// Nothing.
    Idle,
    /// The leader is killed.
    Failover,
    /// The leader hands over.
    Transfer,
}

/// One row of a table.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its name for `--only`, without the number of members.
    pub name: &'static str,
    /// Its name in the table.
    pub title: &'static str,
    /// Members of the cluster.
    pub nodes: usize,
    /// Clients of the closed loop.
    pub clients: usize,
    /// The work of its clients.
    pub work: Work,
    /// Its table.
    pub group: Group,
}

impl Row {
    /// Name and members, as in `put-64/3`.
    pub fn id(&self) -> String {
        format!("{}/{}", self.name, self.nodes)
    }

    /// How many rounds it gets when `wanted` are asked for: a fill and an idle member take long and vary little, and a
    /// round of lost leaders is several trials.
    pub fn rounds(&self, wanted: u32) -> u32 {
        match self.work {
            Work::Million | Work::Idle => wanted.div_ceil(4),
            Work::Failover | Work::Transfer => wanted.div_ceil(2),
            _ => wanted,
        }
    }

    /// How often all keys are written before it begins. A lone put is measured on a log that has been cut: before that,
    /// each new file of the log is written twice, once to make room for it.
    fn fills(&self) -> u32 {
        match (self.work, self.clients, self.nodes) {
            (Work::Put, 1, 1) => 40,
            _ => 1,
        }
    }

    /// How long its preparation, and each of its measurements, may take before the row is given up.
    pub fn patience(&self) -> Duration {
        match self.work {
            Work::Million => Duration::from_secs(400),
            _ => Duration::from_secs(120),
        }
    }

    /// Title and number of members.
    pub fn full_title(&self) -> String {
        match self.nodes {
            1 => format!("{}, 1 node", self.title),
            nodes => format!("{}, {nodes} nodes", self.title),
        }
    }

    /// Whether it is measured on two clusters that are up side by side, or on each alone.
    pub fn is_side_by_side(&self) -> bool {
        self.work != Work::Million
    }

    /// The program of a side: etcd's, unless the row compares Coord with itself.
    pub fn program(&self, side: Side, programs: &BTreeMap<Side, Program>) -> Option<Program> {
        if self.work != Work::AuditedPut {
            return programs.get(&side).cloned();
        }
        let coord = programs.get(&Side::Ours)?.clone();
        Some(Program { side, ..coord })
    }

    /// Flags of a side's members beyond their defaults. `dir` is the cluster's directory.
    fn flags(&self, side: Side, dir: &Path) -> Vec<String> {
        match (self.work, side) {
            (Work::AuditedPut, Side::Ours) => {
                vec![format!(
                    "--coord-audit-log={}",
                    dir.join("audit.log").display()
                )]
            }
            _ => Vec::new(),
        }
    }
}

const fn row(
    name: &'static str,
    title: &'static str,
    nodes: usize,
    clients: usize,
    work: Work,
    group: Group,
) -> Row {
    Row {
        name,
        title,
        nodes,
        clients,
        work,
        group,
    }
}

const LINEARIZABLE: Work = Work::Get { linearizable: true };
const SERIALIZABLE: Work = Work::Get {
    linearizable: false,
};

/// All rows.
pub const ROWS: &[Row] = &[
    row("put-1", "put, 1 client", 1, 1, Work::Put, Group::Writes),
    row("put-64", "put, 64 clients", 1, 64, Work::Put, Group::Writes),
    row(
        "put-256",
        "put, 256 clients",
        1,
        256,
        Work::Put,
        Group::Writes,
    ),
    row("put-1", "put, 1 client", 3, 1, Work::Put, Group::Writes),
    row("put-64", "put, 64 clients", 3, 64, Work::Put, Group::Writes),
    row(
        "put-256",
        "put, 256 clients",
        3,
        256,
        Work::Put,
        Group::Writes,
    ),
    row(
        "txn-64",
        "compare and swap, 64 clients",
        1,
        64,
        Work::CompareAndSwap,
        Group::Writes,
    ),
    row(
        "get-lin-64",
        "linearizable get, 64 clients",
        1,
        64,
        LINEARIZABLE,
        Group::Reads,
    ),
    row(
        "get-ser-64",
        "serializable get, 64 clients",
        1,
        64,
        SERIALIZABLE,
        Group::Reads,
    ),
    row(
        "get-lin-64",
        "linearizable get, 64 clients",
        3,
        64,
        LINEARIZABLE,
        Group::Reads,
    ),
    row(
        "get-ser-64",
        "serializable get, 64 clients",
        3,
        64,
        SERIALIZABLE,
        Group::Reads,
    ),
    row(
        "range-100",
        "range of exactly 100 keys, 64 clients",
        1,
        64,
        Work::Range(100),
        Group::Reads,
    ),
    row(
        "page-100",
        "page of 100 of 10,000 keys, 64 clients",
        1,
        64,
        Work::Page(100),
        Group::Reads,
    ),
    row(
        "watch-1000",
        "event to 1,000 watchers, per delivery",
        1,
        1,
        Work::Watch(1000),
        Group::Coordination,
    ),
    row(
        "lease-1",
        "lease grant, put, revoke, 1 client",
        1,
        1,
        Work::Lease,
        Group::Coordination,
    ),
    row(
        "lease-64",
        "lease grant, put, revoke, 64 clients",
        1,
        64,
        Work::Lease,
        Group::Coordination,
    ),
    row(
        "lock-64",
        "lock and unlock, 64 clients on 8 locks",
        1,
        64,
        Work::Lock,
        Group::Coordination,
    ),
    row(
        "million",
        "1 M keys of 256 B",
        1,
        8,
        Work::Million,
        Group::Million,
    ),
    row("idle", "idle member", 1, 0, Work::Idle, Group::Idle),
    row(
        "failover",
        "killed leader to next write",
        3,
        0,
        Work::Failover,
        Group::Failover,
    ),
    row(
        "transfer",
        "planned transfer, longest write",
        3,
        0,
        Work::Transfer,
        Group::Failover,
    ),
    row(
        "audit-64",
        "put, 64 clients, with and without the audit log",
        1,
        64,
        Work::AuditedPut,
        Group::Audit,
    ),
];

/// How long and where to measure.
#[derive(Clone, Debug)]
pub struct Effort {
    /// Length of one measurement.
    pub seconds: f64,
    /// Keys of the row `million`.
    pub million: u64,
    /// Trials of one round of `failover` and `transfer`.
    pub trials: u32,
    /// Where data directories are made.
    pub dir: PathBuf,
}

impl Effort {
    /// A directory for one cluster, empty.
    pub fn dir_for(&self, row: &Row, program: &Program) -> PathBuf {
        let name = format!("{}-{}-{}", row.name, row.nodes, program.side);
        self.dir.join(name)
    }
}

/// Starts a cluster for `row` and gives it what the row expects to find.
pub async fn prepare(row: &Row, program: &Program, effort: &Effort) -> Result<Cluster> {
    let dir = effort.dir_for(row, program);
    let program = Program {
        flags: row.flags(program.side, &dir),
        ..program.clone()
    };
    let cluster = Cluster::start(&program, row.nodes, &dir).await?;
    if !matches!(row.work, Work::Idle | Work::Million) {
        let connections = cluster.connections(8).await?;
        for _ in 0..row.fills() {
            data::fill(&connections, data::KEYS, 8).await?;
        }
        cluster.settle().await?;
    }
    if row.fills() > 1 {
        cluster.rest().await?;
    }
    Ok(cluster)
}

/// One measurement of `row` on a prepared cluster.
pub async fn measure(row: &Row, cluster: &mut Cluster, effort: &Effort) -> Result<Reading> {
    // As the targets were measured: 8 connections, 16 for 256 clients.
    let connections = cluster
        .connections(if row.clients > 64 { 16 } else { 8 })
        .await?;
    let clients = row.clients;
    let seconds = effort.seconds;
    match row.work {
        Work::Put | Work::AuditedPut => {
            drive(cluster, kv::puts(&connections, clients), 1, seconds).await
        }
        Work::Get { linearizable } => {
            let gets = kv::gets(&connections, clients, linearizable);
            drive(cluster, gets, 1, seconds).await
        }
        Work::Range(keys) => {
            let ranges = kv::ranges(&connections, clients, keys);
            drive(cluster, ranges, 1, seconds).await
        }
        Work::Page(limit) => {
            let pages = kv::pages(&connections, clients, limit);
            drive(cluster, pages, 1, seconds).await
        }
        Work::CompareAndSwap => {
            let swaps = kv::swaps(&connections, clients).await?;
            drive(cluster, swaps, 1, seconds).await
        }
        Work::Watch(watchers) => {
            let fan_out = watch::fan_out(&connections, watchers).await?;
            drive(cluster, vec![fan_out], watchers, seconds).await
        }
        Work::Lease => {
            let leases = lease::cycles(&connections, clients);
            drive(cluster, leases, 1, seconds).await
        }
        Work::Lock => {
            let contenders = lock::contenders(&connections, clients).await?;
            drive(cluster, contenders, 1, seconds).await
        }
        Work::Million => million::measure(row, cluster, effort).await,
        Work::Idle => idle::measure(cluster, seconds).await,
        Work::Failover => failover::measure(cluster, effort.trials).await,
        Work::Transfer => transfer::measure(cluster, effort.trials).await,
    }
}
