//! The leader's view of the members at one moment, and the decisions that follow from it.

use std::collections::{BTreeMap, BTreeSet};

use openraft::Instant;
use openraft::alias::SerdeInstantOf;

use super::Membership;
use crate::command::{MemberId, MemberRefusal};
use crate::raft::types::{Members, TypeConfig};

/// Entries that a learner, or the next leader, may be behind and still count as caught up: a moment's work.
const LAG_MAX: u64 = 1000;

/// The majority of `voters`.
pub(super) fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// The leader's view of the members at one moment.
pub(super) struct View {
    pub(super) own: u64,
    members: Members,
    /// Those with a vote.
    pub(super) voters: BTreeSet<u64>,
    /// Those that were added as voters and have no vote yet.
    pub(super) awaiting: BTreeSet<u64>,
    /// Those that clients see as learners.
    pub(super) learners: BTreeSet<u64>,
    /// Those that have ever run.
    ran: BTreeSet<u64>,
    heard: BTreeSet<u64>,
    matched: BTreeMap<u64, Option<u64>>,
    last: u64,
}

impl View {
    pub(super) fn new(membership: &Membership) -> Self {
        let metrics = membership.metrics();
        let members = metrics.membership_config.membership().clone();
        let heartbeat = metrics.heartbeat.unwrap_or_default();
        let recently = |at: &Option<_>| {
            at.as_ref()
                .is_some_and(|at: &SerdeInstantOf<TypeConfig>| at.elapsed() <= membership.election)
        };
        let heard = heartbeat
            .iter()
            .filter(|(_, at)| recently(at))
            .map(|(id, _)| *id);
        let replication = metrics.replication.unwrap_or_default();
        let matched = replication.into_iter();
        let awaits = |id: &u64| members.get_node(id).is_some_and(|place| place.awaits_vote);
        let (awaiting, learners) = members.learner_ids().partition(awaits);
        let records = membership.state.with(|state| state.members());
        Self {
            own: metrics.id,
            voters: members.voter_ids().collect(),
            awaiting,
            learners,
            members,
            ran: records.iter().map(|record| record.id.0).collect(),
            heard: heard.collect(),
            matched: matched
                .map(|(id, at)| (id, at.map(|at| at.index)))
                .collect(),
            last: metrics.last_log_index.unwrap_or(0),
        }
    }

    pub(super) fn check_new(&self, id: MemberId, urls: &[String]) -> Result<(), MemberRefusal> {
        // An id that has ever run is used up, even if its member is gone.
        if self.members.get_node(&id.0).is_some() || self.ran.contains(&id.0) {
            return Err(MemberRefusal::Exists(id));
        }
        self.check_urls(urls, None)
    }

    pub(super) fn check_known(&self, id: MemberId) -> Result<(), MemberRefusal> {
        self.members
            .get_node(&id.0)
            .map(|_| ())
            .ok_or(MemberRefusal::NotFound(id))
    }

    pub(super) fn check_urls(
        &self,
        urls: &[String],
        own: Option<MemberId>,
    ) -> Result<(), MemberRefusal> {
        let mut others = self
            .members
            .nodes()
            .filter(|(id, _)| Some(MemberId(**id)) != own);
        match others.any(|(_, theirs)| theirs.peer_urls.iter().any(|url| urls.contains(url))) {
            true => Err(MemberRefusal::PeerUrlExists),
            false => Ok(()),
        }
    }

    pub(super) fn is_started(&self, id: u64) -> bool {
        id == self.own || self.ran.contains(&id)
    }

    /// Those that clients see as voters.
    pub(super) fn voting(&self) -> BTreeSet<u64> {
        self.voters.union(&self.awaiting).copied().collect()
    }

    /// How many of these have ever run.
    pub(super) fn started(&self, members: &BTreeSet<u64>) -> usize {
        let started = members.iter().filter(|id| self.is_started(**id));
        started.count()
    }

    pub(super) fn is_connected(&self, id: u64) -> bool {
        id == self.own || self.heard.contains(&id)
    }

    /// How many of these answer.
    pub(super) fn connected(&self, members: &BTreeSet<u64>) -> usize {
        let connected = members.iter().filter(|id| self.is_connected(**id));
        connected.count()
    }

    /// The last index that the leader knows a member to have.
    pub(super) fn matched(&self, id: u64) -> Option<u64> {
        self.matched.get(&id).copied().flatten()
    }

    pub(super) fn has_caught_up(&self, id: MemberId) -> bool {
        let matched = self.matched(id.0);
        self.is_connected(id.0) && matched.is_some_and(|matched| matched + LAG_MAX >= self.last)
    }

    /// A member that awaits its vote and may have it: it has run, so its record refuses a process that comes under
    /// its name with another data directory; it has caught up; and those that answer are a quorum with it.
    pub(super) fn fit_for_vote(&self) -> Option<MemberId> {
        if self.connected(&self.voters) + 1 < quorum(self.voters.len() + 1) {
            return None;
        }
        let mut awaiting = self.awaiting.iter().copied();
        let fit = awaiting.find(|id| self.ran.contains(id) && self.has_caught_up(MemberId(*id)));
        fit.map(MemberId)
    }
}
