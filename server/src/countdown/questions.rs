//! The doors' questions about the countdown, to the leader.

use std::time::Duration;

use super::counted::Counted;
use super::wire::{self, KIND, Question};
use crate::command::{LeaseId, Unavailable};
use crate::raft::Raft;

/// Asks the countdown of the leader, which may be this member. Clones share it.
#[derive(Clone)]
pub struct Questions(Raft);

impl Questions {
    /// Over this member's Raft.
    pub fn new(raft: Raft) -> Self {
        Self(raft)
    }

    /// Renews leases. Answers the granted time of each, in order; `None` if it is unknown or over.
    ///
    /// Errors: `Unavailable` without a leader; they may have been renewed.
    pub async fn renew(&self, ids: &[LeaseId]) -> Result<Vec<Option<Duration>>, Unavailable> {
        self.ask(&Question::Renew(leases(ids))).await
    }

    /// Answers the time that each lease has left, in order; `None` if it is unknown or over.
    ///
    /// Errors: `Unavailable` without a leader.
    pub async fn remaining(&self, ids: &[LeaseId]) -> Result<Vec<Option<Duration>>, Unavailable> {
        self.ask(&Question::Remaining(leases(ids))).await
    }

    async fn ask(&self, question: &Question) -> Result<Vec<Option<Duration>>, Unavailable> {
        let answer = self
            .0
            .ask_leader(KIND, wire::question(self.0.feature_level(), question))
            .await?;
        // A leader that answers something else is no leader to rely on.
        wire::read_times(answer).map_err(|_| Unavailable::LeaderChanged)
    }
}

fn leases(ids: &[LeaseId]) -> Vec<Counted> {
    ids.iter().copied().map(Counted::Lease).collect()
}
