//! The fault runs find what they are for: bugs planted in a server of its own. `make planted` looks for all ten; here are
//! those that are found within seconds, and the proof that nobody gets them by mistake.

use std::path::Path;

use coord_e2e::cluster::process::{planted_program, server_program};
use coord_e2e::robust::campaign::hunt;
use coord_e2e::robust::planted;

/// Whether a program reads the variables that plant bugs.
fn can_be_planted(program: &Path) -> bool {
    const VARIABLE: &[u8] = b"COORD_PLANTED_BUG";
    let bytes = std::fs::read(program).unwrap();
    bytes
        .windows(VARIABLE.len())
        .any(|window| window == VARIABLE)
}

#[test]
fn only_the_planted_server_has_planted_bugs() {
    assert!(!can_be_planted(&server_program().unwrap()));
    assert!(can_be_planted(&planted_program().unwrap()));
}

/// A planted bug is found.
fn found(bug: &str) {
    let planted = planted::ALL.into_iter().find(|planted| planted.bug == bug);
    let hunt = hunt(planted.unwrap(), rand::random_range(1..1_000_000));
    assert!(
        hunt.found.is_some(),
        "{bug} was not found in {} runs",
        hunt.runs
    );
}

#[test]
fn robust_finds_a_reordered_envelope() {
    found("reordered-envelope");
}

#[test]
fn robust_finds_an_event_lost_at_compaction() {
    found("event-lost-at-compaction");
}

#[test]
fn robust_finds_an_acknowledgement_before_the_sync() {
    found("ack-before-fsync");
}
