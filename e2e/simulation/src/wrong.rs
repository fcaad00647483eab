//! The fault that a run has on purpose, which must be found.

use anyhow::{Result, ensure};
use coord_server::failpoints::{self, Bug};

/// The fault that a run has on purpose and that must be found: none, as a rule.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wrong {
    /// In the simulation.
    pub sabotage: Option<Sabotage>,
    /// In the server.
    pub bug: Option<Bug>,
}

/// Chooses a planted bug, as in the server.
pub const BUG: &str = "COORD_FAILPOINT";

impl Wrong {
    /// The faults of this process: its own sabotage, and the bug that the environment chooses.
    ///
    /// Errors: a bug that this build does not have.
    pub fn here(sabotage: Option<Sabotage>) -> Result<Self> {
        let Ok(name) = std::env::var(BUG) else {
            return Ok(Self {
                sabotage,
                bug: None,
            });
        };
        let bug = Bug::ALL.into_iter().find(|bug| bug.name() == name);
        ensure!(
            bug.is_some_and(failpoints::has),
            "{BUG}={name}, but this build does not have that bug: it needs the feature failpoints"
        );
        Ok(Self { sabotage, bug })
    }
}

/// A deliberate fault of the simulation itself, that must be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sabotage {
    /// Disks acknowledge writes and lose them when the power is cut.
    LyingDisks,
}

impl Sabotage {
    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::LyingDisks => "lying-disks",
        }
    }
}
