//! The three kinds of failure, never mixed: a [`Refusal`] is part of the replicated answer, an [`Unavailable`] may go
//! away by itself, a [`Fault`] stops the process.

use thiserror::Error;

use super::{LeaseId, MemberId, Revision};

/// A deterministic no: every member decides it alike, and it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// A key is empty where one is needed.
    #[error("key is empty")]
    EmptyKey,
    /// A key is longer than the store takes.
    #[error("key has {bytes} bytes, at most {max} are stored")]
    KeyTooLong {
        /// Its length.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// An `ignore_value` or `ignore_lease` put of a key that does not exist.
    #[error("key not found")]
    KeyNotFound,
    /// The revision asked for is below the compaction floor.
    #[error("revision is compacted, the oldest kept is {oldest}")]
    Compacted {
        /// The floor.
        oldest: Revision,
    },
    /// The revision asked for does not exist yet.
    #[error("revision is in the future, the newest is {current}")]
    FutureRevision {
        /// The newest.
        current: Revision,
    },
    /// A transaction changes one key twice.
    #[error("a key is changed twice in one transaction")]
    DuplicateKey,
    /// No such lease.
    #[error("lease {0:?} not found")]
    LeaseNotFound(LeaseId),
    /// The lease id is taken.
    #[error("lease {0:?} exists")]
    LeaseExists(LeaseId),
    /// The time to live is larger than leases may have.
    #[error("lease time to live is too large")]
    LeaseTtlTooLarge,
    /// The store's quota is used up.
    #[error("database space exceeded")]
    NoSpace,
    /// The request is larger than allowed.
    #[error("request is too large")]
    RequestTooLarge,
    /// No such member.
    #[error("member {0} not found")]
    MemberNotFound(MemberId),
    /// The member exists.
    #[error("member {0} exists")]
    MemberExists(MemberId),
    /// Another member has one of these peer URLs.
    #[error("peer URL exists")]
    PeerUrlExists,
    /// The member to promote is a voter.
    #[error("member {0} is not a learner")]
    NotLearner(MemberId),
    /// The member to promote is behind.
    #[error("learner {0} is not in sync with the leader")]
    LearnerNotReady(MemberId),
    /// The cluster has as many learners as it takes.
    #[error("too many learners")]
    TooManyLearners,
    /// The change would leave too few healthy voters.
    #[error("not enough started members")]
    NotEnoughStartedMembers,
    /// Leadership cannot go to that member.
    #[error("bad leader transferee")]
    BadLeaderTransferee,
    /// Only the leader does this.
    #[error("not leader")]
    NotLeader,
    /// A member that was wiped came back under its old id.
    #[error("member {0} was started with another data directory before")]
    WipedMember(MemberId),
}

/// A no that may be a yes later, on this member or another. The outcome of a write is then unknown unless it says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Unavailable {
    /// No leader is known.
    #[error("no leader")]
    NoLeader,
    /// The leader changed while the request was under way.
    #[error("leader changed")]
    LeaderChanged,
    /// It took too long.
    #[error("request timed out")]
    Timeout,
    /// Too much is queued; nothing was proposed.
    #[error("too many requests")]
    TooManyRequests,
    /// This member is stopping.
    #[error("server stopped")]
    Stopped,
    /// A learner does not serve this.
    #[error("not supported for a learner")]
    Learner,
    /// Too few voters are reachable for a change of membership.
    #[error("unhealthy cluster")]
    Unhealthy,
}

/// A broken invariant or a failed disk. The process stops; it never goes on with less than it had.
#[derive(Debug, Error)]
pub enum Fault {
    /// A file operation failed.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The state store failed.
    #[error("state store: {0}")]
    Store(String),
    /// Bytes are not what was written.
    #[error("{what} is damaged: {why}")]
    Corrupt {
        /// File and place.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// A log entry this version cannot apply.
    #[error("entry {index} is unknown to this version: {why}")]
    UnknownEntry {
        /// Its log index.
        index: u64,
        /// Which part.
        why: String,
    },
}

impl Fault {
    /// Damage that this member cannot make good by itself: says what is wrong, and how the member is replaced.
    pub fn irreparable(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            what: what.into(),
            why: format!(
                "{why}. This member can no longer prove what it promised its peers, so it does not start. Keep a copy of \
                 its data directory, remove the member from the cluster (etcdctl member remove), empty the directory and \
                 add it again as a new member; of a cluster of one, restore a backup."
            ),
        }
    }
}
