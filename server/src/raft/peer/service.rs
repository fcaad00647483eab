//! This member's answers to its peers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use coord_proto::peer as wire;
use coord_proto::peer::peer_server::Peer;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use prost::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::append::REFUSES;
use super::handshake::{self, CallStamp};
use super::snapshot::Receiving;
use super::{convert, fetch, sideband};
use crate::clock::Moment;
use crate::command::{MemberId, Unavailable, codec};
use crate::metrics::{PeerTraffic, metrics};
use crate::raft::agreement::Agreement;
use crate::raft::core::Core;
use crate::raft::leadership::Leadership;
use crate::raft::membership::{Listed, Membership};
use crate::raft::propose::{Forwarded, Gather};
use crate::raft::read_index::ReadRounds;
use crate::raft::remembered::{self, Remembered};
use crate::raft::sideband::{Kind, Sideband};
use crate::raft::types::{self, TypeConfig};
use crate::state;
use crate::tls::ClientCertificate;
use crate::wal::{self, Wal};
use wire::forward_request::Ask;
use wire::forward_response::Answer;

/// Questions of one stream that may be under way: a member has one round of reads and one of renewals.
const ASKS_MAX: usize = 64;
/// Answers that wait until the member reads them: as many questions, and two batches of proposals, with room to spare.
const ANSWERS_MAX: usize = 2 * ASKS_MAX;
/// Cost of a batch of proposals beside its bytes, or any number of empty ones would fit.
const BATCH_BYTES: usize = 256;

/// When the leader that this member follows was last heard, with a quorum behind it as far as it knew.
#[derive(Clone)]
pub(in crate::raft) struct Heard(Arc<Mutex<Moment>>);

impl Heard {
    pub(in crate::raft) fn now() -> Self {
        Self(Arc::new(Mutex::new(Moment::now())))
    }

    fn touch(&self) {
        *self
            .0
            .lock()
            .expect("nothing panics while it holds the lock") = Moment::now();
    }

    /// When.
    pub(in crate::raft) fn last(&self) -> Moment {
        *self
            .0
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// How long ago.
    pub(in crate::raft) fn ago(&self) -> Duration {
        Moment::now().since(self.last())
    }
}

/// The peer service. Clones share all.
#[derive(Clone)]
pub(in crate::raft) struct Service {
    pub(in crate::raft) stamp: CallStamp,
    pub(in crate::raft) token: String,
    pub(in crate::raft) receiving: Receiving,
    pub(in crate::raft) core: Core,
    pub(in crate::raft) state: state::Handle,
    pub(in crate::raft) gather: Arc<Gather>,
    pub(in crate::raft) rounds: ReadRounds,
    pub(in crate::raft) sideband: Sideband,
    pub(in crate::raft) membership: Membership,
    pub(in crate::raft) heard: Heard,
    /// The leader, while there are signs of it.
    pub(in crate::raft) contact: watch::Receiver<Leadership>,
    pub(in crate::raft) agreement: Agreement,
    pub(in crate::raft) remembered: Remembered,
    pub(in crate::raft) wal: Wal,
}

/// Counts a message that makes no sense.
fn counted<T>(read: Result<T, Status>) -> Result<T, Status> {
    read.inspect_err(|status| handshake::refused(status.message()))
}

/// Whether the one who asked is the leader that this member follows, whatever its log lacks.
fn is_followed(answer: &StreamAppendResult<TypeConfig>) -> bool {
    match answer {
        Ok(_) | Err(StreamAppendError::Conflict(_)) => true,
        Err(StreamAppendError::HigherVote(_)) => false,
    }
}

/// This member's answer to a leader whose log cannot be the one that it has applied.
fn refuses() -> Status {
    let why = "this member has applied entries that are not of its leader's log, and ends";
    let mut headers = tonic::metadata::MetadataMap::new();
    headers.insert(REFUSES, tonic::metadata::MetadataValue::from_static("1"));
    Status::with_metadata(tonic::Code::FailedPrecondition, why, headers)
}

type Answers<T> = BoxStream<'static, Result<T, Status>>;

impl Service {
    fn caller<T>(&self, request: &Request<T>) -> Result<MemberId, Status> {
        let from = self.stamp.check(request.metadata(), &self.state)?;
        if request
            .extensions()
            .get::<Arc<ClientCertificate>>()
            .is_some()
        {
            let members = self.membership.effective();
            let urls = members.into_iter().find(|(id, ..)| *id == from);
            handshake::certify(request, &urls.map(|(_, urls, _)| urls).unwrap_or_default())?;
        }
        Ok(from)
    }

    /// The caller, if it is none that was removed: such a one may not know yet, and neither leads nor votes here.
    fn member<T>(&self, request: &Request<T>) -> Result<MemberId, Status> {
        let from = self.caller(request)?;
        if self.membership.has_removed(from, None) {
            let why = format!("member {from} was removed from this cluster");
            handshake::refused(&why);
            return Err(Status::failed_precondition(why));
        }
        Ok(from)
    }

    /// Refuses what a leader sends that lacks something that is committed here; ends this member then.
    fn may_follow(&self, request: &AppendEntriesRequest<TypeConfig>) -> Result<(), Status> {
        let Some(committed) = self.wal.committed() else {
            return Ok(());
        };
        // A leader that was replaced may well lack it, and openraft refuses that one by its vote.
        let leadership = |vote: wal::Vote| (vote.term, vote.leader);
        let theirs = leadership(types::wal_vote(&request.vote));
        if Some(theirs) < self.wal.vote().map(leadership) {
            return Ok(());
        }
        let previous = request.prev_log_id.as_ref().map(types::position);
        let is_beyond = previous.is_some_and(|previous| previous.index >= committed.index);
        let entries = request.entries.iter().filter(|_| !is_beyond);
        let entries = entries.map(|entry| types::position(&entry.log_id));
        if previous
            .into_iter()
            .chain(entries)
            .all(|theirs| self.agreement.may_follow(committed, theirs))
        {
            return Ok(());
        }
        Err(refuses())
    }

    /// One message of a member's stream.
    fn forwarded(
        &self,
        from: MemberId,
        request: wire::ForwardRequest,
        turn: OwnedSemaphorePermit,
        answers: &mpsc::Sender<Result<wire::ForwardResponse, Status>>,
        refused: &mpsc::Sender<(u64, Unavailable)>,
    ) -> Result<(), Status> {
        let number = request.number;
        let answers = answers.clone();
        let reply = move |answer: Result<Answer, Unavailable>| {
            let answer =
                answer.unwrap_or_else(|why| Answer::Refused(convert::unavailable(why).into()));
            // The member may be gone, or read nothing of what it is told.
            let _ = answers.try_send(Ok(wire::ForwardResponse {
                number,
                answer: Some(answer),
            }));
            drop(turn);
        };
        match request.ask {
            Some(Ask::Proposals(wire::Proposals {
                term,
                leader,
                envelope,
            })) => {
                let bytes = BATCH_BYTES + envelope.len();
                let envelope = codec::decode_envelope(&envelope)
                    .map_err(|why| Status::invalid_argument(why.to_string()))?;
                if envelope
                    .proposals
                    .iter()
                    .any(|proposal| proposal.origin != from)
                {
                    return Err(Status::invalid_argument(
                        "a member may only forward its own proposals",
                    ));
                }
                self.gather.push_forwarded(Forwarded {
                    to: (term, MemberId(leader)),
                    proposals: envelope.proposals,
                    bytes,
                    refused: refused.clone(),
                    number,
                });
            }
            Some(Ask::ReadIndex(wire::ReadIndex {})) => {
                let rounds = self.rounds.clone();
                tokio::spawn(async move { reply(rounds.index().await.map(Answer::ReadIndex)) });
            }
            Some(Ask::Sideband(wire::Sideband { kind, body, .. })) => {
                let (room, kind) = (self.sideband.clone(), Kind(kind));
                tokio::spawn(async move {
                    let said = room.ask_here(kind, body).await;
                    reply(said.map(|body| Answer::Sideband(sideband::bytes(kind, body))));
                });
            }
            None => {
                return Err(Status::invalid_argument(
                    "the message asks for nothing known",
                ));
            }
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Peer for Service {
    type AppendStream = Answers<wire::AppendResponse>;
    type HeartbeatStream = Answers<wire::AppendResponse>;
    type CollectStream = Answers<wire::Sideband>;
    type ForwardStream = Answers<wire::ForwardResponse>;
    type FetchStream = Answers<wire::FetchResponse>;

    async fn append(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let from = self.member(&request)?;
        let heard = self.heard.clone();
        let this = self.clone();
        let PeerTraffic {
            sent_bytes,
            received_bytes,
            ..
        } = metrics().peers.with(&from.to_string());
        // A message that cannot be read ends the call; the leader starts anew from what is acknowledged.
        let requests = request.into_inner().scan((), move |(), message| {
            let read = message
                .inspect(|message| received_bytes.inc_by(message.encoded_len() as u64))
                .and_then(|message| counted(convert::read_append(message)))
                .and_then(|request| this.may_follow(&request).map(|()| request));
            let read = read.inspect_err(|status| tracing::debug!(%status, "an append call ended"));
            std::future::ready(read.ok())
        });
        let mut number = 0;
        let answers = self.core.stream_append(requests).map(move |result| {
            number += 1;
            let result = result.map_err(|fatal| Status::unavailable(fatal.to_string()))?;
            if is_followed(&result) {
                heard.touch();
            }
            let answer = convert::appended(result, number);
            sent_bytes.inc_by(answer.encoded_len() as u64);
            Ok(answer)
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn heartbeat(
        &self,
        request: Request<Streaming<wire::AppendRequest>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        let from = self.member(&request)?;
        let (core, heard) = (self.core.clone(), self.heard.clone());
        let remembered = self.remembered.clone();
        let this = Arc::new(self.clone());
        let PeerTraffic {
            sent_bytes,
            received_bytes,
            ..
        } = metrics().peers.with(&from.to_string());
        let requests = request.into_inner();
        let requests =
            requests.inspect_ok(move |message| received_bytes.inc_by(message.encoded_len() as u64));
        let answers = requests.then(move |message| {
            let (core, heard) = (core.clone(), heard.clone());
            let (this, remembered) = (this.clone(), remembered.clone());
            async move {
                let mut message = message?;
                let (number, has_quorum) = (message.number, !message.without_quorum);
                let leadership = counted(convert::leadership(&message))?;
                let carried = message.sideband.take();
                let (applied, durable) = (message.applied.take(), message.durable);
                let committed = message.committed.as_ref().map(convert::log_position);
                let request = counted(convert::read_append(message))?;
                this.may_follow(&request)?;
                let (previous, last) = (
                    request.prev_log_id,
                    request.entries.last().map(|entry| entry.log_id),
                );
                let answer = core.append_entries(request).await;
                let answer = answer.map_err(|error| Status::unavailable(error.to_string()))?;
                let answer = answer.into_stream_result(previous, last.or(previous));
                if has_quorum && is_followed(&answer) {
                    heard.touch();
                }
                let is_taken = answer.is_ok();
                let mut response = convert::appended(answer, number);
                // Two commits are facts, from any teller.
                if let Some(committed) = committed
                    && !this.agreement.committed(committed)
                {
                    return Err(refuses());
                }
                if is_taken && leadership.1 == from {
                    // A leader counts itself among those who have an entry as soon as it is on its own disk.
                    match durable.checked_sub(1) {
                        Some(last) => remembered.acknowledged(from, leadership, last),
                        None => remembered.voted(from, leadership),
                    }
                }
                if let Some(applied) = applied.filter(|_| is_taken) {
                    let theirs = convert::read_applied_hash(&applied);
                    let ours = this.agreement.told(leadership, theirs);
                    response.applied = ours.map(convert::applied_hash);
                }
                // Only now: this member must follow the leader whose word it takes.
                if let Some(carried) = carried.filter(|_| is_taken) {
                    let carried = sideband::read_carried(carried);
                    let kind = carried.kind;
                    let said = this.sideband.take(leadership, carried).await;
                    response.sideband = said.map(|body| sideband::bytes(kind, body));
                }
                Ok(response)
            }
        });
        let answers =
            answers.inspect_ok(move |answer| sent_bytes.inc_by(answer.encoded_len() as u64));
        Ok(Response::new(answers.boxed()))
    }

    async fn vote(
        &self,
        request: Request<wire::VoteRequest>,
    ) -> Result<Response<wire::VoteResponse>, Status> {
        let from = self.member(&request)?;
        let message = request.into_inner();
        let pre_vote = message.pre_vote;
        // A candidate votes for itself before it asks others; one that only asks whether it would be elected has not
        // yet.
        if let Some(vote) = message.vote.filter(|_| !pre_vote)
            && vote.leader == from.0
        {
            self.remembered.voted(from, (vote.term, from));
        }
        let request = counted(convert::read_vote_request(message))?;
        let response = match pre_vote {
            true => self.core.pre_vote(request).await,
            false => self.core.vote(request).await,
        };
        let response = response.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(convert::vote_response(&response)))
    }

    async fn transfer(
        &self,
        request: Request<wire::TransferRequest>,
    ) -> Result<Response<wire::TransferResponse>, Status> {
        self.member(&request)?;
        let request = counted(convert::read_transfer(request.into_inner()))?;
        let response = self.core.handle_transfer_leader(request).await;
        let response = response.map_err(|fatal| Status::unavailable(fatal.to_string()))?;
        Ok(Response::new(convert::transferred(response)))
    }

    async fn snapshot(
        &self,
        request: Request<Streaming<wire::SnapshotRequest>>,
    ) -> Result<Response<wire::SnapshotResponse>, Status> {
        self.member(&request)?;
        self.heard.touch();
        let received = self.receiving.run(&self.core, request.into_inner()).await;
        self.heard.touch();
        received.map(Response::new)
    }

    async fn forward(
        &self,
        request: Request<Streaming<wire::ForwardRequest>>,
    ) -> Result<Response<Self::ForwardStream>, Status> {
        let from = self.caller(&request)?;
        let (answers, outgoing) = mpsc::channel(ANSWERS_MAX);
        let (refused, refusals) = mpsc::channel(ANSWERS_MAX);
        let turns = Arc::new(Semaphore::new(ASKS_MAX));
        let this = self.clone();
        let mut incoming = request.into_inner();
        // Ends with the member's stream.
        tokio::spawn(async move {
            loop {
                let message = match incoming.message().await {
                    Ok(Some(message)) => message,
                    Ok(None) => return,
                    Err(status) => {
                        // The receiver may have gone with the call.
                        let _ = answers.try_send(Err(status));
                        return;
                    }
                };
                let turn = turns.clone().acquire_owned().await;
                let turn = turn.expect("nobody closes it");
                let taken = this.forwarded(from, message, turn, &answers, &refused);
                if let Err(status) = counted(taken) {
                    let _ = answers.try_send(Err(status));
                    return;
                }
            }
        });
        let refusals = ReceiverStream::new(refusals).map(|(number, why)| {
            let answer = Answer::Refused(convert::unavailable(why).into());
            Ok(wire::ForwardResponse {
                number,
                answer: Some(answer),
            })
        });
        let answers = futures::stream::select(ReceiverStream::new(outgoing), refusals);
        Ok(Response::new(answers.boxed()))
    }

    async fn change(
        &self,
        request: Request<wire::ChangeRequest>,
    ) -> Result<Response<wire::ChangeResponse>, Status> {
        self.caller(&request)?;
        let change = counted(convert::read_change(request.into_inner()))?;
        let result = self.membership.change_here(change).await;
        Ok(Response::new(convert::changed(result)))
    }

    async fn collect(
        &self,
        request: Request<wire::CollectRequest>,
    ) -> Result<Response<Self::CollectStream>, Status> {
        let from = self.caller(&request)?;
        let wire::CollectRequest { term, leader, ask } = request.into_inner();
        if MemberId(leader) != from {
            return Err(Status::invalid_argument("only a leader may ask for itself"));
        }
        let ask = ask.ok_or_else(|| Status::invalid_argument("the message asks nothing"))?;
        let (room, kind) = (&self.sideband, Kind(ask.kind));
        let pages = room.collect_here((term, from), kind, ask.body).await;
        let pages = pages.map_err(|why| Status::unavailable(why.to_string()))?;
        Ok(Response::new(sideband::pages(kind, pages)))
    }

    async fn confirm(
        &self,
        request: Request<wire::ConfirmRequest>,
    ) -> Result<Response<wire::ConfirmResponse>, Status> {
        let from = self.caller(&request)?;
        let known = request
            .into_inner()
            .membership
            .as_ref()
            .map(convert::log_position);
        let removed = self.membership.has_removed(from, known);
        Ok(Response::new(wire::ConfirmResponse { removed }))
    }

    async fn remember(
        &self,
        request: Request<wire::RememberRequest>,
    ) -> Result<Response<wire::RememberResponse>, Status> {
        let from = self.caller(&request)?;
        let answer = remembered::Answer {
            memory: self.remembered.of(from),
            committed: self.agreement.newest_position(),
        };
        Ok(Response::new(convert::remembered(answer)))
    }

    async fn fetch(
        &self,
        request: Request<wire::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let from = self.caller(&request)?;
        let state = (&self.state, self.receiving.offload());
        fetch::answer(from, state, request.into_inner().at_least).map(Response::new)
    }

    async fn join(
        &self,
        request: Request<wire::JoinRequest>,
    ) -> Result<Response<wire::JoinResponse>, Status> {
        if request.get_ref().member == 0 {
            handshake::certify(&request, &request.get_ref().peer_urls)?;
        }
        let wire::JoinRequest {
            token,
            peer_urls,
            member,
        } = request.into_inner();
        if token != self.token {
            return counted(Err(Status::permission_denied(
                "this is a cluster with another --initial-cluster-token",
            )));
        }
        let is_own = |(id, urls, _): &&Listed| {
            id.0 == member || urls.iter().any(|url| peer_urls.contains(url))
        };
        let members = self.membership.effective();
        if members.is_empty() {
            return Err(Status::unavailable(
                "this member is not part of a cluster yet",
            ));
        }
        let is_known = member != 0 || members.iter().any(|listed| is_own(&listed));
        // Whether the asker has run before decides whether it may run now, so this member must not be behind. Without a
        // leader in contact it says what it knows: the founders of a cluster ask before there is one, and a cluster that
        // has lost its quorum may need just this member.
        let current = is_known && self.contact.borrow().leader.is_some();
        if current {
            let reached = self.rounds.barrier().await;
            reached.map_err(|why| Status::unavailable(why.to_string()))?;
        }
        let members = self.membership.effective();
        let own = members.iter().find(is_own);
        let (started, level) = self
            .state
            .with(|state| (state.members(), state.feature_level()));
        Ok(Response::new(wire::JoinResponse {
            cluster: self.stamp.cluster.0,
            own: own.map_or(0, |(id, ..)| id.0),
            level,
            current,
            members: members
                .iter()
                .map(|(id, urls, learner)| wire::JoinMember {
                    id: id.0,
                    peer_urls: urls.clone(),
                    learner: *learner,
                    started: started.iter().any(|member| member.id == *id),
                })
                .collect(),
        }))
    }
}
