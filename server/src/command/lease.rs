//! Leases: their records, and what the leader is asked about their countdown.

use bytes::Bytes;

/// Identity of a lease; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A lease as the state keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Identity.
    pub id: LeaseId,
    /// Granted seconds.
    pub ttl_seconds: i64,
    /// Seconds left at the last checkpoint; 0 means the full granted time.
    pub remaining_seconds: i64,
}

/// What the state knows of one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTimeToLive {
    /// The record.
    pub lease: Lease,
    /// Attached keys in key order, if asked for.
    pub keys: Vec<Bytes>,
}

/// A change to a lease, for whoever counts it down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseChange {
    /// It was granted.
    Granted(Lease),
    /// It is gone.
    Ended(LeaseId),
    /// Its remaining time was recorded.
    Checkpointed(Lease),
}

/// What a member asks the leader about leases. These do not enter the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseQuery {
    /// Renew them. Answers the granted seconds of each, 0 for one that is unknown or expired.
    Renew(Vec<LeaseId>),
    /// How many seconds are left of each, -1 for one that is unknown or expired.
    Remaining(Vec<LeaseId>),
}
