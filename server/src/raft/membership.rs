//! Who belongs to the cluster, and changes to it: one at a time, decided by the leader, never below quorum.

mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::metrics::RaftMetrics;
use tokio::sync::watch;

use super::Core;
use super::leadership::Leadership;
use super::types::{self, Members, PeerUrls, TypeConfig};
use crate::command::{LogPosition, MemberId, Refusal, Unavailable};
use crate::state::State;
use view::{View, quorum};

/// Learners at one time, as etcd's default: each costs the leader a copy of everything.
const LEARNERS_MAX: usize = 1;

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
    /// Adds a member with a vote.
    AddVoter {
        /// Its id, never used before.
        id: MemberId,
        /// Where peers reach it.
        peer_urls: Vec<String>,
    },
    /// Gives a learner that has caught up a vote.
    Promote {
        /// Who.
        id: MemberId,
    },
    /// Removes a member for good.
    Remove {
        /// Who.
        id: MemberId,
    },
    /// Replaces a member's peer URLs; voter or learner it stays.
    SetPeerUrls {
        /// Who.
        id: MemberId,
        /// Where peers reach it from now on.
        peer_urls: Vec<String>,
    },
}

impl MemberChange {
    /// Whom it is about.
    pub(super) fn id(&self) -> MemberId {
        match self {
            Self::AddLearner { id, .. }
            | Self::AddVoter { id, .. }
            | Self::Promote { id }
            | Self::Remove { id }
            | Self::SetPeerUrls { id, .. } => *id,
        }
    }
}

/// Why the membership, or the leader, was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// It must not be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It cannot be done now, or nobody knows whether it was.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The membership as this member knows it. Clones share all.
#[derive(Clone)]
pub(super) struct Membership {
    pub(super) core: Core,
    pub(super) state: Arc<Mutex<State>>,
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

    fn members(&self) -> Members {
        let metrics = self.core.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().clone()
    }

    /// The membership in effect: id, peer URLs, whether a learner.
    pub(super) fn effective(&self) -> Vec<(MemberId, Vec<String>, bool)> {
        let members = self.members();
        let voters: BTreeSet<u64> = members.voter_ids().collect();
        let member = |(id, PeerUrls(urls)): (&u64, &PeerUrls)| {
            (MemberId(*id), urls.clone(), !voters.contains(id))
        };
        members.nodes().map(member).collect()
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
            .map(|urls| urls.0.clone())
            .unwrap_or_default()
    }

    /// Where the membership that is committed stands.
    pub(super) fn committed_at(&self) -> Option<LogPosition> {
        let metrics = self.core.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics
            .committed_membership_config
            .log_id()
            .as_ref()
            .map(types::position)
    }

    /// Whether `member` was removed, for certain.
    ///
    /// It once ran as a member (its record is in the state), or it knows a membership older than the committed one; and
    /// neither the committed membership nor one in effect has it. A member that is only being added has no record yet.
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
        let state = self
            .state
            .lock()
            .expect("nothing panics while it holds the lock");
        let has_run = state.members().iter().any(|record| record.id == member);
        has_run || known.is_some_and(|known| known.index < at.index)
    }

    /// Changes the membership, on the leader; resolves when the change is committed. Goes on if the caller gives up.
    pub(super) async fn change_here(&self, change: MemberChange) -> Result<(), ChangeError> {
        let this = self.clone();
        let changed = tokio::spawn(async move {
            let _one = this.one.acquire().await.map_err(|_| Unavailable::Stopped)?;
            if !this.leadership.borrow().is_self {
                return Err(Unavailable::LeaderChanged.into());
            }
            this.finish_earlier().await?;
            let (members, retain) = this.check(change)?;
            this.submit(members, retain).await
        });
        changed.await.map_err(|_| Unavailable::Stopped)?
    }

    /// A leader that died between the two steps of a change leaves both configurations in force: end that first.
    async fn finish_earlier(&self) -> Result<(), ChangeError> {
        let members = self.members();
        let configs = members.get_joint_config();
        match configs.as_slice() {
            [_, .., newest] => {
                self.submit(ChangeMembers::ReplaceAllVoters(newest.clone()), false)
                    .await
            }
            _ => Ok(()),
        }
    }

    async fn submit(
        &self,
        members: ChangeMembers<u64, PeerUrls>,
        retain: bool,
    ) -> Result<(), ChangeError> {
        match self.core.change_membership(members, retain).await {
            Ok(_) => Ok(()),
            Err(RaftError::Fatal(_)) => Err(Unavailable::Stopped.into()),
            Err(RaftError::APIError(error)) => Err(match error {
                ClientWriteError::ForwardToLeader(_) | ClientWriteError::LogEntryDiscarded(_) => {
                    Unavailable::LeaderChanged.into()
                }
                ClientWriteError::ChangeMembershipError(
                    ChangeMembershipError::LearnerNotFound(not),
                ) => Refusal::MemberNotFound(MemberId(not.node_id)).into(),
                other => {
                    tracing::info!(error = %other, "the membership was not changed");
                    Unavailable::Unhealthy.into()
                }
            }),
        }
    }

    /// Whether the change may be made now, and what openraft must be told.
    fn check(
        &self,
        change: MemberChange,
    ) -> Result<(ChangeMembers<u64, PeerUrls>, bool), ChangeError> {
        let view = View::new(self);
        Ok(match change {
            MemberChange::AddLearner { id, peer_urls } => {
                view.check_new(id, &peer_urls)?;
                if view.learners.len() >= LEARNERS_MAX {
                    return Err(Refusal::TooManyLearners.into());
                }
                let node = BTreeMap::from([(id.0, PeerUrls(peer_urls))]);
                (ChangeMembers::AddNodes(node), true)
            }
            MemberChange::AddVoter { id, peer_urls } => {
                view.check_new(id, &peer_urls)?;
                // As etcd: a second member may be added to a single one before it runs.
                let alone = view.voters.len() == 1;
                if !alone && view.started() < quorum(view.voters.len() + 1) {
                    return Err(Refusal::NotEnoughStartedMembers.into());
                }
                if view.connected() < view.voters.len() {
                    return Err(Unavailable::Unhealthy.into());
                }
                let node = BTreeMap::from([(id.0, PeerUrls(peer_urls))]);
                (ChangeMembers::AddVoters(node), true)
            }
            MemberChange::Promote { id } => {
                view.check_known(id)?;
                if view.voters.contains(&id.0) {
                    return Err(Refusal::NotLearner(id).into());
                }
                if !view.has_caught_up(id) {
                    return Err(Refusal::LearnerNotReady(id).into());
                }
                if view.started() + 1 < quorum(view.voters.len() + 1) {
                    return Err(Refusal::NotEnoughStartedMembers.into());
                }
                (ChangeMembers::AddVoterIds(BTreeSet::from([id.0])), true)
            }
            MemberChange::Remove { id } => {
                view.check_known(id)?;
                if !view.voters.contains(&id.0) {
                    return Ok((ChangeMembers::RemoveNodes(BTreeSet::from([id.0])), false));
                }
                let left = view.voters.len() - 1;
                let lost = usize::from(view.is_started(id.0));
                if left == 0 || view.started() - lost < quorum(left) {
                    return Err(Refusal::NotEnoughStartedMembers.into());
                }
                // One that is down is no loss; one that is up must leave a quorum of the rest behind.
                if view.is_connected(id.0) && view.connected() - 1 < quorum(left) {
                    return Err(Unavailable::Unhealthy.into());
                }
                (ChangeMembers::RemoveVoters(BTreeSet::from([id.0])), false)
            }
            MemberChange::SetPeerUrls { id, peer_urls } => {
                view.check_known(id)?;
                view.check_urls(&peer_urls, Some(id))?;
                let node = BTreeMap::from([(id.0, PeerUrls(peer_urls))]);
                (ChangeMembers::SetNodes(node), true)
            }
        })
    }

    /// Whether leadership may go to `to`: a voter that answers and has what this leader has.
    pub(super) fn may_lead(&self, to: MemberId) -> Result<(), ChangeError> {
        let view = View::new(self);
        if !view.voters.contains(&to.0) {
            return Err(Refusal::BadLeaderTransferee.into());
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
