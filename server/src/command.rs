//! What is said between the rooms: commands, queries, proposals, responses, refusals, events.
//!
//! Owns the vocabulary of the replicated state machine and, in [`codec`], its canonical bytes. Plain values only: it
//! knows no wire protocol, no storage, no consensus and no clock. Read [`Command`] first, then [`Outcome`].

pub mod codec;
mod kv;
mod lease;
mod member;
mod refusal;

use std::fmt;

pub use kv::{
    Compare, CompareOperand, CompareResult, DeleteRange, Event, EventKind, KeyValue, Keys, Op,
    OpResponse, Order, Put, PutLease, PutValue, Range, RangeFilter, RangeResponse, SortTarget, Txn,
};
pub use lease::{
    Lease, LeaseChange, LeaseId, LeaseNews, LeaseQuery, LeaseRecall, LeaseReceipt, LeaseTable,
    LeaseTimeToLive,
};
pub use member::{ClusterId, Incarnation, LeaderKey, LeaderMillis, Member, MemberId, MemberRecord};
pub use refusal::{Fault, Refusal, Unavailable};

/// A point in the history of the etcd key space: one per mutating command. A fresh store is at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

impl Revision {
    /// The revision after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A revision with the place of one change inside it; `(main, sub)` orders all changes ever made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The revision.
    pub main: Revision,
    /// Place inside the revision, from 0.
    pub sub: u32,
}

/// Milliseconds since the Unix epoch, as the leader's clock saw them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

/// Where an entry stands in the replicated log.
///
/// `leader` is the member that wrote the entry: with openraft's advanced leader ids a term may see several leaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// Raft term.
    pub term: u64,
    /// The leader that appended the entry.
    pub leader: MemberId,
    /// Log index.
    pub index: u64,
}

/// A change to the replicated state. Decided by law alone, in log order, alike on every member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Stores one key.
    Put(Put),
    /// Removes the keys of a range in one revision.
    DeleteRange(DeleteRange),
    /// Compares, then applies one of two lists of operations in one revision.
    Txn(Txn),
    /// Raises the compaction floor: history below `revision` may be forgotten.
    Compact {
        /// The new floor.
        revision: Revision,
    },
    /// Creates a lease. The id was chosen before proposing and is never 0.
    LeaseGrant {
        /// Identity of the lease.
        id: LeaseId,
        /// Granted time to live, in seconds, already raised to the minimum.
        ttl_seconds: i64,
    },
    /// Ends a lease and deletes the keys attached to it in one revision.
    LeaseRevoke {
        /// Identity of the lease.
        id: LeaseId,
    },
    /// Ends leases whose time is over; only applied if it stands in the log at the term it was decided in, written by
    /// the leader that proposed it.
    LeaseExpire {
        /// The leader's term when it decided.
        term: u64,
        /// The leases; unknown ones are skipped.
        ids: Vec<LeaseId>,
    },
    /// Records how much time leases have left, so that a new leader does not start them anew. Only applied if the
    /// leader that proposed it wrote it into the log: another one may have promised more since.
    LeaseCheckpoint {
        /// Lease and seconds left; 0 means the full granted time. Unknown leases are skipped.
        remaining_seconds: Vec<(LeaseId, i64)>,
    },
    /// What a started member says of itself.
    MemberPublish(MemberRecord),
    /// Raises the feature level that the cluster's entries are written for; never lowers it. Proposed by a leader that
    /// has seen every member report at least this level.
    RaiseLevel {
        /// The level.
        level: u32,
    },
}

/// A question to one member's state that changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    /// Keys of a range.
    Range(Range),
    /// A transaction whose both branches only read.
    Txn(Txn),
    /// One lease with its attached keys. The time left is the leader's to say, not the state's.
    Lease {
        /// Identity of the lease.
        id: LeaseId,
        /// Whether to list the attached keys.
        keys: bool,
    },
    /// All lease ids, ascending.
    Leases,
}

/// A command on its way through the log, with who waits for its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The member that answers the client.
    pub origin: MemberId,
    /// Which run of that member's process proposed it: after a restart nobody waits any more.
    pub run: u64,
    /// Counts the proposals of one run.
    pub sequence: u64,
    /// What to do.
    pub command: Command,
}

/// One log entry: proposals that were gathered while the last append was in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Which law the entry was written for.
    pub feature_level: u32,
    /// The leader's wall clock when it gathered; the state keeps the largest seen.
    pub leader_time: UnixMillis,
    /// At least one.
    pub proposals: Vec<Proposal>,
}

/// What a command or a query answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// To a put: the pair it replaced, if asked for and there was one.
    Put {
        /// The replaced pair.
        prev: Option<KeyValue>,
    },
    /// To a delete.
    DeleteRange {
        /// How many keys are gone.
        deleted: u64,
        /// The removed pairs in key order, if asked for.
        prevs: Vec<KeyValue>,
    },
    /// To a range.
    Range(RangeResponse),
    /// To a transaction.
    Txn {
        /// Whether all compares held.
        succeeded: bool,
        /// One per operation of the branch taken, in order.
        responses: Vec<OpResponse>,
    },
    /// To a grant.
    LeaseGrant {
        /// Identity of the lease.
        id: LeaseId,
        /// Granted seconds.
        ttl_seconds: i64,
    },
    /// To a query for one lease; `None` if it does not exist.
    Lease(Option<LeaseTimeToLive>),
    /// To a query for all leases.
    Leases(Vec<LeaseId>),
    /// To every command that has nothing more to say.
    Done,
}

/// What became of one proposal or query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The store's revision when this was decided: what the reply's header says.
    pub revision: Revision,
    /// The answer; a refusal changed nothing and took no revision.
    pub result: Result<Response, Refusal>,
}

/// Who waits for a proposal's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Proposer {
    /// The member that answers the client.
    pub origin: MemberId,
    /// Which run of its process.
    pub run: u64,
    /// Which proposal of that run.
    pub sequence: u64,
}
