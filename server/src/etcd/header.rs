//! The header of every reply.

use coord_proto::etcd::etcdserverpb::ResponseHeader;

use crate::command::Revision;
use crate::coordinator::Coordinator;

/// A header that says the store was at `revision`.
pub(super) fn at(coordinator: &Coordinator, revision: Revision) -> ResponseHeader {
    ResponseHeader {
        revision: signed(revision),
        ..without_revision(coordinator)
    }
}

/// A header for replies that are not about the store.
pub(super) fn without_revision(coordinator: &Coordinator) -> ResponseHeader {
    let identity = coordinator.identity();
    ResponseHeader {
        cluster_id: identity.cluster.0,
        member_id: identity.member.0,
        revision: 0,
        raft_term: coordinator.term(),
    }
}

/// The header inside a transaction's reply, which says nothing but the revision.
pub(super) fn only(revision: Revision) -> ResponseHeader {
    ResponseHeader {
        revision: signed(revision),
        ..ResponseHeader::default()
    }
}

/// A revision on the wire.
pub(super) fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
