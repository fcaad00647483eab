//! The report of a run, as text for people, JSON for programs, and pages with pictures for the documentation.

mod format;
mod markdown;
mod svg;
mod text;

use serde::Serialize;

pub use markdown::write_pages;
pub use text::{line, print};

use crate::machine::Facts;
use crate::rounds::Pairs;
use crate::rows::{Effort, Group, Row};
use crate::targets::{Verdict, judge};

/// One row with its readings.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Name and members.
    pub id: String,
    /// Its table.
    pub group: Group,
    /// The readings.
    pub pairs: Pairs,
    /// Its targets.
    pub verdicts: Vec<Verdict>,
    /// The catalogue's entry.
    #[serde(skip)]
    pub row: Row,
}

impl Measured {
    /// Judges the readings.
    pub fn new(row: Row, pairs: Pairs) -> Self {
        Self {
            id: row.id(),
            group: row.group,
            verdicts: judge(&row, &pairs),
            pairs,
            row,
        }
    }
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The circumstances.
    pub facts: Facts,
    /// Rounds asked for.
    pub rounds: u32,
    /// Seconds of each measurement.
    pub seconds: f64,
    /// The rows in the order they were measured.
    pub rows: Vec<Measured>,
}

impl Report {
    /// An empty report.
    pub fn new(facts: Facts, rounds: u32, effort: &Effort) -> Self {
        Self {
            facts,
            rounds,
            seconds: effort.seconds,
            rows: Vec::new(),
        }
    }

    /// The rows of one table.
    fn group(&self, group: Group) -> impl Iterator<Item = &Measured> {
        self.rows.iter().filter(move |row| row.group == group)
    }

    /// The tables that have rows.
    fn groups(&self) -> impl Iterator<Item = Group> {
        Group::ALL
            .into_iter()
            .filter(|group| self.group(*group).next().is_some())
    }

    /// Whether every row was measured and every target that was measured is reached.
    pub fn is_good(&self) -> bool {
        self.rows.iter().all(|row| {
            row.pairs.failure.is_none() && row.verdicts.iter().all(|verdict| verdict.is_reached)
        })
    }
}
