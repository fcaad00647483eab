//! Identity of clusters and members, and what members say of themselves.

use std::fmt;

use thiserror::Error;

use super::codec::wire::{Reader, Sink};
use super::codec::{Canonical, CodecError, read_list, unknown, write_list};

/// Identity of a cluster; never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

/// Identity of a member, and its Raft node id; never 0, never used again after a removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// One leadership: term and leader. The term alone does not name it, a term may see several leaders.
pub type LeaderKey = (u64, MemberId);

/// Drawn at random when a data directory is made: tells a wiped member from the one it claims to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u64);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A started member's description of itself, which goes through the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// The member.
    pub id: MemberId,
    /// Its data directory: the first one recorded for an id stands for good.
    pub incarnation: Incarnation,
    /// Its `--name`.
    pub name: String,
    /// Where clients reach it.
    pub client_urls: Vec<String>,
    /// Highest feature level it can apply.
    pub feature_level: u32,
}

/// A member as clients see it: from the Raft membership, with what it published of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Identity.
    pub id: MemberId,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started.
    pub client_urls: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

/// A change to what is known of the members. The set of members is Raft's membership, not a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberCommand {
    /// A started member's description of itself.
    Publish(MemberRecord),
}

/// Why a change of the members was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MemberRefusal {
    /// No such member.
    #[error("member {0} not found")]
    NotFound(MemberId),
    /// The member exists.
    #[error("member {0} exists")]
    Exists(MemberId),
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
    NotEnoughStarted,
    /// Leadership cannot go to that member.
    #[error("bad leader transferee")]
    BadLeaderTransferee,
    /// Only the leader does this.
    #[error("not leader")]
    NotLeader,
    /// A member that was wiped came back under its old id.
    #[error("member {0} was started with another data directory before")]
    Wiped(MemberId),
}

impl MemberCommand {
    /// The tags that begin one.
    pub(super) const TAGS: std::ops::RangeInclusive<u8> = 9..=9;
}

impl Canonical for MemberCommand {
    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Publish(record) => {
                out.u8(9);
                record.write(out);
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let at = input.at();
        Ok(match input.u8()? {
            9 => Self::Publish(MemberRecord::read(input)?),
            tag => return Err(unknown("member command", tag, at)),
        })
    }
}

/// The state keeps these bytes as they are.
impl Canonical for MemberRecord {
    fn write(&self, out: &mut impl Sink) {
        let Self {
            id,
            incarnation,
            name,
            client_urls,
            feature_level,
        } = self;
        out.u64(id.0);
        out.u64(incarnation.0);
        out.bytes(name.as_bytes());
        write_list(out, client_urls, |url, out| out.bytes(url.as_bytes()));
        out.u64(u64::from(*feature_level));
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        Ok(Self {
            id: MemberId(input.u64()?),
            incarnation: Incarnation(input.u64()?),
            name: input.text()?,
            client_urls: read_list(input, 1, Reader::text)?,
            feature_level: input.u32("feature level")?,
        })
    }
}
