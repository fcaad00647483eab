//! Targets of the first complete server: ratios to etcd of paired rounds, and absolute figures.

use serde::Serialize;

use crate::cluster::Side;
use crate::reading::Metric;
use crate::rounds::Pairs;
use crate::rows::Row;

/// One figure to reach.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Target {
    /// The row's name and members.
    pub row: &'static str,
    /// The figure of the row that it is about.
    pub metric: Metric,
    /// How far ours may go.
    pub bound: Bound,
}

/// How a target is stated.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// At most this share of etcd's, by the median of paired rounds. `guard` is what the figure itself was expected to
    /// stay below on a quiet machine; it is shown, and decides nothing.
    Ratio {
        /// Ours over etcd's.
        at_most: f64,
        /// The absolute figure.
        guard: Option<f64>,
    },
    /// At most this, by the median of rounds.
    Absolute {
        /// The figure.
        at_most: f64,
        /// etcd's figure on the machine for which the target was set. It is shown, and decides nothing: where etcd
        /// takes more, so does everything.
        etcd_then: Option<f64>,
    },
}

const fn ratio(row: &'static str, metric: Metric, at_most: f64, guard: Option<f64>) -> Target {
    let bound = Bound::Ratio { at_most, guard };
    Target { row, metric, bound }
}

const fn absolute(row: &'static str, metric: Metric, at_most: f64) -> Target {
    let bound = Bound::Absolute {
        at_most,
        etcd_then: None,
    };
    Target { row, metric, bound }
}

const fn beside(row: &'static str, metric: Metric, at_most: f64, etcd_then: f64) -> Target {
    let bound = Bound::Absolute {
        at_most,
        etcd_then: Some(etcd_then),
    };
    Target { row, metric, bound }
}

/// All of them. A row without an entry is measured for the picture.
pub const TARGETS: &[Target] = &[
    ratio("put-64/1", Metric::CpuMicros, 0.45, Some(42.0)),
    ratio("put-64/3", Metric::CpuMicros, 0.45, Some(110.0)),
    absolute("put-256/1", Metric::P999Millis, 25.0),
    ratio("get-lin-64/1", Metric::CpuMicros, 0.55, Some(33.0)),
    ratio("get-lin-64/3", Metric::CpuMicros, 0.45, Some(50.0)),
    ratio("put-1/1", Metric::P50Millis, 0.80, None),
    ratio("put-1/3", Metric::P50Millis, 0.60, None),
    absolute("put-1/1", Metric::DiskBytes, 5_000.0),
    beside("get-ser-64/1", Metric::CpuMicros, 33.0, 57.0),
    beside("txn-64/1", Metric::CpuMicros, 45.0, 119.0),
    beside("range-100/1", Metric::CpuMicros, 200.0, 542.0),
    beside("page-100/1", Metric::CpuMicros, 220.0, 2_373.0),
    beside("lease-64/1", Metric::CpuMicros, 250.0, 1_498.0),
    beside("lock-64/1", Metric::P50Millis, 15.0, 97.0),
    beside("watch-1000/1", Metric::CpuMicros, 2.5, 5.8),
    absolute("million/1", Metric::PeakMegabytes, 350.0),
    absolute("million/1", Metric::DiskMegabytes, 600.0),
    absolute("million/1", Metric::StartSeconds, 2.0),
    absolute("million/1", Metric::SnapshotSeconds, 2.0),
    absolute("million/1", Metric::SnapshotSlowdown, 2.0),
    absolute("idle/1", Metric::ResidentMegabytes, 30.0),
    absolute("idle/1", Metric::CpuPercent, 0.5),
    absolute("failover/3", Metric::FailoverWorstSeconds, 3.0),
    ratio("audit-64/1", Metric::CpuMicros, 1.05, None),
];

/// A target beside what was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Verdict {
    /// The target.
    #[serde(flatten)]
    pub target: Target,
    /// Ours, the median of rounds.
    pub ours: f64,
    /// etcd's.
    pub theirs: Option<f64>,
    /// Ours over theirs, the median of paired rounds.
    pub ratio: Option<f64>,
    /// Whether the target is reached.
    pub is_reached: bool,
}

/// The verdicts of one row; none where a figure was not measured.
pub fn judge(row: &Row, pairs: &Pairs) -> Vec<Verdict> {
    let id = row.id();
    let of_row = TARGETS.iter().filter(|target| target.row == id);
    of_row.filter_map(|target| verdict(target, pairs)).collect()
}

fn verdict(target: &Target, pairs: &Pairs) -> Option<Verdict> {
    let ours = pairs.spread(Side::Ours, target.metric)?.median;
    let theirs = pairs.spread(Side::Theirs, target.metric);
    let ratio = pairs.ratio(target.metric).map(|spread| spread.median);
    let is_reached = match target.bound {
        Bound::Ratio { at_most, .. } => ratio? <= at_most,
        Bound::Absolute { at_most, .. } => ours <= at_most,
    };
    Some(Verdict {
        target: *target,
        ours,
        theirs: theirs.map(|spread| spread.median),
        ratio,
        is_reached,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::Reading;
    use crate::rows::ROWS;

    fn pairs(metric: Metric, figures: &[(f64, f64)]) -> Pairs {
        let reading = |figure: f64| Reading {
            figures: [(metric, figure)].into(),
            ..Reading::default()
        };
        Pairs {
            ours: figures.iter().map(|pair| reading(pair.0)).collect(),
            theirs: figures.iter().map(|pair| reading(pair.1)).collect(),
            failure: None,
        }
    }

    #[test]
    fn every_target_names_a_row_and_a_figure_of_its_table() {
        for target in TARGETS {
            let row = ROWS.iter().find(|row| row.id() == target.row);
            let row = row.unwrap_or_else(|| panic!("no row {}", target.row));
            assert!(
                row.group.columns().contains(&target.metric),
                "{}",
                target.row
            );
        }
    }

    #[test]
    fn a_ratio_is_judged_by_the_median_of_pairs() {
        let row = ROWS.iter().find(|row| row.id() == "put-64/1").unwrap();
        let fast = pairs(
            Metric::CpuMicros,
            &[(30.0, 100.0), (50.0, 100.0), (40.0, 100.0)],
        );
        assert!(judge(row, &fast)[0].is_reached);
        let slow = pairs(
            Metric::CpuMicros,
            &[(30.0, 100.0), (50.0, 100.0), (60.0, 100.0)],
        );
        assert!(!judge(row, &slow)[0].is_reached);
    }

    #[test]
    fn what_was_not_measured_is_not_judged() {
        assert!(judge(&ROWS[0], &Pairs::default()).is_empty());
    }
}
