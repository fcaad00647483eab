//! Identity of clusters and members.

use std::fmt;

/// Identity of a cluster; never 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u64);

/// Identity of a member, and its Raft node id; never 0, never used again after a removal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

/// One leadership: term and leader. The term alone does not name it, a term may see several leaders.
pub type LeaderKey = (u64, MemberId);

/// A reading of a leader's clock, in milliseconds since it began to lead. Means nothing without that leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaderMillis(pub i64);

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

/// What a started member says of itself, through the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// Who.
    pub id: MemberId,
    /// Which data directory: the first one recorded for an id stands for good.
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
