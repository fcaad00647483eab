//! The fault runs find what they are for: bugs planted in a server of its own. `make failpoints` looks for all ten, and runs
//! each find again without the bug; here are those that are found soonest, and the proof that nobody gets them by mistake.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use coord_e2e::cluster::process::{failpoints_program, server_program};
use coord_e2e::robust::campaign::hunt;
use coord_e2e::robust::failpoints;

/// Whether a program reads the variables that plant bugs.
fn can_be_planted(program: &Path) -> bool {
    const VARIABLE: &[u8] = b"COORD_FAILPOINT";
    let bytes = std::fs::read(program).expect("the program was built");
    bytes
        .windows(VARIABLE.len())
        .any(|window| window == VARIABLE)
}

#[test]
fn only_the_server_for_fault_runs_has_planted_bugs() {
    assert!(!can_be_planted(&server_program().unwrap()));
    assert!(can_be_planted(&failpoints_program().unwrap()));
}

/// As of the other fault runs: one cluster at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// A planted bug is found.
fn found(bug: &str) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let planted = failpoints::ALL
        .into_iter()
        .find(|planted| planted.bug == bug);
    let planted = planted.expect("there is a bug of this name");
    let hunt = hunt(planted, rand::random_range(1..1_000_000));
    assert!(
        hunt.found.is_some(),
        "{bug} was not found in {} runs",
        hunt.runs
    );
}

#[test]
fn robust_finds_an_acknowledgement_before_the_sync() {
    found("ack-before-fsync");
}

#[test]
fn robust_finds_a_vote_that_is_not_stored() {
    found("vote-not-persisted");
}

#[test]
fn robust_finds_an_event_lost_at_compaction() {
    found("event-lost-at-compaction");
}

#[test]
fn robust_finds_an_id_that_is_used_again() {
    found("node-id-reused");
}

#[test]
fn robust_finds_a_snapshot_without_its_last_batch() {
    found("snapshot-without-last-batch");
}

#[test]
fn robust_finds_an_entry_applied_twice() {
    found("duplicate-apply");
}
