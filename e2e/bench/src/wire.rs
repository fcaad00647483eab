//! A lean gRPC client: one HTTP/2 connection, unary calls and streams straight over `h2`.
//!
//! Owns framing and status. It costs about 15 us of CPU a call, less than half of tonic's client: the generator shares
//! the cores with the servers it measures. No retries, no deadlines, no TLS: a benchmark wants to see what happens.

mod connection;
mod error;
mod frame;
mod stream;

pub use connection::Connection;
pub use error::CallError;
pub use stream::{Incoming, Outgoing};

/// The calls that are measured or needed to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rpc {
    /// Read keys.
    Range,
    /// Write a key.
    Put,
    /// Compare, then do.
    Txn,
    /// Delete keys.
    Delete,
    /// Follow keys.
    Watch,
    /// Create a lease.
    Grant,
    /// End a lease and what hangs on it.
    Revoke,
    /// Ask a member how it stands.
    Status,
    /// Fetch everything.
    Snapshot,
    /// Hand leadership over.
    MoveLeader,
}

impl Rpc {
    /// All of them, in declaration order.
    const ALL: [Self; 10] = [
        Self::Range,
        Self::Put,
        Self::Txn,
        Self::Delete,
        Self::Watch,
        Self::Grant,
        Self::Revoke,
        Self::Status,
        Self::Snapshot,
        Self::MoveLeader,
    ];

    const fn path(self) -> &'static str {
        match self {
            Self::Range => "/etcdserverpb.KV/Range",
            Self::Put => "/etcdserverpb.KV/Put",
            Self::Txn => "/etcdserverpb.KV/Txn",
            Self::Delete => "/etcdserverpb.KV/DeleteRange",
            Self::Watch => "/etcdserverpb.Watch/Watch",
            Self::Grant => "/etcdserverpb.Lease/LeaseGrant",
            Self::Revoke => "/etcdserverpb.Lease/LeaseRevoke",
            Self::Status => "/etcdserverpb.Maintenance/Status",
            Self::Snapshot => "/etcdserverpb.Maintenance/Snapshot",
            Self::MoveLeader => "/etcdserverpb.Maintenance/MoveLeader",
        }
    }
}
