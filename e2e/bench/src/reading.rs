//! The reading of one measurement, and of several together.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::gauge::Noise;

/// A thing that is measured. The order is the order of columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Server processor time per operation, user and system, all members together.
    CpuMicros,
    /// Operations in a second.
    PerSecond,
    /// Median latency.
    P50Millis,
    /// Latency that 99 in 100 stay below.
    P99Millis,
    /// Latency that 999 in 1,000 stay below.
    P999Millis,
    /// Bytes written to disk per operation, all members together.
    DiskBytes,
    /// Memory of the largest member.
    ResidentMegabytes,
    /// Processor share of an idle member, of one core.
    CpuPercent,
    /// The most memory a member ever had.
    PeakMegabytes,
    /// The size of the data directory.
    DiskMegabytes,
    /// From starting the program to the first linearizable answer.
    StartSeconds,
    /// From asking for a snapshot to its last byte.
    SnapshotSeconds,
    /// Put p99 while a snapshot is taken, over put p99 before it.
    SnapshotSlowdown,
    /// How long no write was acknowledged because the leader went, median of trials.
    FailoverSeconds,
    /// The same, worst of trials.
    FailoverWorstSeconds,
}

impl Metric {
    /// Its column's head.
    pub fn title(self) -> &'static str {
        match self {
            Self::CpuMicros => "server CPU us/op",
            Self::PerSecond => "ops/s",
            Self::P50Millis => "p50 ms",
            Self::P99Millis => "p99 ms",
            Self::P999Millis => "p99.9 ms",
            Self::DiskBytes => "disk B/op",
            Self::ResidentMegabytes => "RSS MB",
            Self::CpuPercent => "CPU %",
            Self::PeakMegabytes => "peak RSS MB",
            Self::DiskMegabytes => "disk MB",
            Self::StartSeconds => "start s",
            Self::SnapshotSeconds => "snapshot s",
            Self::SnapshotSlowdown => "put p99 during it, x",
            Self::FailoverSeconds => "median s",
            Self::FailoverWorstSeconds => "worst s",
        }
    }

    /// Whether less is better.
    pub fn less_is_better(self) -> bool {
        self != Self::PerSecond
    }
}

/// One member's part in a measurement.
#[derive(Clone, Debug, Serialize)]
pub struct MemberReading {
    /// Its name.
    pub name: String,
    /// Whether it led when the load ended.
    pub is_leader: bool,
    /// Its processor time per operation of the cluster.
    pub cpu_us_per_op: f64,
    /// How often a second it made its log durable.
    pub syncs_per_second: f64,
    /// Its bytes to disk per operation of the cluster.
    pub disk_bytes_per_op: f64,
    /// Its memory at the end.
    pub resident_megabytes: f64,
    /// The most revisions it was seen behind the most advanced member, while the load ran or at its end.
    pub revisions_behind: i64,
    /// How far its applied Raft index moved.
    pub indexes_applied: u64,
}

/// One measurement of one side.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reading {
    /// The figures.
    pub figures: BTreeMap<Metric, f64>,
    /// Each member's part; empty where it makes no sense.
    pub members: Vec<MemberReading>,
    /// Until the slowest member had everything, after the load ended.
    pub catch_up_millis: f64,
    /// Other work of the machine meanwhile.
    pub noise: Noise,
    /// The generator's own processor time per operation.
    pub generator_us_per_op: f64,
    /// Operations that failed, and the first failure.
    pub errors: u64,
    /// Why the first one failed.
    pub first_error: Option<String>,
    /// A caution for readers of this side's figures.
    pub remark: Option<String>,
}

/// The middle and the ends of several figures.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Smallest.
    pub min: f64,
    /// Middle; of an even number the mean of the two in the middle.
    pub median: f64,
    /// Largest.
    pub max: f64,
}

impl Spread {
    /// Of at least one figure.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { min, median, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(Spread::of([]), None);
        let odd = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((odd.min, odd.median, odd.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap().median, 2.5);
    }
}
