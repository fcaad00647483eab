//! The traffic between members, under etcd's names: counted in messages as they are encoded, of log, heartbeats, forwarded
//! proposals and snapshots. A member is there once there is a connection to it, or a call
//! from it.

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, Opts, Registry,
};

use super::registered;

/// etcd's buckets for round trips: 0.1 ms to 3.3 s, doubling.
const ROUND_TRIP_BUCKETS: (f64, f64, usize) = (0.000_1, 2.0, 16);

/// The traffic with all members.
pub struct Peers {
    sent_bytes: IntCounterVec,
    sent_failures: IntCounterVec,
    received_bytes: IntCounterVec,
    round_trips: HistogramVec,
}

/// The traffic with one member.
#[derive(Clone)]
pub struct PeerTraffic {
    /// Bytes of messages.
    pub sent_bytes: IntCounter,
    /// Bytes of messages that came from it.
    pub received_bytes: IntCounter,
    /// Calls that failed.
    pub sent_failures: IntCounter,
    /// From a heartbeat to its answer.
    pub round_trip_seconds: Histogram,
}

impl Peers {
    pub(super) fn new(registry: &Registry) -> Self {
        let counter = |name: &str, help: &str, label: &str| {
            registered(
                registry,
                IntCounterVec::new(Opts::new(name, help), &[label]),
            )
        };
        let (first, factor, count) = ROUND_TRIP_BUCKETS;
        let buckets = prometheus::exponential_buckets(first, factor, count);
        let opts = HistogramOpts::new(
            "etcd_network_peer_round_trip_time_seconds",
            "Round-Trip-Time histogram between peers",
        );
        let opts = opts.buckets(buckets.expect("the buckets grow"));
        Self {
            sent_bytes: counter(
                "etcd_network_peer_sent_bytes_total",
                "The total number of bytes sent to peers.",
                "To",
            ),
            sent_failures: counter(
                "etcd_network_peer_sent_failures_total",
                "The total number of send failures from peers.",
                "To",
            ),
            received_bytes: counter(
                "etcd_network_peer_received_bytes_total",
                "The total number of bytes received from peers.",
                "From",
            ),
            round_trips: registered(registry, HistogramVec::new(opts, &["To"])),
        }
    }

    /// The traffic with the member of this id, in hexadecimal.
    pub fn with(&self, member: &str) -> PeerTraffic {
        PeerTraffic {
            sent_bytes: self.sent_bytes.with_label_values(&[member]),
            received_bytes: self.received_bytes.with_label_values(&[member]),
            sent_failures: self.sent_failures.with_label_values(&[member]),
            round_trip_seconds: self.round_trips.with_label_values(&[member]),
        }
    }
}
