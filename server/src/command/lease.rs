//! Leases: their records, and what is done to them.

use bytes::Bytes;
use thiserror::Error;

use super::codec::wire::{Reader, Sink};
use super::codec::{Canonical, CodecError, read_list, unknown, write_list};

/// Longest time to live; etcd's bound.
pub const TTL_SECONDS_MAX: i64 = 9_000_000_000;

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

/// The state's knowledge of one lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTimeToLive {
    /// The record.
    pub lease: Lease,
    /// Attached keys in key order, if asked for.
    pub keys: Vec<Bytes>,
}

/// A change to a lease, for the countdown.
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

/// A change to leases.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LeaseCommand {
    /// Creates a lease. The id was chosen before proposing and is never 0.
    Grant {
        /// Identity of the lease.
        id: LeaseId,
        /// Granted time to live, in seconds, already raised to the minimum.
        ttl_seconds: i64,
    },
    /// Ends a lease and deletes the keys attached to it in one revision.
    Revoke {
        /// Identity of the lease.
        id: LeaseId,
    },
    /// Ends leases whose time is over; only applied if it stands in the log at the term it was decided in, written by
    /// the leader that proposed it.
    Expire {
        /// The leader's term when it decided.
        term: u64,
        /// The leases; unknown ones are skipped.
        ids: Vec<LeaseId>,
    },
    /// Records how much time leases have left, so that a new leader does not start them anew. Only applied if the
    /// leader that proposed it wrote it into the log: another one may have promised more since.
    Checkpoint {
        /// Lease and seconds left; 0 means the full granted time. Unknown leases are skipped.
        remaining_seconds: Vec<(LeaseId, i64)>,
    },
}

/// Why a change to leases was refused.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LeaseRefusal {
    /// No such lease.
    #[error("lease {0:?} not found")]
    NotFound(LeaseId),
    /// The lease id is taken.
    #[error("lease {0:?} exists")]
    Exists(LeaseId),
    /// The time to live is larger than leases may have.
    #[error("lease time to live is too large")]
    TtlTooLarge,
}

impl LeaseCommand {
    /// The tags that begin one.
    pub(super) const TAGS: std::ops::RangeInclusive<u8> = 5..=8;
}

impl Canonical for LeaseCommand {
    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Grant { id, ttl_seconds } => {
                out.u8(5);
                out.i64(id.0);
                out.i64(*ttl_seconds);
            }
            Self::Revoke { id } => {
                out.u8(6);
                out.i64(id.0);
            }
            Self::Expire { term, ids } => {
                out.u8(7);
                out.u64(*term);
                write_list(out, ids, |id, out| out.i64(id.0));
            }
            Self::Checkpoint { remaining_seconds } => {
                out.u8(8);
                write_list(out, remaining_seconds, |(id, seconds), out| {
                    out.i64(id.0);
                    out.i64(*seconds);
                });
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let at = input.at();
        Ok(match input.u8()? {
            5 => Self::Grant {
                id: LeaseId(input.i64()?),
                ttl_seconds: input.i64()?,
            },
            6 => Self::Revoke {
                id: LeaseId(input.i64()?),
            },
            7 => Self::Expire {
                term: input.u64()?,
                ids: read_list(input, 1, |input| Ok(LeaseId(input.i64()?)))?,
            },
            8 => Self::Checkpoint {
                remaining_seconds: read_list(input, 2, |input| {
                    Ok((LeaseId(input.i64()?), input.i64()?))
                })?,
            },
            tag => return Err(unknown("lease command", tag, at)),
        })
    }
}
