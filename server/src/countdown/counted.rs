//! The thing that is counted down: an id with a time to live.

use std::time::Duration;

use crate::command::{Lease, LeaseId};

/// Something whose time runs out unless it is renewed. A further kind is a variant here, and the compiler names the places
/// where it must be proposed as something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Counted {
    /// A lease of etcd's.
    Lease(LeaseId),
}

/// The record of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) of: Counted,
    /// Granted.
    pub(super) ttl: Duration,
    /// The time that was left when it was last recorded; `None` means the full time.
    pub(super) left: Option<Duration>,
}

impl From<Lease> for Record {
    fn from(lease: Lease) -> Self {
        let Lease {
            id,
            ttl_seconds,
            remaining_seconds,
        } = lease;
        Self {
            of: Counted::Lease(id),
            ttl: seconds(ttl_seconds),
            left: (remaining_seconds > 0).then(|| seconds(remaining_seconds)),
        }
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}
