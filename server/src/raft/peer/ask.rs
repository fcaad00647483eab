//! Short questions to one peer.

use std::time::Duration;

use coord_proto::peer as wire;

use super::convert;
use super::line::{Peers, Purpose};
use crate::command::{LogPosition, MemberId, Unavailable};
use crate::raft::membership::{ChangeError, MemberChange};
use crate::raft::remembered;

/// How long a peer may take to confirm a membership, or to say what it remembers.
const CONFIRM_MAX: Duration = Duration::from_secs(1);

/// Asks the leader to change the membership.
///
/// Errors: the leader's; `LeaderChanged` if it did not answer, and nobody knows whether it did it.
pub(in crate::raft) async fn change(
    peers: &Peers,
    leader: MemberId,
    urls: &[String],
    change: MemberChange,
) -> Result<(), ChangeError> {
    let line = peers.line(leader, urls, Purpose::Control);
    let id = change.id();
    let call = line.request(convert::change(change));
    let asked = async { line.client()?.change(call).await }.await;
    match asked {
        Ok(response) => convert::read_changed(response.into_inner(), id),
        Err(status) => {
            line.failed(&status);
            Err(Unavailable::LeaderChanged.into())
        }
    }
}

/// A peer's memory of this member; `None` if it does not say.
pub(in crate::raft) async fn remembered(
    peers: &Peers,
    peer: MemberId,
    urls: &[String],
) -> Option<remembered::Answer> {
    let line = peers.line(peer, urls, Purpose::Control);
    let call = line.request(wire::RememberRequest {});
    let asked = async { line.client()?.remember(call).await };
    let answered = tokio::time::timeout(CONFIRM_MAX, asked).await.ok()?;
    let response = answered.inspect_err(|status| line.failed(status)).ok()?;
    Some(convert::read_remembered(
        peers.own(),
        &response.into_inner(),
    ))
}

/// Whether a peer knows that this member was removed.
pub(in crate::raft) async fn is_removed(
    peers: &Peers,
    peer: MemberId,
    urls: &[String],
    membership: Option<LogPosition>,
) -> bool {
    let line = peers.line(peer, urls, Purpose::Control);
    let message = wire::ConfirmRequest {
        membership: membership.map(convert::wire_position),
    };
    let call = line.request(message);
    let asked = async { line.client()?.confirm(call).await };
    match tokio::time::timeout(CONFIRM_MAX, asked).await {
        Ok(Ok(response)) => response.into_inner().removed,
        Ok(Err(status)) => {
            line.failed(&status);
            false
        }
        Err(_) => false,
    }
}
