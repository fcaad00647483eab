//! One member's hold on the countdown: what leading and following share.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::consensus::Consensus;
use super::replica::Replica;
use crate::clock::Moment;
use crate::command::{LeaseChange, Unavailable};
use crate::raft::Leadership;
use crate::raft::sideband::Received;

/// The part of the countdown that a member has whether it leads or not.
pub(super) struct Driver<C> {
    pub(super) consensus: C,
    pub(super) election: Duration,
    pub(super) changes: mpsc::UnboundedReceiver<Vec<LeaseChange>>,
    pub(super) received: mpsc::Receiver<Received>,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) replica: Replica,
}

impl<C: Consensus> Driver<C> {
    /// The longest time between a renewal's offer and its answer; later it is not answered.
    ///
    /// Half the election timeout. The other half is the allowance for message delay (decision 0005, rule 6).
    pub(super) fn allowance(&self) -> Duration {
        self.election / 2
    }

    pub(super) fn note(&mut self, changes: Vec<LeaseChange>) {
        let now = Moment::now();
        for change in changes {
            self.replica.note(now, change);
        }
    }

    /// Does `work` unless leadership changes or nothing happens for long.
    pub(super) async fn while_leading<T>(
        &self,
        work: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        /// Added to two election timeouts, for clusters whose first election finds no winner.
        const PATIENCE: Duration = Duration::from_millis(500);
        let mut leadership = self.leadership.clone();
        tokio::select! {
            biased;
            _ = leadership.changed() => Err(Unavailable::LeaderChanged),
            done = tokio::time::timeout(self.election * 2 + PATIENCE, work) => done.unwrap_or(Err(Unavailable::Timeout)),
        }
    }
}

pub(super) fn answer<T>(reply: oneshot::Sender<T>, answer: T) {
    // The asker may have given up.
    let _ = reply.send(answer);
}
