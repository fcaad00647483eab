//! Bugs put into the server on purpose, each of which the simulation must find.

#![expect(
    clippy::unwrap_used,
    reason = "clippy lets only the test functions themselves unwrap, not what they call"
)]

use std::path::Path;
use std::time::Duration;

use coord_server::failpoints::Bug;
use coord_simulation::seeds::{self, Campaign};
use coord_simulation::wrong::Wrong;

/// How many hours are searched for one.
const HOURS_MAX: f64 = 8.0;

fn is_found(bug: Bug) -> bool {
    let campaign = Campaign {
        first: 1,
        simulated: Duration::from_secs_f64(HOURS_MAX * 3600.0),
        real_max: Duration::from_secs(600),
        jobs: 2,
        wrong: Wrong {
            sabotage: None,
            bug: Some(bug),
        },
        is_search: true,
    };
    let program = Path::new(env!("CARGO_BIN_EXE_coord-simulation"));
    let report = seeds::run(program, campaign, |_| {}).unwrap();
    println!(
        "{}: {:?} after {} runs",
        bug.name(),
        report.failed,
        report.runs
    );
    !report.failed.is_empty()
}

#[test]
fn planted_bugs_are_found() {
    let missed: Vec<&str> = Bug::ALL
        .into_iter()
        // No machine here loses its disk and keeps its place in the cluster.
        .filter(|bug| *bug != Bug::NodeIdReused)
        .filter(|bug| !is_found(*bug))
        .map(Bug::name)
        .collect();
    assert!(missed.is_empty(), "not found: {missed:?}");
}
