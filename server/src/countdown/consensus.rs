//! The part of consensus that the countdown needs, and Raft as that.

use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::sync::watch;

use super::wire::KIND;
use crate::command::{Command, LeaderKey, MemberId, Outcome, Unavailable};
use crate::raft::sideband::{self, Outbox};
use crate::raft::{Leadership, Raft};

/// The part of consensus that the countdown needs.
pub trait Consensus: Clone + Send + Sync + 'static {
    /// Proposes a command; returns once this member has applied it.
    fn propose(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Outcome, Unavailable>> + Send;
    /// Returns once this member, having led after the call, has applied everything that was committed before it.
    fn read_barrier(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;
    /// The leader.
    fn leadership(&self) -> watch::Receiver<Leadership>;
    /// The last log index whose lease changes have been handed over.
    fn applied(&self) -> u64;
    /// The voters: one set, or two while they change.
    fn voters(&self) -> Vec<BTreeSet<MemberId>>;
    /// All other members, learners too.
    fn others(&self) -> Vec<MemberId>;
    /// The bytes that heartbeats carry while this member leads.
    fn outbox(&self) -> Outbox;
    /// The cluster's feature level, which messages are written for.
    fn feature_level(&self) -> u32;
    /// Asks the countdown of another member, as the leader that it follows.
    fn collect(
        &self,
        member: MemberId,
        leadership: LeaderKey,
        question: Bytes,
    ) -> impl Future<Output = Result<sideband::Collected, Unavailable>> + Send;
}

impl Consensus for Raft {
    fn propose(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Outcome, Unavailable>> + Send {
        Raft::propose(self, command)
    }

    fn read_barrier(&self) -> impl Future<Output = Result<(), Unavailable>> + Send {
        Raft::read_barrier(self)
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        Raft::leadership(self)
    }

    fn applied(&self) -> u64 {
        Raft::applied_index(self)
    }

    fn voters(&self) -> Vec<BTreeSet<MemberId>> {
        Raft::voters(self)
    }

    fn others(&self) -> Vec<MemberId> {
        Raft::others(self)
    }

    fn outbox(&self) -> Outbox {
        Raft::outbox(self)
    }

    fn feature_level(&self) -> u32 {
        Raft::feature_level(self)
    }

    fn collect(
        &self,
        member: MemberId,
        leadership: LeaderKey,
        question: Bytes,
    ) -> impl Future<Output = Result<sideband::Collected, Unavailable>> + Send {
        Raft::collect(self, member, leadership, KIND, question)
    }
}
