//! Fault runs: real processes in network namespaces, under load, and what their clients saw judged afterwards.
//!
//! One short run of each scenario, one after the other; `make robust` runs more of them, for as long as you like.
//! `docs/robustness.md` says what each proves.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use coord_e2e::robust::campaign;
use coord_e2e::robust::failure::Failure;
use coord_e2e::robust::run::Plan;
use coord_e2e::robust::scenario::Scenario;

/// Void runs that are repeated with another seed before the test gives up: on a busy machine a leadership may end by
/// itself just when it must not.
const ATTEMPTS: usize = 3;

/// A cluster and its clients keep two cores busy, and members that have to wait for a core are another fault.
static ALONE: Mutex<()> = Mutex::new(());

/// Two rounds of a scenario hold, with a new seed each time.
fn holds(scenario: Scenario) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for attempt in 1..=ATTEMPTS {
        let plan = Plan {
            scenario,
            seed: rand::random_range(1..1_000_000),
            time: Duration::ZERO,
            bug: None,
        };
        match campaign::one(&plan) {
            Ok(_) => return,
            Err(Failure::Void(_)) if attempt < ATTEMPTS => {}
            Err(failure) => panic!("{} seed {}: {failure}", scenario.name(), plan.seed),
        }
    }
}

#[test]
fn robust_when_the_leader_is_killed() {
    holds(Scenario::KillLeader);
}

#[test]
fn robust_when_all_are_killed() {
    holds(Scenario::KillAll);
}

#[test]
fn robust_when_all_lose_their_power() {
    holds(Scenario::PowerCut);
}

#[test]
fn robust_when_the_leader_stands_still() {
    holds(Scenario::Pause);
}

#[test]
fn robust_when_a_member_is_cut_off() {
    holds(Scenario::Cut);
}

#[test]
fn robust_when_the_leader_is_cut_off_one_way() {
    holds(Scenario::OneWay);
}

#[test]
fn robust_a_member_that_returns_does_not_depose_the_leader() {
    holds(Scenario::Return);
}

#[test]
fn robust_on_slow_disks() {
    holds(Scenario::SlowDisk);
}

#[test]
fn robust_on_a_full_disk() {
    holds(Scenario::FullDisk);
}

#[test]
fn robust_when_a_member_needs_a_snapshot() {
    holds(Scenario::FarBehind);
}

#[test]
fn robust_when_a_member_lost_its_disk() {
    holds(Scenario::Wiped);
}

#[test]
fn robust_under_compaction() {
    holds(Scenario::Compaction);
}
