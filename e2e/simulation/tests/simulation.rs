//! The simulation itself: it repeats, it finds what is wrong, and the cluster holds under it.

#![expect(
    clippy::unwrap_used,
    reason = "clippy lets only the test functions themselves unwrap, not what they call"
)]

use std::path::Path;
use std::time::Duration;

use coord_simulation::seeds::{self, Campaign, Report};
use coord_simulation::wrong::{Sabotage, Wrong};

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_coord-simulation"))
}

/// Hours to simulate, from the first seed on. `make test`, whose build is not optimised, has time for less.
fn hours() -> f64 {
    let chosen = std::env::var("COORD_SIMULATED_HOURS");
    chosen.map_or(4.0, |hours| hours.parse().unwrap())
}

fn campaign(hours: f64, wrong: Wrong) -> Report {
    let campaign = Campaign {
        first: 1,
        simulated: Duration::from_secs_f64(hours * 3600.0),
        real_max: Duration::from_secs(1800),
        jobs: 2,
        wrong,
        is_search: wrong.sabotage.is_some(),
    };
    seeds::run(program(), campaign, |line| println!("{line}")).unwrap()
}

/// The trace at the end of a good run's line.
fn trace(seed: u64) -> String {
    let line = seeds::one(program(), seed, Wrong::default()).unwrap();
    let line = line.unwrap_or_else(|why| panic!("{why}"));
    line.rsplit(' ').next().unwrap().to_owned()
}

#[test]
fn one_seed_gives_one_trace() {
    let seeds = 1..=if hours() < 1.0 { 2 } else { 8 };
    let traces: Vec<String> = seeds.clone().map(trace).collect();
    let again: Vec<String> = seeds.map(trace).collect();
    assert_eq!(traces, again);
    let mut different = traces.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), traces.len());
}

#[test]
fn clusters_keep_their_promises() {
    let report = campaign(hours(), Wrong::default());
    assert!(report.failed.is_empty(), "{:#?}", report.failed);
    assert!(report.answered > 0, "nobody was answered");
}

#[test]
fn disks_that_lie_are_found() {
    let wrong = Wrong {
        sabotage: Some(Sabotage::LyingDisks),
        bug: None,
    };
    let report = campaign(2.0, wrong);
    assert!(!report.failed.is_empty(), "{report:?}");
}
