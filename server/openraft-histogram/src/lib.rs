//! Stands in for the histograms that openraft keeps of its own batch sizes.
//!
//! The original fills tables for sixteen resolutions when the first histogram is made, of which openraft uses one: 27 MB
//! that every member would hold for ever. Nobody here reads these histograms (openraft's feature `runtime-stats` is off),
//! so this one only counts. It has what openraft names of the original, and no more.

use std::fmt;

/// Counts what is recorded; remembers no values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    samples: u64,
    data: T,
}

impl<T: Default> Histogram<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a value.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a value that was seen several times.
    pub fn record_n(&mut self, _value: u64, times: u64) {
        self.samples += times;
    }

    /// How many values there were; of their sizes nothing is known.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.samples,
            ..PercentileStats::default()
        }
    }
}

/// Percentiles of a histogram: here always 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the percentile in its name")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} samples", self.samples)
    }
}

/// A chart of histograms: here always empty.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart(());

impl AsciiChart {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves the histogram out.
    pub fn add(self, _name: &str, _histogram: Histogram) -> Self {
        self
    }
}
