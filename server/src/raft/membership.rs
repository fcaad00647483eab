//! The members of the cluster, and changes to them: one at a time, decided by the leader, never below quorum.
//!
//! A member that is added as a voter is a learner to Raft until it has started and caught up; then the leader gives it
//! its vote by itself ([`promotion`]). So a member that never starts, or cannot be reached, costs no quorum: etcd's second
//! member of two stops all writes until it runs. Clients see a voter from the start.

pub(super) mod promotion;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::metrics::RaftMetrics;
use tokio::sync::watch;

use super::core::Core;
use super::leadership::Leadership;
use super::peer::Peers;
use super::types::{self, Members, Place, TypeConfig};
use crate::command::{Fault, LogPosition, MemberId, MemberRefusal, Unavailable};
use crate::state;
use view::{View, quorum};

/// Learners at one time while `voting` members vote: as etcd's default, since each costs the leader a copy of everything.
///
/// A single member may have two, which can then be promoted together: of just two voters neither may be lost.
fn learners_max(voting: usize) -> usize {
    if voting == 1 { 2 } else { 1 }
}

/// How long a change may wait for an earlier one beyond two election timeouts: etcd's limit of a request.
const TURN_MAX: Duration = Duration::from_secs(5);

/// A change to the membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// Adds a member without a vote.
    AddLearner {
        /// Its id, never used before.
        id: MemberId,
        /// Where peers reach it.
        peer_urls: Vec<String>,
    },
    /// Adds a member that gets a vote as soon as it has started and caught up.
    AddVoter {
        /// Its id, never used before.
        id: MemberId,
        /// Where peers reach it.
        peer_urls: Vec<String>,
    },
    /// Gives learners that have caught up their votes, all in one joint change.
    Promote {
        /// The member.
        id: MemberId,
        /// The members that are added with it.
        with: Vec<MemberId>,
    },
    /// Removes members for good, all in one joint change.
    Remove {
        /// The member.
        id: MemberId,
        /// The others.
        with: Vec<MemberId>,
    },
    /// Replaces a member's peer URLs; voter or learner it stays.
    SetPeerUrls {
        /// The member.
        id: MemberId,
        /// Where peers reach it from now on.
        peer_urls: Vec<String>,
    },
}

impl MemberChange {
    /// The member that it is about.
    pub(super) fn id(&self) -> MemberId {
        match self {
            Self::AddLearner { id, .. }
            | Self::AddVoter { id, .. }
            | Self::Promote { id, .. }
            | Self::Remove { id, .. }
            | Self::SetPeerUrls { id, .. } => *id,
        }
    }
}

/// Why the membership, or the leader, was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It must not be done.
    #[error(transparent)]
    Refused(#[from] MemberRefusal),
    /// It cannot be done now, or nobody knows whether it was.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// A member as clients see it: id, peer URLs, whether a learner.
pub type Listed = (MemberId, Vec<String>, bool);

fn list(members: &Members) -> Vec<Listed> {
    let voters: BTreeSet<u64> = members.voter_ids().collect();
    let member = |(id, place): (&u64, &Place)| {
        let is_learner = !voters.contains(id) && !place.awaits_vote;
        (MemberId(*id), place.peer_urls.clone(), is_learner)
    };
    members.nodes().map(member).collect()
}

/// The members of a membership that stands in the log, by its bytes.
///
/// Errors: their defect.
pub fn members_of(bytes: &[u8]) -> Result<Vec<Listed>, String> {
    Ok(list(&types::decode_members(bytes)?))
}

/// The change that openraft is told to make, and whether voters that lose their vote stay as learners.
type Order = (ChangeMembers<u64, Place>, bool);

/// The membership as this member knows it. Clones share all.
#[derive(Clone)]
pub(super) struct Membership {
    pub(super) core: Core,
    pub(super) state: state::Handle,
    pub(super) leadership: watch::Receiver<Leadership>,
    /// A voter counts as connected if it was heard within this time.
    pub(super) election: Duration,
    /// Held by the change that is under way.
    pub(super) one: Arc<tokio::sync::Semaphore>,
}

impl Membership {
    fn metrics(&self) -> RaftMetrics<TypeConfig> {
        // Cloned at once: a reference would hold up the core.
        self.core.metrics().borrow_watched().clone()
    }

    /// Whether this member is one, by the membership in effect.
    fn is_member(&self) -> bool {
        let metrics = self.core.server_metrics();
        let metrics = metrics.borrow_watched();
        let members = metrics.membership_config.membership();
        members.get_node(&metrics.id).is_some()
    }

    fn members(&self) -> Members {
        let metrics = self.core.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().clone()
    }

    /// The membership in effect: id, peer URLs, whether clients see a learner.
    pub(super) fn effective(&self) -> Vec<Listed> {
        list(&self.members())
    }

    /// The newest membership that this member has applied; before there is one, the one in effect.
    pub(super) fn applied(&self) -> Result<Vec<Listed>, Fault> {
        let applied = self.state.with(|state| state.membership());
        match applied.map(types::stored).transpose()? {
            Some(applied) => Ok(list(applied.membership())),
            None => Ok(self.effective()),
        }
    }

    /// The voters in effect: one set, or two while they change.
    pub(super) fn voters(&self) -> Vec<BTreeSet<MemberId>> {
        let members = self.members();
        let configurations = members.get_joint_config().iter();
        configurations
            .map(|voters| voters.iter().copied().map(MemberId).collect())
            .collect()
    }

    /// Where a member's peers reach it; nothing if it is unknown.
    pub(super) fn urls(&self, member: MemberId) -> Vec<String> {
        self.members()
            .get_node(&member.0)
            .map(|place| place.peer_urls.clone())
            .unwrap_or_default()
    }

    /// Keeps connections where the membership in effect says that members are, until the core ends.
    pub(super) async fn keep_places(self, peers: Peers) {
        let mut metrics = self.core.server_metrics();
        loop {
            {
                let metrics = metrics.borrow_and_update();
                let members = metrics.membership_config.membership();
                peers.follow(|id| members.get_node(&id.0).map(|place| &*place.peer_urls));
            }
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Where the committed membership stands, if it has this member.
    pub(super) fn committed_with(&self, member: MemberId) -> Option<LogPosition> {
        let metrics = self.core.server_metrics();
        let metrics = metrics.borrow_watched();
        let committed = &metrics.committed_membership_config;
        committed.membership().get_node(&member.0)?;
        committed.log_id().as_ref().map(types::position)
    }

    /// Whether `member` was removed, for certain.
    ///
    /// It once ran as a member (its record is in the state), or it was in a membership older than the committed one, as it
    /// says (`known`); and neither the committed membership nor one in effect has it. A member that is only being added has no
    /// record yet, and while it reads the log from before its time it knows no membership that has it.
    pub(super) fn has_removed(&self, member: MemberId, known: Option<LogPosition>) -> bool {
        let (effective, committed) = {
            let metrics = self.core.server_metrics();
            let metrics = metrics.borrow_watched();
            (
                metrics.membership_config.clone(),
                metrics.committed_membership_config.clone(),
            )
        };
        let has = |members: &types::Stored| members.get_node(&member.0).is_some();
        let Some(at) = committed.log_id().as_ref().map(types::position) else {
            return false;
        };
        if has(&effective) || has(&committed) {
            return false;
        }
        let has_run = self.state.with(|state| {
            let mut records = state.members().into_iter();
            records.any(|record| record.id == member)
        });
        has_run || known.is_some_and(|known| known.index < at.index)
    }

    /// Changes the membership, on the leader; resolves when the change is committed. Once begun it goes on if the caller
    /// gives up.
    pub(super) async fn change_here(&self, change: MemberChange) -> Result<(), ChangeError> {
        self.in_turn(move |this| this.check(change)).await
    }

    /// Waits until no other change is under way, and keeps others waiting until it is dropped.
    ///
    /// No longer than a client waits: an earlier change may hang without a quorum, and this one must not be made long after
    /// its caller was told that it was not.
    pub(super) async fn turn(&self) -> Result<tokio::sync::OwnedSemaphorePermit, Unavailable> {
        let turn = self.one.clone().acquire_owned();
        let turn = tokio::time::timeout(TURN_MAX + self.election * 2, turn).await;
        turn.map_err(|_| Unavailable::Timeout)?
            .map_err(|_| Unavailable::Stopped)
    }

    /// Waits for its turn, then does what `decide` orders from the membership of that moment.
    async fn in_turn(
        &self,
        decide: impl FnOnce(&Self) -> Result<Order, ChangeError> + Send + 'static,
    ) -> Result<(), ChangeError> {
        let turn = self.turn().await?;
        let this = self.clone();
        let changed = tokio::spawn(async move {
            let _turn = turn;
            if !this.leadership.borrow().is_self {
                return Err(Unavailable::LeaderChanged.into());
            }
            this.finish_earlier().await?;
            // One that was removed leads for a moment more, but openraft takes no change from it.
            if !this.is_member() {
                return Err(Unavailable::LeaderChanged.into());
            }
            let order = decide(&this)?;
            this.submit(order).await
        });
        changed.await.map_err(|_| Unavailable::Stopped)?
    }

    /// A leader that died between the two steps of a change leaves both configurations in force: end that first.
    async fn finish_earlier(&self) -> Result<(), ChangeError> {
        let members = self.members();
        let configs = members.get_joint_config();
        match configs.as_slice() {
            [_, .., newest] => {
                self.submit((ChangeMembers::ReplaceAllVoters(newest.clone()), false))
                    .await
            }
            _ => Ok(()),
        }
    }

    async fn submit(&self, (members, retain): Order) -> Result<(), ChangeError> {
        match self.core.change_membership(members, retain).await {
            Ok(_) => Ok(()),
            Err(RaftError::Fatal(_)) => Err(Unavailable::Stopped.into()),
            Err(RaftError::APIError(error)) => Err(match error {
                ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_) => {
                    Unavailable::LeaderChanged.into()
                }
                ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::LearnerNotFound(not),
                ) => MemberRefusal::NotFound(MemberId(not.node_id)).into(),
                other => {
                    tracing::info!(error = %other, "the membership was not changed");
                    Unavailable::Unhealthy.into()
                }
            }),
        }
    }

    /// Whether the change may be made now, and what openraft must be told.
    ///
    /// etcd's rules: a count of members includes those that await their vote, a look at the quorum does not.
    fn check(&self, change: MemberChange) -> Result<Order, ChangeError> {
        let view = View::new(self);
        let voting = view.voting();
        Ok(match change {
            MemberChange::AddLearner { id, peer_urls } => {
                view.check_new(id, &peer_urls)?;
                if view.learners.len() >= learners_max(voting.len()) {
                    return Err(MemberRefusal::TooManyLearners.into());
                }
                let node = BTreeMap::from([(id.0, Place::at(peer_urls))]);
                (ChangeMembers::AddNodes(node), true)
            }
            MemberChange::AddVoter { id, peer_urls } => {
                // In etcd's order, and as etcd: a second member may be added to a single one before it runs.
                let alone = voting.len() == 1;
                if !alone && view.started(&voting) < quorum(voting.len() + 1) {
                    return Err(MemberRefusal::NotEnoughStarted.into());
                }
                if view.connected(&voting) < voting.len() {
                    return Err(Unavailable::Unhealthy.into());
                }
                view.check_new(id, &peer_urls)?;
                let place = Place {
                    peer_urls,
                    awaits_vote: true,
                };
                (
                    ChangeMembers::AddNodes(BTreeMap::from([(id.0, place)])),
                    true,
                )
            }
            MemberChange::Promote { id, with } => {
                let ids: BTreeSet<MemberId> = std::iter::once(id).chain(with).collect();
                for id in &ids {
                    view.check_known(*id)?;
                }
                let mut promoted = BTreeSet::new();
                for id in ids {
                    if voting.contains(&id.0) {
                        return Err(MemberRefusal::NotLearner(id).into());
                    }
                    if !view.has_caught_up(id) {
                        return Err(MemberRefusal::LearnerNotReady(id).into());
                    }
                    promoted.insert(id.0);
                }
                let more = promoted.len();
                if view.started(&voting) + more < quorum(voting.len() + more) {
                    return Err(MemberRefusal::NotEnoughStarted.into());
                }
                (ChangeMembers::AddVoterIds(promoted), true)
            }
            MemberChange::Remove { id, with } => {
                let mut gone = BTreeSet::new();
                for id in std::iter::once(id).chain(with) {
                    view.check_known(id)?;
                    gone.insert(id.0);
                }
                if voting.is_disjoint(&gone) {
                    return Ok((ChangeMembers::RemoveNodes(gone), false));
                }
                let left = &voting - &gone;
                if left.is_empty() || view.started(&left) < quorum(left.len()) {
                    return Err(MemberRefusal::NotEnoughStarted.into());
                }
                let leaving = &view.voters & &gone;
                if leaving.is_empty() {
                    return Ok((ChangeMembers::RemoveNodes(gone), false));
                }
                // Those that are down are no loss; if one is up, a quorum of the rest must be, too.
                let left = &view.voters - &gone;
                let is_loss = view.connected(&leaving) > 0;
                if left.is_empty() || is_loss && view.connected(&left) < quorum(left.len()) {
                    return Err(Unavailable::Unhealthy.into());
                }
                let others = &gone - &leaving;
                let change = vec![
                    ChangeMembers::RemoveVoters(leaving),
                    ChangeMembers::RemoveNodes(others),
                ];
                (ChangeMembers::Batch(change), false)
            }
            MemberChange::SetPeerUrls { id, peer_urls } => {
                view.check_known(id)?;
                view.check_urls(&peer_urls, Some(id))?;
                let place = Place {
                    peer_urls,
                    awaits_vote: view.awaiting.contains(&id.0),
                };
                (
                    ChangeMembers::SetNodes(BTreeMap::from([(id.0, place)])),
                    true,
                )
            }
        })
    }

    /// Whether leadership may go to `to`: a voter that answers and has what this leader has.
    pub(super) fn may_lead(&self, to: MemberId) -> Result<(), ChangeError> {
        let view = View::new(self);
        if !view.voters.contains(&to.0) {
            return Err(MemberRefusal::BadLeaderTransferee.into());
        }
        if !view.has_caught_up(to) {
            return Err(Unavailable::Unhealthy.into());
        }
        Ok(())
    }

    /// The voter, other than this one, that is best fit to lead.
    pub(super) fn successor(&self) -> Option<MemberId> {
        let view = View::new(self);
        let others = view.voters.iter().copied().filter(|id| *id != view.own);
        let fit = others.filter(|id| view.has_caught_up(MemberId(*id)));
        fit.max_by_key(|id| view.matched(*id)).map(MemberId)
    }
}
