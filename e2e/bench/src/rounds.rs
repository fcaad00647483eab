//! The paired run: both sides measured in turn, A B then B A, in one process, so that what the machine does to one it
//! does to the other.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::cluster::{Cluster, Program, Side};
use crate::reading::{Metric, Reading, Spread};
use crate::rows::{Effort, Row, measure, prepare};

/// All readings of a row, in the order of rounds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pairs {
    /// Coord's.
    pub ours: Vec<Reading>,
    /// etcd's.
    pub theirs: Vec<Reading>,
    /// Why there are not as many as asked for.
    pub failure: Option<String>,
}

impl Pairs {
    /// The readings of one side.
    pub fn of(&self, side: Side) -> &[Reading] {
        match side {
            Side::Ours => &self.ours,
            Side::Theirs => &self.theirs,
        }
    }

    fn push(&mut self, side: Side, reading: Reading) {
        match side {
            Side::Ours => self.ours.push(reading),
            Side::Theirs => self.theirs.push(reading),
        }
    }

    /// One side's figure over all rounds.
    pub fn spread(&self, side: Side, metric: Metric) -> Option<Spread> {
        let figures = |reading: &Reading| reading.figures.get(&metric).copied();
        Spread::of(self.of(side).iter().filter_map(figures))
    }

    /// Ours over theirs, round by round.
    pub fn ratio(&self, metric: Metric) -> Option<Spread> {
        let ratios = self.ours.iter().zip(&self.theirs).filter_map(|(a, b)| {
            let (a, b) = (a.figures.get(&metric)?, b.figures.get(&metric)?);
            (*b > 0.0).then(|| a / b)
        });
        Spread::of(ratios)
    }

    /// Rounds in which the machine was busy with something else.
    pub fn noisy_rounds(&self) -> usize {
        let noisy = |pair: &(&Reading, &Reading)| pair.0.noise.is_high() || pair.1.noise.is_high();
        self.ours.iter().zip(&self.theirs).filter(noisy).count()
    }

    /// Operations of a side that failed.
    pub fn errors(&self, side: Side) -> u64 {
        self.of(side).iter().map(|reading| reading.errors).sum()
    }
}

/// Measures `row` for `rounds` rounds; `told` hears of each reading. A failure ends the row, not the run.
pub async fn run(
    row: &Row,
    programs: &BTreeMap<Side, Program>,
    rounds: u32,
    effort: &Effort,
    mut told: impl FnMut(u32, Side, &Reading),
) -> Pairs {
    let mut pairs = Pairs::default();
    let result = if row.is_side_by_side() {
        side_by_side(row, programs, rounds, effort, &mut pairs, &mut told).await
    } else {
        one_at_a_time(row, programs, rounds, effort, &mut pairs, &mut told).await
    };
    pairs.failure = result.err().map(|error| format!("{error:#}"));
    pairs
}

/// The two sides take turns in going first.
fn order(round: u32) -> [Side; 2] {
    match round % 2 {
        0 => [Side::Ours, Side::Theirs],
        _ => [Side::Theirs, Side::Ours],
    }
}

async fn side_by_side(
    row: &Row,
    programs: &BTreeMap<Side, Program>,
    rounds: u32,
    effort: &Effort,
    pairs: &mut Pairs,
    told: &mut impl FnMut(u32, Side, &Reading),
) -> Result<()> {
    let mut clusters: BTreeMap<Side, Cluster> = BTreeMap::new();
    for side in Side::BOTH {
        let Some(program) = row.program(side, programs) else {
            continue;
        };
        let cluster = in_time(row, prepare(row, &program, effort)).await;
        clusters.insert(side, cluster.with_context(|| format!("prepare {side}"))?);
    }
    for round in 0..rounds {
        for side in order(round) {
            let Some(cluster) = clusters.get_mut(&side) else {
                continue;
            };
            let reading = in_time(row, measure(row, cluster, effort)).await;
            let reading = reading.with_context(|| format!("measure {side}"))?;
            told(round, side, &reading);
            pairs.push(side, reading);
        }
    }
    Ok(())
}

async fn one_at_a_time(
    row: &Row,
    programs: &BTreeMap<Side, Program>,
    rounds: u32,
    effort: &Effort,
    pairs: &mut Pairs,
    told: &mut impl FnMut(u32, Side, &Reading),
) -> Result<()> {
    for round in 0..rounds {
        for side in order(round) {
            let Some(program) = programs.get(&side) else {
                continue;
            };
            let mut cluster = in_time(row, prepare(row, program, effort))
                .await
                .with_context(|| format!("prepare {side}"))?;
            let reading = in_time(row, measure(row, &mut cluster, effort)).await;
            let reading = reading.with_context(|| format!("measure {side}"))?;
            told(round, side, &reading);
            pairs.push(side, reading);
        }
    }
    Ok(())
}

/// A side that hangs costs its row, not the run.
async fn in_time<T>(row: &Row, work: impl Future<Output = Result<T>>) -> Result<T> {
    let limit = row.patience();
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => anyhow::bail!("not done after {limit:?}"),
    }
}
