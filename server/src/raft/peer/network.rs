//! openraft's network over our lines.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::sync::watch;
use tonic::{Code, Status};

use super::append::{self, Beside, Heartbeats};
use super::line::{Line, Peers, Purpose};
use super::{convert, snapshot};
use crate::command::MemberId;
use crate::offload::Offload;
use crate::raft::agreement::Agreement;
use crate::raft::leadership::Leadership;
use crate::raft::remembered::Remembered;
use crate::raft::sideband::Outbox;
use crate::raft::storage::{Sending, Snapshot, SnapshotData};
use crate::raft::types::{self, Place, TypeConfig, Vote};
use crate::state;
use crate::wal::Wal;

type RpcError = RPCError<TypeConfig>;
/// Pauses between attempts to open a stream to a peer that is not there; they double.
const RETRY_MIN: Duration = Duration::from_millis(10);
const RETRY_MAX: Duration = Duration::from_millis(500);

type Answer = Result<StreamAppendResult<TypeConfig>, RpcError>;

/// Makes a client for each peer and purpose.
#[derive(Clone)]
pub(in crate::raft) struct Network {
    pub(in crate::raft) peers: Peers,
    pub(in crate::raft) sending: Sending,
    pub(in crate::raft) state: state::Handle,
    /// Where work that waits for a disk is done.
    pub(in crate::raft) offload: Offload,
    /// How long a peer may leave an append unanswered.
    pub(in crate::raft) patience: Duration,
    /// The bytes that heartbeats carry for other rooms.
    pub(in crate::raft) outbox: Outbox,
    /// Whether a quorum answers this member while it leads: heartbeats say it.
    pub(in crate::raft) contact: watch::Receiver<Leadership>,
    /// The hash of what was applied here, for heartbeats to say.
    pub(in crate::raft) agreement: Agreement,
    /// Where votes and acknowledgements are noted.
    pub(in crate::raft) remembered: Remembered,
    /// This member's log.
    pub(in crate::raft) wal: Wal,
}

impl Network {
    /// openraft keeps it as long as it leads; its connections follow the membership.
    fn client(&self, target: u64, node: &Place, purpose: Purpose) -> Client {
        let line = |purpose| {
            let (to, urls) = (MemberId(target), &node.peer_urls);
            self.peers.line_made_at(to, urls, purpose)
        };
        Client {
            line: line(purpose),
            control: line(Purpose::Control),
            heartbeats: (purpose == Purpose::Control).then(Heartbeats::default),
            state: self.state.clone(),
            offload: self.offload,
            patience: self.patience,
            outbox: self.outbox.clone(),
            contact: self.contact.clone(),
            agreement: self.agreement.clone(),
            remembered: self.remembered.clone(),
            wal: self.wal.clone(),
            sending: self.sending.clone(),
            pause: RETRY_MIN,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: u64, node: &Place) -> Client {
        self.client(target, node, Purpose::Log)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Place) -> Client {
        self.client(target, node, Purpose::Control)
    }

    async fn new_snapshot_client(&mut self, target: u64, node: &Place) -> Client {
        self.client(target, node, Purpose::Snapshot)
    }
}

/// One peer, for one purpose.
pub(in crate::raft) struct Client {
    line: Arc<Line>,
    /// For short questions, whatever else this client is for.
    control: Arc<Line>,
    heartbeats: Option<Heartbeats>,
    state: state::Handle,
    offload: Offload,
    patience: Duration,
    outbox: Outbox,
    contact: watch::Receiver<Leadership>,
    agreement: Agreement,
    remembered: Remembered,
    wal: Wal,
    sending: Sending,
    /// How long the next failure to open a stream waits before it is told.
    pause: Duration,
}

/// The error that openraft is told for a failed call: a peer that is not there, or refuses, is given time.
fn error(line: &Line, status: &Status) -> RpcError {
    line.failed(status);
    let text = format!("member {}: {}", line.to, status.message());
    match status.code() {
        Code::DeadlineExceeded | Code::Cancelled => NetworkError::from_string(text).into(),
        _ => Unreachable::from_string(text).into(),
    }
}

async fn in_time<T>(
    line: &Line,
    option: &RPCOption,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, RpcError> {
    let late = || Err(Status::deadline_exceeded("no answer in time"));
    let result = tokio::time::timeout(option.hard_ttl(), call)
        .await
        .unwrap_or_else(|_| late());
    result.map_err(|status| error(line, &status))
}

impl Client {
    async fn ask_vote(
        &self,
        request: &VoteRequest<TypeConfig>,
        pre_vote: bool,
        option: &RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let message = convert::vote_request(request, pre_vote);
        let line = &self.control;
        let response = in_time(line, option, async {
            let call = line.request(message);
            let response = line.client()?.vote(call).await?;
            convert::read_vote_response(response.into_inner())
        })
        .await?;
        if response.vote_granted && !pre_vote {
            let vote = types::wal_vote(&request.vote);
            self.remembered.voted(line.to, (vote.term, vote.leader));
        }
        Ok(response)
    }
}

impl NetBackoff<TypeConfig> for Client {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetStreamAppend<TypeConfig> for Client {
    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Answer>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let Self {
            line,
            heartbeats,
            patience,
            outbox,
            contact,
            agreement,
            remembered,
            wal,
            pause,
            ..
        } = self;
        Box::pin(async move {
            if let Some(heartbeats) = heartbeats {
                let Some(request) = input.next().await else {
                    return Ok(futures::stream::empty().boxed());
                };
                let has_quorum = contact.borrow().leader.is_some();
                let beside = Beside {
                    outbox,
                    agreement,
                    remembered,
                    wal,
                };
                let asked = heartbeats.ask(line, request, beside, has_quorum, *patience);
                let answer = in_time(line, &option, asked).await;
                return Ok(futures::stream::iter([answer]).boxed());
            }
            let line: &Line = line;
            match append::stream(line, input, *patience, remembered.clone()).await {
                Ok(answers) => {
                    *pause = RETRY_MIN;
                    let answers =
                        answers.map(|answer| answer.map_err(|status| error(line, &status)));
                    Ok(answers.boxed())
                }
                Err(status) => {
                    // openraft pauses where it makes the first request, and without a stream none is made: it would
                    // try a thousand times a second for as long as the peer is away.
                    tokio::time::sleep(*pause).await;
                    *pause = (*pause * 2).min(RETRY_MAX);
                    Err(error(line, &status))
                }
            }
        })
    }
}

impl NetVote<TypeConfig> for Client {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(&request, false, &option).await
    }

    // openraft's default grants; a peer that cannot be reached must not count as one that would vote for us.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_vote(&request, true, &option).await
    }
}

impl NetSnapshot<TypeConfig> for Client {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let state = (&self.state, self.offload);
        let sent = snapshot::send(&self.line, state, &self.sending, vote, snapshot);
        tokio::select! {
            closed = cancel => Err(closed.into()),
            result = sent => result.map_err(|status| error(&self.line, &status).into()),
        }
    }
}

impl NetTransferLeader<TypeConfig> for Client {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let message = convert::transfer(&request);
        let line = &self.control;
        in_time(line, &option, async {
            let call = line.request(message);
            let response = line.client()?.transfer(call).await?;
            convert::read_transferred(response.into_inner(), &request)
        })
        .await
    }
}
