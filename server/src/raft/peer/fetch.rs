//! A member that lost its state but not its log takes another member's: all that any member has applied is committed.

use coord_proto::peer as wire;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use tonic::Status;

use super::handshake::CallStamp;
use super::join::{AskError, Asker, JoinAnswer, ask_membership};
use super::snapshot::{self, Failed};
use super::{MESSAGE_BYTES_MAX, line};
use crate::command::{Fault, MemberId};
use crate::network::Network;
use crate::offload::Offload;
use crate::raft::types;
use crate::state::{self, FEATURE_LEVEL, InstallReady, StatePlace};
use crate::wal::{Ends, Identity, Payload, Wal};

/// This member's state as it is, if it reaches `at_least`.
pub(super) fn answer(
    from: MemberId,
    (state, offload): (&state::Handle, Offload),
    at_least: u64,
) -> Result<BoxStream<'static, Result<wire::FetchResponse, Status>>, Status> {
    let reader = state.with(|state| {
        let applied = state.applied().map_or(0, |applied| applied.index);
        if applied < at_least {
            return Err(Status::failed_precondition(format!(
                "this member has only applied {applied} entries itself"
            )));
        }
        Ok(Box::new(state.begin_snapshot()))
    })?;
    tracing::info!(peer = %from, position = ?reader.position(), "sending the state");
    let failed = Failed::default();
    let chunks = snapshot::chunks(reader, state.clone(), offload, failed.clone());
    let chunks = chunks.map(|chunk| Ok(wire::FetchResponse { chunk }));
    let end = futures::stream::once(async move { failed.log(from) });
    let end = end.filter_map(|()| std::future::ready(None));
    Ok(chunks.chain(end).boxed())
}

/// Where the other members are, by the newest membership that the log still has.
///
/// Errors: a log that cannot be read.
pub fn places_in_log(wal: &Wal) -> Result<Vec<String>, Fault> {
    const TURN_BYTES: usize = 1 << 20;
    let Ends { purged, last } = wal.ends();
    let mut next = purged.map_or(0, |purged| purged.index + 1);
    let end = last.map_or(0, |last| last.index + 1);
    let mut newest = None;
    while next < end {
        let entries = wal.read(next, end, TURN_BYTES)?;
        let Some(last) = entries.last() else { break };
        next = last.position.index + 1;
        let members = entries.into_iter().filter_map(|entry| match entry.payload {
            Payload::Membership(members) => Some(members),
            Payload::Blank | Payload::Proposals(_) => None,
        });
        newest = members.last().or(newest);
    }
    let Some(members) = newest.and_then(|bytes| types::decode_members(&bytes).ok()) else {
        return Ok(Vec::new());
    };
    let own = wal.identity().member.0;
    let others = members.nodes().filter(|(id, _)| **id != own);
    Ok(others
        .flat_map(|(_, place)| place.peer_urls.clone())
        .collect())
}

/// Asks the members that are known at `places`, one after the other, for their state, until one has sent it.
/// `place` is where the state lives.
///
/// Errors: `Refused` if `own` is no longer a member; `Unreachable` if nobody sent one now.
pub async fn fetch_state(
    network: &Network,
    places: &[String],
    own: &Identity,
    at_least: u64,
    place: &StatePlace,
    offload: Offload,
) -> Result<InstallReady, AskError> {
    let asker = Asker::Member(own.member);
    let settles = |answer: &JoinAnswer| answer.own.is_some() || answer.is_current;
    let known = ask_membership(network, places, &own.token, asker, settles).await?;
    if known.cluster != own.cluster {
        return Err(AskError::Refused(format!(
            "the members there are of cluster {}, this one is of cluster {}",
            known.cluster, own.cluster
        )));
    }
    match (known.own, known.is_current) {
        (Some(_), _) => {}
        (None, true) => {
            return Err(AskError::Refused(format!(
                "this member ({}) was removed from its cluster",
                own.member
            )));
        }
        // It may not have heard yet that this member was added.
        (None, false) => {
            return Err(AskError::Unreachable(
                "who answers does not know this member, and has no leader now".to_owned(),
            ));
        }
    }
    let stamp = CallStamp {
        cluster: own.cluster,
        member: own.member,
        incarnation: own.incarnation,
        level_max: FEATURE_LEVEL,
    };
    let mut why = "there is no other member".to_owned();
    for (member, urls, _) in known.members {
        if member == own.member {
            continue;
        }
        for url in urls {
            match fetch_from(network, &url, member, &stamp, at_least, place, offload).await {
                Ok(ready) => return Ok(ready),
                Err(status) => why = format!("{url}: {}", status.message()),
            }
        }
    }
    Err(AskError::Unreachable(why))
}

async fn fetch_from(
    network: &Network,
    url: &str,
    member: MemberId,
    stamp: &CallStamp,
    at_least: u64,
    place: &StatePlace,
    offload: Offload,
) -> Result<InstallReady, Status> {
    let mut client = line::client(network, url)?.max_decoding_message_size(MESSAGE_BYTES_MAX);
    let request = stamp.request(member, None, wire::FetchRequest { at_least });
    let answer = client.fetch(request).await?.into_inner();
    tracing::info!(peer = %member, "receiving the state");
    let chunks = answer.map_ok(|message| message.chunk);
    snapshot::receive(place.clone(), offload, chunks).await
}
