//! The counters of this process, under the names that etcd's dashboards and alerts know.
//!
//! One registry per process, as one process is one member: rooms count where things happen, without being handed
//! anything. A value that can be read when somebody asks is not counted here but filled in by `admin/metrics_page`.

mod grpc;
mod peers;

use std::sync::LazyLock;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
};

pub use grpc::{Call, CountedBody, CountedRequest, call_started, time_calls};
pub use peers::{PeerTraffic, Peers};

/// etcd's buckets for times on disk: 1 ms to 8 s, doubling.
const DISK_BUCKETS: (f64, f64, usize) = (0.001, 2.0, 14);

/// Around 5 ms, which no turn should take: 0.25 ms to 2 s.
const TURN_BUCKETS: [f64; 12] = [
    0.000_25, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 2.0,
];

static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);

/// The metrics that rooms count themselves.
pub struct Metrics {
    /// All of them.
    pub registry: Registry,
    /// Time to make a batch of the log durable.
    pub wal_fsync_seconds: Histogram,
    /// Time to write a batch of the state.
    pub backend_commit_seconds: Histogram,
    /// How long the state is held at a time.
    pub state_turns: StateTurns,
    /// Proposals that wait for their outcome.
    pub proposals_pending: IntGauge,
    /// Proposals whose outcome did not come.
    pub proposals_failed: IntCounter,
    /// Changes of leader that this member saw.
    pub leader_changes: IntCounter,
    /// Connections that were ended for what they did, by reason.
    pub connections_cut: IntCounterVec,
    /// The traffic between members.
    pub peers: Peers,
    /// Calls from peers that were refused.
    pub peer_calls_refused: IntCounter,
    /// Health checks that said yes.
    pub health_success: IntCounter,
    /// Health checks that said no.
    pub health_failures: IntCounter,
    /// Changes and reads that took longer than `--warning-apply-duration`.
    pub slow_applies: IntCounter,
    /// Lines of the audit log that were written.
    pub audit_lines: IntCounter,
    /// Lines of the audit log that were lost.
    pub audit_lines_lost: IntCounter,
    grpc: grpc::Counters,
}

/// Turns at the state, by what they are for. While one lasts the runtime's thread does nothing else.
pub struct StateTurns {
    /// Entries are applied.
    pub apply: Histogram,
    /// Questions are answered.
    pub read: Histogram,
    /// History is read for watchers.
    pub history: Histogram,
    /// A chunk of a snapshot is made.
    pub snapshot: Histogram,
}

impl StateTurns {
    fn new(registry: &Registry) -> Self {
        let help = "How long the state is held at a time, by what for.";
        let opts = HistogramOpts::new("coord_state_turn_seconds", help);
        let turns = HistogramVec::new(opts.buckets(TURN_BUCKETS.to_vec()), &["what"]);
        let turns = registered(registry, turns);
        let of = |what| turns.with_label_values(&[what]);
        Self {
            apply: of("apply"),
            read: of("read"),
            history: of("history"),
            snapshot: of("snapshot"),
        }
    }
}

/// The metrics of this process.
pub fn metrics() -> &'static Metrics {
    &METRICS
}

/// Counts a proposal as pending until it is dropped, which is also how callers give up.
pub struct PendingProposal(());

impl PendingProposal {
    /// One more.
    pub fn begin() -> Self {
        metrics().proposals_pending.inc();
        Self(())
    }
}

impl Drop for PendingProposal {
    fn drop(&mut self) {
        metrics().proposals_pending.dec();
    }
}

impl Metrics {
    fn new() -> Self {
        let registry = Registry::new();
        Self {
            wal_fsync_seconds: histogram(
                &registry,
                "etcd_disk_wal_fsync_duration_seconds",
                "The latency distributions of fsync called by WAL.",
            ),
            backend_commit_seconds: histogram(
                &registry,
                "etcd_disk_backend_commit_duration_seconds",
                "The latency distributions of commit called by backend.",
            ),
            state_turns: StateTurns::new(&registry),
            proposals_pending: registered(
                &registry,
                IntGauge::new(
                    "etcd_server_proposals_pending",
                    "The current number of pending proposals to commit.",
                ),
            ),
            proposals_failed: counter(
                &registry,
                "etcd_server_proposals_failed_total",
                "The total number of failed proposals seen.",
            ),
            leader_changes: counter(
                &registry,
                "etcd_server_leader_changes_seen_total",
                "The number of leader changes seen.",
            ),
            connections_cut: registered(
                &registry,
                IntCounterVec::new(
                    Opts::new(
                        "coord_network_connections_cut_total",
                        "Connections ended for being slow, stuck, silent, idle, stalled, a flood, for a handshake that failed, or for errors of protocol.",
                    ),
                    &["reason"],
                ),
            ),
            peers: Peers::new(&registry),
            peer_calls_refused: counter(
                &registry,
                "coord_network_peer_calls_refused_total",
                "Calls on the peers' port that were refused.",
            ),
            health_success: counter(
                &registry,
                "etcd_server_health_success",
                "The total number of successful health checks.",
            ),
            health_failures: counter(
                &registry,
                "etcd_server_health_failures",
                "The total number of failed health checks.",
            ),
            slow_applies: counter(
                &registry,
                "etcd_server_slow_apply_total",
                "The total number of slow apply requests (likely overloaded from slow disk).",
            ),
            audit_lines: counter(
                &registry,
                "coord_audit_lines_total",
                "Lines of the audit log that were written.",
            ),
            audit_lines_lost: counter(
                &registry,
                "coord_audit_lines_lost_total",
                "Lines of the audit log that were lost: where it goes is slow or full.",
            ),
            grpc: grpc::Counters::new(&registry),
            registry,
        }
    }
}

fn registered<M>(registry: &Registry, metric: prometheus::Result<M>) -> M
where
    M: prometheus::core::Collector + Clone + 'static,
{
    let metric = metric.expect("metric names and labels are valid");
    registry
        .register(Box::new(metric.clone()))
        .expect("each metric is registered once");
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    registered(registry, IntCounter::with_opts(Opts::new(name, help)))
}

fn histogram(registry: &Registry, name: &str, help: &str) -> Histogram {
    let (first, factor, count) = DISK_BUCKETS;
    let buckets = prometheus::exponential_buckets(first, factor, count).expect("the buckets grow");
    registered(
        registry,
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets)),
    )
}
