//! The planted bugs (`coord_server::failpoints`), and the run that must find each.

use super::scenario::Scenario;

/// A bug and the scenario that must find it.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// Its name.
    pub bug: &'static str,
    /// The scenario that finds it.
    pub scenario: Scenario,
}

/// All planted bugs.
pub const ALL: [Planted; 10] = [
    planted("ack-before-fsync", Scenario::PowerCut),
    planted("stale-read", Scenario::Pause),
    planted("vote-not-persisted", Scenario::KillAll),
    planted("event-lost-at-compaction", Scenario::Compaction),
    planted("node-id-reused", Scenario::Wiped),
    planted("snapshot-without-last-batch", Scenario::FarBehind),
    planted("lease-revived", Scenario::Pause),
    planted("duplicate-apply", Scenario::KillLeader),
    planted("purge-below-unsynced", Scenario::PowerCut),
    planted("reordered-envelope", Scenario::Compaction),
];

/// Those that only the simulation must find: they need a connection that breaks within one round trip of its opening, or a
/// disk that goes back in time.
pub const SIMULATED: [&str; 2] = ["forwarded-twice", "older-copy-runs"];

const fn planted(bug: &'static str, scenario: Scenario) -> Planted {
    Planted { bug, scenario }
}

#[cfg(test)]
mod tests {
    use coord_server::failpoints::Bug;

    use super::*;

    #[test]
    fn every_bug_of_the_server_has_a_run() {
        let mut ours = ALL.map(|planted| planted.bug).to_vec();
        ours.extend(SIMULATED);
        let mut theirs = Bug::ALL.map(Bug::name).to_vec();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
    }
}
