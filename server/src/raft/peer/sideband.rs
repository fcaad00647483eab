//! The side-band on the wire: a kind, and bytes that this room does not read.

use std::time::Duration;

use bytes::Bytes;
use coord_proto::peer as wire;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::Status;

use super::line::{Peers, Purpose};
use crate::clock::Moment;
use crate::command::{LeaderKey, MemberId, Unavailable};
use crate::raft::sideband::{Carried, Collected, Kind, Pages};

/// How long a member may take for all its pages.
const COLLECT_MAX: Duration = Duration::from_secs(5);

/// A question, an answer or a page.
pub(super) fn bytes(kind: Kind, body: Bytes) -> wire::Sideband {
    wire::Sideband {
        kind: kind.0,
        body,
        waited: 0,
    }
}

/// The side-band of a heartbeat. Rounded down: a receiver must not take the sender's clock for later than it is.
pub(super) fn carried(carried: &Carried) -> wire::Sideband {
    wire::Sideband {
        waited: u64::try_from(carried.waited.as_millis()).unwrap_or(u64::MAX),
        ..bytes(carried.kind, carried.body.clone())
    }
}

pub(super) fn read_carried(message: wire::Sideband) -> Carried {
    let wire::Sideband { kind, body, waited } = message;
    Carried::received(Kind(kind), body, Duration::from_millis(waited))
}

/// Asks a member, as the leader of this leadership.
pub(in crate::raft) async fn collect(
    peers: &Peers,
    peer: MemberId,
    urls: &[String],
    (term, leader): LeaderKey,
    (kind, question): (Kind, Bytes),
) -> Result<Collected, Unavailable> {
    let line = peers.line(peer, urls, Purpose::Control);
    let message = wire::CollectRequest {
        term,
        leader: leader.0,
        ask: Some(bytes(kind, question)),
    };
    let asked = async {
        let call = line.request(message);
        let mut incoming = line.client()?.collect(call).await?.into_inner();
        let first = incoming.message().await?;
        let first = first.ok_or_else(|| Status::unavailable("the peer sent no page"))?;
        let received = Moment::now();
        let mut pages = vec![first.body];
        while let Some(page) = incoming.message().await? {
            pages.push(page.body);
        }
        Ok::<_, Status>(Collected { received, pages })
    };
    let asked = tokio::time::timeout(COLLECT_MAX, asked).await;
    let asked = asked.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")));
    asked.map_err(|status| {
        line.failed(&status);
        Unavailable::LeaderChanged
    })
}

/// The pages of an answer to a new leader.
pub(super) fn pages(
    kind: Kind,
    pages: Pages,
) -> BoxStream<'static, Result<wire::Sideband, Status>> {
    futures::stream::iter(pages.map(move |body| Ok(bytes(kind, body)))).boxed()
}
