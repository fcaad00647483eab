//! The words that pass between the rooms: commands, queries, proposals, responses, refusals, events.
//!
//! Owns the vocabulary of the replicated state machine. One file for each noun: its operations, why one may be
//! refused, and the canonical bytes of both ([`codec`] has what the nouns share). A further protocol adds a file and a
//! variant of [`Command`]. Plain values only: it knows no wire protocol, no storage, no consensus and no clock. Read
//! [`Command`] first, then [`Outcome`].

mod alarm;
mod auth;
pub mod codec;
pub mod format;
#[cfg(test)]
pub mod fuzz;
mod kv;
mod lease;
pub mod level;
mod member;
mod principal;
mod refusal;

use std::fmt;

pub use alarm::{Alarm, AlarmCommand, AlarmKind};
pub use auth::{
    Access, AuthCommand, AuthQuery, AuthRefusal, AuthResponse, AuthTables, AuthUser, Permission,
    ROOT, TokenChange,
};
pub use kv::{
    Compare, CompareOperand, CompareResult, DeleteRange, Event, EventKind, KEY_BYTES_MAX, KeyValue,
    Keys, KvCommand, KvRefusal, Op, OpResponse, Order, Put, PutLease, PutValue, Range, RangeFilter,
    RangeResponse, SortTarget, TXN_DEPTH_MAX, Txn,
};
pub use lease::{
    Lease, LeaseChange, LeaseCommand, LeaseId, LeaseRefusal, LeaseTimeToLive, TTL_SECONDS_MAX,
};
pub use level::LevelCommand;
pub use member::{
    ClusterId, Incarnation, LeaderKey, Member, MemberCommand, MemberId, MemberRecord, MemberRefusal,
};
pub use principal::Principal;
pub use refusal::{Fault, LimitRefusal, Refusal, Unavailable};

use codec::wire::{Reader, Sink};
use codec::{Canonical, CodecError, unknown};

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

impl UnixMillis {
    /// That much earlier; not before 1970.
    pub fn before(self, duration: std::time::Duration) -> Self {
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(millis))
    }
}

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
    /// To the etcd key space.
    Kv(KvCommand),
    /// To leases.
    Lease(LeaseCommand),
    /// To what is known of members.
    Member(MemberCommand),
    /// To the feature level.
    Level(LevelCommand),
    /// To the alarms.
    Alarm(AlarmCommand),
    /// To users, roles and whether they are asked for.
    Auth(AuthCommand),
}

impl Command {
    /// Whether it may make the store larger, and is refused by a full one. Deletes and what else makes room pass.
    pub fn stores(&self) -> bool {
        match self {
            Self::Kv(command) => !command.puts().is_empty(),
            Self::Lease(command) => match command {
                LeaseCommand::Grant { .. } => true,
                LeaseCommand::Revoke { .. }
                | LeaseCommand::Expire { .. }
                | LeaseCommand::Checkpoint { .. } => false,
            },
            Self::Member(_) | Self::Level(_) | Self::Alarm(_) | Self::Auth(_) => false,
        }
    }
}

/// A family's tags begin its commands, so that the families share one space of tags.
impl Canonical for Command {
    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Kv(command) => command.write(out),
            Self::Lease(command) => command.write(out),
            Self::Member(command) => command.write(out),
            Self::Level(command) => command.write(out),
            Self::Alarm(command) => command.write(out),
            Self::Auth(command) => command.write(out),
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        Ok(match input.peek()? {
            tag if KvCommand::TAGS.contains(&tag) => Self::Kv(KvCommand::read(input)?),
            tag if LeaseCommand::TAGS.contains(&tag) => Self::Lease(LeaseCommand::read(input)?),
            tag if MemberCommand::TAGS.contains(&tag) => Self::Member(MemberCommand::read(input)?),
            tag if LevelCommand::TAGS.contains(&tag) => Self::Level(LevelCommand::read(input)?),
            tag if AlarmCommand::TAGS.contains(&tag) => Self::Alarm(AlarmCommand::read(input)?),
            tag if AuthCommand::TAGS.contains(&tag) => Self::Auth(AuthCommand::read(input)?),
            tag => return Err(unknown("command", tag, input.at())),
        })
    }
}

impl From<KvCommand> for Command {
    fn from(command: KvCommand) -> Self {
        Self::Kv(command)
    }
}

impl From<LeaseCommand> for Command {
    fn from(command: LeaseCommand) -> Self {
        Self::Lease(command)
    }
}

impl From<MemberCommand> for Command {
    fn from(command: MemberCommand) -> Self {
        Self::Member(command)
    }
}

impl From<LevelCommand> for Command {
    fn from(command: LevelCommand) -> Self {
        Self::Level(command)
    }
}

impl From<AlarmCommand> for Command {
    fn from(command: AlarmCommand) -> Self {
        Self::Alarm(command)
    }
}

impl From<AuthCommand> for Command {
    fn from(command: AuthCommand) -> Self {
        Self::Auth(command)
    }
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
    /// All alarms, ascending.
    Alarms,
    /// About users, roles and whether they are asked for.
    Auth(AuthQuery),
}

/// A command on its way through the log, with who waits for its outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The member that answers the client.
    pub origin: MemberId,
    /// The run of that member's process which proposed it: after a restart nobody waits any more.
    pub run: u64,
    /// Counts the proposals of one run.
    pub sequence: u64,
    /// The principal that asks for it.
    pub principal: Principal,
    /// The change itself.
    pub command: Command,
}

impl Proposal {
    /// Its identity, by which its outcome finds the caller that waits.
    pub fn id(&self) -> ProposalId {
        ProposalId {
            origin: self.origin,
            run: self.run,
            sequence: self.sequence,
        }
    }
}

impl Canonical for Proposal {
    fn write(&self, out: &mut impl Sink) {
        let Self {
            origin,
            run,
            sequence,
            principal,
            command,
        } = self;
        out.u64(origin.0);
        out.u64(*run);
        out.u64(*sequence);
        principal.write(out);
        command.write(out);
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        Ok(Self {
            origin: MemberId(input.u64()?),
            run: input.u64()?,
            sequence: input.u64()?,
            principal: Principal::read(input)?,
            command: Command::read(input)?,
        })
    }
}

/// One log entry: proposals that were gathered while the last append was in flight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The feature level whose law the entry was written for.
    pub feature_level: u32,
    /// The leader's wall clock when it gathered; the state keeps the largest seen.
    pub leader_time: UnixMillis,
    /// At least one.
    pub proposals: Vec<Proposal>,
}

/// The answer of a command or a query.
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
    /// To a query for all alarms; to a change of one: that one, if anything changed.
    Alarms(Vec<Alarm>),
    /// About users, roles and tokens.
    Auth(AuthResponse),
    /// To every command that has nothing more to say.
    Done,
}

/// The outcome of one proposal or query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The store's revision when this was decided, for the reply's header.
    pub revision: Revision,
    /// The answer; a refusal changed nothing and took no revision.
    pub result: Result<Response, Refusal>,
}

/// The identity of a proposal, which says where its outcome is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProposalId {
    /// The member that answers the client.
    pub origin: MemberId,
    /// The run of its process.
    pub run: u64,
    /// The number of the proposal in that run.
    pub sequence: u64,
}
