//! What members tell each other of the leases' countdown. None of it enters the log.

use super::{Lease, LeaseId};
use crate::command::{LeaderKey, LeaderMillis};

/// A change to a lease, for whoever counts it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It was granted.
    Granted {
        /// The lease.
        lease: Lease,
        /// Index of the log entry that granted it: tells it from an earlier one of the same id.
        index: u64,
    },
    /// It is gone.
    Ended(LeaseId),
    /// Its remaining time was recorded.
    Checkpointed(Lease),
    /// All leases were replaced by those of a snapshot.
    Replaced {
        /// The log index that it stands for.
        upto: u64,
    },
}

/// What a member asks the leader about leases. These do not enter the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseQuery {
    /// Renew them. Answers the granted seconds of each, 0 for one that is unknown or expired.
    Renew(Vec<LeaseId>),
    /// How many seconds are left of each, -1 for one that is unknown or expired.
    Remaining(Vec<LeaseId>),
}

/// What the leader tells a member of its countdown, on a heartbeat, so that the next leader goes on where it stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseDelta {
    /// Whose countdown.
    pub leadership: LeaderKey,
    /// The leader's clock when it sent this.
    pub now: LeaderMillis,
    /// The log index up to which the countdown knows grants and ends.
    pub through: u64,
    /// Which telling this belongs to: a member that lost its place is told everything anew, under the next number.
    pub copy: u64,
    /// So many changes from the start of the telling are the countdown as it stood then; with them the copy is complete.
    pub whole: u64,
    /// Place of the first change in the telling.
    pub from: u64,
    /// Changes in order: no later than when the lease ends, or `None` if it is gone.
    pub changes: Vec<(LeaseId, Option<LeaderMillis>)>,
}

/// What a member answers to [`LeaseDelta`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseAck {
    /// It holds the changes of this copy before `upto`.
    Taken {
        /// Which telling.
        copy: u64,
        /// Place after the last change it holds.
        upto: u64,
    },
    /// It lacks what came before: tell everything anew.
    Again,
    /// It does not follow this leader, or not yet.
    NotFollowing,
}

/// One complete copy of a leader's countdown, as a member holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTable {
    /// Whose countdown.
    pub leadership: LeaderKey,
    /// What that leader's clock shows now, or a little less.
    pub now: LeaderMillis,
    /// The log index up to which it knows grants and ends.
    pub through: u64,
    /// When each lease ends, by that clock.
    pub ends: Vec<(LeaseId, LeaderMillis)>,
}

/// What a member answers a new leader that asks for its copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseCopy {
    /// It does not follow the asking leader, or not yet.
    NotFollowing,
    /// It has no complete copy: it has restarted, or is new.
    Nothing,
    /// Its copy.
    Table(LeaseTable),
}
