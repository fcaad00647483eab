//! Latencies in a fixed amount of memory, each within 1.6 % of what was recorded.

use std::time::Duration;

/// Each power of two is cut in this many steps.
const STEPS: u64 = 64;
const STEP_BITS: u32 = STEPS.trailing_zeros();
/// Up to 2^40 ns, 18 minutes.
const BUCKETS: usize = ((40 - STEP_BITS as usize) + 1) * STEPS as usize;

/// Counts of latencies.
#[derive(Clone)]
pub struct Histogram {
    counts: Vec<u32>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
        }
    }
}

fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let shift = nanos.ilog2() - STEP_BITS;
    let index = u64::from(shift + 1) * STEPS + ((nanos >> shift) - STEPS);
    (index as usize).min(BUCKETS - 1)
}

/// The largest value that falls into the bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket % STEPS + STEPS + 1) << shift) - 1
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
        self.total += other.total;
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The latency that `share` (0 to 1) of the records do not exceed, in milliseconds; `None` when empty.
    pub fn quantile_millis(&self, share: f64) -> Option<f64> {
        let wanted = ((self.total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return Some(upper(index) as f64 / 1e6);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_a_bucket_at_most_a_step_wide() {
        for nanos in (0..70_000).chain((17..39).map(|bits| (1 << bits) + 12_345)) {
            let top = upper(bucket(nanos));
            assert!(top >= nanos, "{nanos} over {top}");
            assert!(
                (top - nanos) as f64 <= nanos as f64 / STEPS as f64,
                "{nanos} far below {top}"
            );
        }
    }

    #[test]
    fn quantiles_count_from_the_smallest() {
        let mut all = Histogram::default();
        for millis in 1..=100 {
            let mut one = Histogram::default();
            one.record(Duration::from_millis(millis));
            all.merge(&one);
        }
        assert_eq!(all.count(), 100);
        for (share, millis) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let got = all.quantile_millis(share).unwrap();
            assert!((got / millis - 1.0).abs() < 0.02, "{share}: {got}");
        }
        assert_eq!(Histogram::default().quantile_millis(0.5), None);
    }
}
