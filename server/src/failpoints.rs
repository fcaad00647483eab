//! Bugs put in on purpose, and faults of the disk, to prove that the fault runs find what they are for.
//!
//! Only a build with the feature `failpoints` has them, and there the environment chooses: [`Bug`] by its name in
//! `COORD_FAILPOINT`, the disk's faults as `disk` says. In every other build [`has`] is a constant `false`, and
//! nothing reads the environment. Each bug stands where the real one would, in a line or two that name it; this room
//! only says whether it is there. `docs/robustness.md` lists which run finds which.

#[cfg(feature = "failpoints")]
pub mod disk;

/// A bug that a fault run must find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A write to the log counts as durable before it is.
    AckBeforeFsync,
    /// The leader answers a linearizable read without asking whether it still leads.
    StaleRead,
    /// A vote is given but not stored.
    VoteNotPersisted,
    /// A watcher that needs compacted history gets what is left of it, and no word about the rest.
    EventLostAtCompaction,
    /// A member that lost its disk comes back under its old id.
    NodeIdReused,
    /// A snapshot claims to hold the last revision and does not.
    SnapshotWithoutLastBatch,
    /// A leader that was replaced goes on renewing leases that have ended.
    LeaseRevived,
    /// The position that was applied reaches the disk one entry late.
    DuplicateApply,
    /// The log is cut up to what is applied, on disk or not.
    PurgeBelowUnsynced,
    /// A member that reads an entry back gets its proposals in another order than its author.
    ReorderedEnvelope,
    /// A batch that was forwarded counts as never sent until the leader's answer to the call begins.
    ForwardedTwice,
    /// A member runs on an older copy of its disk, whatever others remember of it.
    OlderCopyRuns,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::AckBeforeFsync,
        Self::StaleRead,
        Self::VoteNotPersisted,
        Self::EventLostAtCompaction,
        Self::NodeIdReused,
        Self::SnapshotWithoutLastBatch,
        Self::LeaseRevived,
        Self::DuplicateApply,
        Self::PurgeBelowUnsynced,
        Self::ReorderedEnvelope,
        Self::ForwardedTwice,
        Self::OlderCopyRuns,
    ];

    /// Its name in `COORD_FAILPOINT`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeFsync => "ack-before-fsync",
            Self::StaleRead => "stale-read",
            Self::VoteNotPersisted => "vote-not-persisted",
            Self::EventLostAtCompaction => "event-lost-at-compaction",
            Self::NodeIdReused => "node-id-reused",
            Self::SnapshotWithoutLastBatch => "snapshot-without-last-batch",
            Self::LeaseRevived => "lease-revived",
            Self::DuplicateApply => "duplicate-apply",
            Self::PurgeBelowUnsynced => "purge-below-unsynced",
            Self::ReorderedEnvelope => "reordered-envelope",
            Self::ForwardedTwice => "forwarded-twice",
            Self::OlderCopyRuns => "older-copy-runs",
        }
    }
}

/// Whether this process has the bug.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub const fn has(_: Bug) -> bool {
    false
}

/// Whether this process has the bug.
///
/// # Panics
/// If `COORD_FAILPOINT` names one that does not exist: a run that looks for it would prove nothing.
#[cfg(feature = "failpoints")]
pub fn has(bug: Bug) -> bool {
    static CHOSEN: std::sync::OnceLock<Option<Bug>> = std::sync::OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("COORD_FAILPOINT").ok()?;
        let bug = Bug::ALL.into_iter().find(|bug| bug.name() == name);
        Some(bug.unwrap_or_else(|| panic!("there is no planted bug {name:?}")))
    });
    *chosen == Some(bug)
}
