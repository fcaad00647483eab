//! A member's Raft, as the rest of the server holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper_util::service::TowerToHyperService;
use openraft::RaftMetrics;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use tokio::sync::watch;

use super::agreement::Agreement;
use super::applied::AppliedMark;
use super::core::Core;
use super::leadership::Leadership;
use super::membership::{ChangeError, MemberChange, Membership};
use super::peer::{self, Peers, Server, Service};
use super::propose::Proposer;
use super::read_index::ReadRounds;
use super::removal::say;
use super::sideband::{Collected, Kind, Outbox, Sideband};
use super::types::{Place, Stored, TypeConfig};
use crate::command::{
    Command, Fault, LeaderKey, MemberId, MemberRefusal, Outcome, Principal, Unavailable,
};
use crate::metrics::{PendingProposal, metrics};
use crate::state::Answer;

/// How a member stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Raft term.
    pub term: u64,
    /// The leader, if one is in contact.
    pub leader: Option<MemberId>,
    /// Whether it is this member.
    pub is_leader: bool,
    /// Whether this member has no vote.
    pub is_learner: bool,
    /// Last index known to be committed.
    pub committed_index: u64,
    /// Last index that readers can see here.
    pub applied_index: u64,
    /// Last index in the log.
    pub last_index: u64,
}

/// A member's Raft. Clones share it.
#[derive(Clone)]
pub struct Raft {
    pub(super) core: Core,
    pub(super) proposer: Proposer,
    pub(super) rounds: ReadRounds,
    pub(super) sideband: Sideband,
    pub(super) outbox: Outbox,
    pub(super) membership: Membership,
    pub(super) peers: Peers,
    pub(super) service: Service,
    pub(super) applied: AppliedMark,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) contact: watch::Receiver<Leadership>,
    /// openraft's word about this member; kept, because even asking for it costs something.
    pub(super) metrics: WatchReceiverOf<TypeConfig, RaftMetrics<TypeConfig>>,
    pub(super) agreement: Agreement,
    pub(super) stop: watch::Sender<Option<String>>,
    pub(super) _tasks: Arc<Tasks>,
    pub(super) election: Duration,
}

/// The tasks of this room; they end with the last handle.
pub(super) struct Tasks(pub(super) Vec<tokio::task::JoinHandle<()>>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

impl Raft {
    /// Forms a cluster of these voters. Every initial member calls it with the same ones; a member that is already in a
    /// cluster does nothing.
    pub async fn initialize(
        &self,
        members: Vec<(MemberId, Vec<String>)>,
    ) -> Result<(), Unavailable> {
        let members = members
            .into_iter()
            .map(|(id, urls)| (id.0, Place::at(urls)));
        let members: BTreeMap<u64, Place> = members.collect();
        match self.core.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => {
                tracing::error!(%error, "the cluster cannot be formed");
                Err(Unavailable::Stopped)
            }
        }
    }

    /// Proposes a command of the cluster itself; resolves when this member has applied it and readers of this member can see it.
    ///
    /// Errors: `TooManyRequests` if it was not proposed; any other: its outcome is unknown, and it must not be proposed
    /// again on the client's behalf. Waits for a leader as long as the caller does.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Unavailable> {
        let answer = self.submit(Principal::System, command).await?;
        let finished = self.membership.state.with(|state| state.finish(answer));
        finished.map_err(|fault| {
            self.stop_on_fault(fault.to_string());
            Unavailable::Stopped
        })
    }

    /// As [`propose`](Self::propose), for a principal, and with an answer that may be long: the rest of it is for the
    /// caller to read. A command above the cluster's feature level is refused.
    pub async fn submit(
        &self,
        principal: Principal,
        command: Command,
    ) -> Result<Answer, Unavailable> {
        // The leader that writes it has a level that is no lower: it never falls.
        let state = &self.membership.state;
        let (level, revision) = state.with(|state| (state.feature_level(), state.revision()));
        if let Err(refusal) = command.may_be_written(level) {
            return Ok(Answer::Done(Outcome {
                revision,
                result: Err(refusal.into()),
            }));
        }
        let _pending = PendingProposal::begin();
        let answer = self.proposer.propose(principal, command).await;
        if answer.is_err() {
            metrics().proposals_failed.inc();
        }
        answer
    }

    /// The largest command that can be proposed, as
    /// [`codec::proposal_bytes`](crate::command::codec::proposal_bytes) counts.
    pub fn proposal_bytes_max(&self) -> usize {
        self.proposer.proposal_bytes_max()
    }

    /// Resolves when everything that was committed before the call can be read on this member.
    pub async fn read_barrier(&self) -> Result<(), Unavailable> {
        self.rounds.barrier().await
    }

    /// Asks the room of this kind on the leader, which may be this member; nothing of it enters the log.
    ///
    /// Errors: that room's; `LeaderChanged` if it did not answer, and nobody knows what it did.
    pub async fn ask_leader(&self, kind: Kind, question: Bytes) -> Result<Bytes, Unavailable> {
        self.sideband.ask(kind, question).await
    }

    /// The bytes that this member's heartbeats carry for other rooms while it leads.
    pub fn outbox(&self) -> Outbox {
        self.outbox.clone()
    }

    /// The feature level of the cluster, as this member has applied it.
    pub fn feature_level(&self) -> u32 {
        self.membership.state.feature_level()
    }

    /// Asks the room of this kind on another member, as the leader that it follows.
    pub async fn collect(
        &self,
        member: MemberId,
        leadership: LeaderKey,
        kind: Kind,
        question: Bytes,
    ) -> Result<Collected, Unavailable> {
        let (peers, urls) = (&self.peers, self.membership.urls(member));
        peer::sideband::collect(peers, member, &urls, leadership, (kind, question)).await
    }

    /// All other members in effect, learners too.
    pub fn others(&self) -> Vec<MemberId> {
        let members = self.membership.effective().into_iter();
        let members = members.map(|(id, ..)| id);
        members.filter(|id| *id != self.peers.own()).collect()
    }

    /// The voters in effect: one set, or two while they change.
    pub fn voters(&self) -> Vec<BTreeSet<MemberId>> {
        self.membership.voters()
    }

    /// Last index that readers can see here.
    pub fn applied_index(&self) -> u64 {
        self.applied.index().unwrap_or(0)
    }

    /// How this member stands.
    pub fn status(&self) -> Status {
        let leadership = *self.contact.borrow();
        let metrics = self.core.metrics();
        let metrics = metrics.borrow_watched();
        Status {
            term: metrics.current_term,
            leader: leadership.leader,
            is_leader: leadership.is_self,
            is_learner: is_learner(metrics.id, &metrics.membership_config),
            committed_index: metrics.local_committed.as_ref().map_or(0, |at| at.index),
            applied_index: self.applied_index(),
            last_index: metrics.last_log_index.unwrap_or(0),
        }
    }

    /// Raft's current term. Asked for every reply, so cheaper than [`Raft::status`].
    pub fn term(&self) -> u64 {
        self.metrics.borrow_watched().current_term
    }

    /// Whether this member has no vote. Asked for every request.
    pub fn is_learner(&self) -> bool {
        let metrics = self.metrics.borrow_watched();
        is_learner(metrics.id, &metrics.membership_config)
    }

    /// The leader and every change of it, for those that clients ask: there is none while this member hears nothing of
    /// its leader, or a leader of its quorum, for an election timeout.
    pub fn contact(&self) -> watch::Receiver<Leadership> {
        self.contact.clone()
    }

    /// The leader by Raft's last word, and every change of it.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.clone()
    }

    /// The newest membership that this member has applied: id, peer URLs, whether a learner.
    ///
    /// Errors: damage of the state.
    pub fn members(&self) -> Result<Vec<(MemberId, Vec<String>, bool)>, Fault> {
        self.membership.applied()
    }

    /// Changes the membership, through the leader; resolves when the change is committed.
    pub async fn change(&self, change: MemberChange) -> Result<(), ChangeError> {
        // A leader without a quorum says at once that it cannot.
        if self.leadership.borrow().is_self {
            return self.membership.change_here(change).await;
        }
        let mut contact = self.contact.clone();
        let now = contact.wait_for(|now| now.leader.is_some()).await;
        let now = *now.map_err(|_| Unavailable::Stopped)?;
        match now.leader {
            Some(leader) if !now.is_self => {
                let urls = self.membership.urls(leader);
                peer::ask::change(&self.peers, leader, &urls, change).await
            }
            _ => self.membership.change_here(change).await,
        }
    }

    /// Hands leadership over; resolves when another member leads. Only on the leader.
    ///
    /// openraft stops serving as soon as a transfer starts and never takes it back, so only a voter that answers and has
    /// caught up is accepted. If it still does not take over, this member ends itself: the others elect without it.
    pub async fn transfer_leader(&self, to: MemberId) -> Result<(), ChangeError> {
        let before = *self.leadership.borrow();
        if !before.is_self {
            return Err(MemberRefusal::NotLeader.into());
        }
        if before.leader == Some(to) {
            return Ok(());
        }
        self.membership.may_lead(to)?;
        let turn = self.membership.turn().await?;
        let this = self.clone();
        // To its end even if the caller gives up: from here on somebody must see whether there is a leader again.
        let moved = tokio::spawn(async move {
            let _turn = turn;
            this.hand_over(before, to).await
        });
        moved.await.map_err(|_| Unavailable::Stopped)?
    }

    async fn hand_over(&self, before: Leadership, to: MemberId) -> Result<(), ChangeError> {
        let started = self.core.trigger().transfer_leader(to.0).await;
        started.map_err(|_| Unavailable::Stopped)?;
        let mut leadership = self.leadership.clone();
        let moved = leadership.wait_for(|now| now.leader.is_some() && now.key() != before.key());
        match tokio::time::timeout(self.election * 3, moved).await {
            Ok(Ok(now)) if now.leader == Some(to) => Ok(()),
            Ok(Ok(_)) => Err(Unavailable::LeaderChanged.into()),
            Ok(Err(_)) => Err(Unavailable::Stopped.into()),
            Err(_) => {
                self.stop_on_fault(format!(
                    "member {to} did not take over leadership, and openraft cannot take it back"
                ));
                Err(Unavailable::Timeout.into())
            }
        }
    }

    /// Resolves once this member was found to have applied what its leader has, or leads; or after `limit`, as etcd's check at the
    /// start goes on when no peer answers it.
    pub async fn agreed(&self, limit: Duration) {
        let mut leadership = self.leadership.clone();
        let compared = async {
            tokio::select! {
                () = self.agreement.agreed() => {}
                _ = leadership.wait_for(|leadership| leadership.is_self) => {}
            }
        };
        // Out of time: it goes on, and is compared with the first leader it hears.
        let _ = tokio::time::timeout(limit, compared).await;
    }

    /// Resolves with the reason when this member cannot go on: the core died, the log failed, or it was removed.
    pub fn stopped(&self) -> impl Future<Output = String> + Send + 'static {
        let mut stop = self.stop.subscribe();
        async move {
            match stop.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(_) => "Raft was closed".to_owned(),
            }
        }
    }

    /// Ends this member for a reason found elsewhere.
    pub fn stop_on_fault(&self, why: String) {
        say(&self.stop, why);
    }

    /// The service for the calls of peers, for as many connections as there are.
    pub fn peer_calls(
        &self,
    ) -> impl hyper::service::Service<
        http::Request<Incoming>,
        Response = http::Response<tonic::body::Body>,
        Error = Infallible,
        Future: Send + 'static,
    >
    + Clone
    + Send
    + Sync
    + 'static
    + use<> {
        TowerToHyperService::new(Server::new(self.service.clone()))
    }

    /// Hands leadership over if there is someone fit, then ends Raft. The caller bounds how long this may take.
    pub async fn shutdown(&self) {
        if self.leadership.borrow().is_self
            && let Some(successor) = self.membership.successor()
        {
            match self.transfer_leader(successor).await {
                Ok(()) => tracing::info!(to = %successor, "handed leadership over"),
                Err(error) => {
                    tracing::warn!(to = %successor, %error, "leadership was not handed over")
                }
            }
        }
        if let Err(error) = self.core.shutdown().await {
            tracing::warn!(%error, "Raft did not end cleanly");
        }
    }
}

/// Before the first membership is known a member is neither voter nor learner: it waits for a leader. One that awaits its
/// vote serves like a voter: its questions go to the leader.
fn is_learner(id: u64, membership: &Stored) -> bool {
    let membership = membership.membership();
    let is_voter = || {
        let mut configs = membership.get_joint_config().iter();
        configs.any(|voters| voters.contains(&id))
    };
    let place = membership.get_node(&id);
    place.is_some_and(|place| !place.awaits_vote) && !is_voter()
}
