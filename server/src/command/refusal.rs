//! The three kinds of failure, never mixed: a [`Refusal`] is part of the replicated answer, an [`Unavailable`] may go
//! away by itself, a [`Fault`] stops the process.

use thiserror::Error;

use super::format::UnknownFormat;
use super::{AuthRefusal, KvRefusal, LeaseRefusal, MemberRefusal};

/// A deterministic no: every member decides it alike, and it changes nothing. One family for each noun.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Of the key space.
    #[error(transparent)]
    Kv(#[from] KvRefusal),
    /// Of leases.
    #[error(transparent)]
    Lease(#[from] LeaseRefusal),
    /// Of members.
    #[error(transparent)]
    Member(#[from] MemberRefusal),
    /// Of authentication.
    #[error(transparent)]
    Auth(#[from] AuthRefusal),
    /// Of a bound.
    #[error(transparent)]
    Limit(#[from] LimitRefusal),
}

/// The bound that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum LimitRefusal {
    /// The store's quota is used up.
    #[error("database space exceeded")]
    NoSpace,
    /// The request is larger than allowed.
    #[error("request is too large")]
    RequestTooLarge,
    /// A member's state is known to differ from the others'.
    #[error("corrupt cluster")]
    Corrupt,
    /// Not every member can apply it yet: one runs an older version.
    #[error(
        "{command} needs feature level {needs}, the cluster is at {level}: not every member runs a version that knows it"
    )]
    Level {
        /// Its name.
        command: &'static str,
        /// The level it needs.
        needs: u32,
        /// That of the cluster.
        level: u32,
    },
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
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The member cannot start as it was told to.
    #[error("cannot start: {0}")]
    Start(String),
    /// The state store failed.
    #[error("state store: {0}")]
    Store(String),
    /// Bytes are not what was written.
    #[error("{what} is damaged: {why}")]
    Corrupt {
        /// File and place.
        what: String,
        /// The defect that was found.
        why: String,
    },
    /// A file or its content is of a format that this version does not know. Nothing is wrong with it.
    #[error("{place}: {unknown}; start that version")]
    Newer {
        /// The file.
        place: String,
        /// Its format.
        unknown: UnknownFormat,
    },
    /// A log entry this version cannot apply.
    #[error("entry {index} is unknown to this version: {why}")]
    UnknownEntry {
        /// Its log index.
        index: u64,
        /// The part that is unknown.
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
