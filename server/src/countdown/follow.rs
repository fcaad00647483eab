//! The countdown while this member does not lead, and the moment at which it begins to.

use std::time::Duration;

use super::broadcast::Broadcast;
use super::collect::{self, Collected};
use super::consensus::Consensus;
use super::counted::Record;
use super::deadlines::Deadlines;
use super::driver::{Driver, answer};
use super::wire::{self, Ack, Held};
use crate::clock::Moment;
use crate::command::{LeaderKey, Lease, Unavailable};
use crate::raft::sideband::Received;

impl<C: Consensus> Driver<C> {
    /// Keeps a copy of the leader's countdown until leadership changes. Returns false when there is nothing to wait for.
    pub(super) async fn follow(&mut self) -> bool {
        loop {
            tokio::select! {
                changed = self.leadership.changed() => return changed.is_ok(),
                received = self.received.recv() => match received {
                    Some(received) => self.answer(received),
                    None => return false,
                },
                changes = self.changes.recv() => match changes {
                    Some(changes) => self.note(changes),
                    None => return false,
                },
            }
        }
    }

    /// Answers as a member that does not lead.
    ///
    /// Only the leader that this member follows gets a promise. The word of an older leader is either in the copy that
    /// a newer one collects, or refused.
    fn answer(&mut self, received: Received) {
        let now = *self.leadership.borrow();
        let follows = |leader| !now.is_self && now.key() == Some(leader);
        match received {
            // The asker believes that this member leads; it must look again.
            Received::Question { reply, .. } => answer(reply, Err(Unavailable::LeaderChanged)),
            Received::Heartbeat {
                leadership,
                body,
                waited,
                reply,
            } => match wire::read_delta(body) {
                Ok(mut delta) => {
                    delta.now = delta.now.after(waited);
                    let ack = match follows(leadership) {
                        true => self.replica.take(Moment::now(), leadership, delta),
                        false => Ack::NotFollowing,
                    };
                    answer(reply, wire::ack(self.consensus.feature_level(), ack));
                }
                // Not answered, so it is said again: to the log, too, until both members are of versions that match.
                Err(error) => tracing::debug!(%error, "the leader's countdown cannot be read"),
            },
            Received::Collect {
                leadership,
                body,
                reply,
            } => {
                let table = || self.replica.table(Moment::now());
                let held = match follows(leadership) && wire::read_collect(body).is_ok() {
                    true => table().map_or(Held::Nothing, Held::Table),
                    false => Held::NotFollowing,
                };
                let level = self.consensus.feature_level();
                answer(reply, Box::new(wire::pages(level, held)));
            }
        }
    }

    /// Learns how the countdown stands. `None` if leadership changes meanwhile.
    pub(super) async fn take_over(
        &mut self,
        leadership: LeaderKey,
        leases: &impl Fn() -> Vec<Lease>,
    ) -> Option<Broadcast> {
        let (consensus, patience) = (self.consensus.clone(), self.election);
        let own = self.replica.table(Moment::now());
        let collected = async {
            tokio::join!(
                collect::gather(&consensus, leadership, own, patience),
                // Or a record that is committed and not applied here yet would be missed, and a lease ended too early.
                caught_up(&consensus),
            )
            .0
        };
        tokio::pin!(collected);
        let mut changed = self.leadership.clone();
        let collected = loop {
            tokio::select! {
                biased;
                _ = changed.changed() => return None,
                changes = self.changes.recv() => {
                    let now = Moment::now();
                    for change in changes? {
                        self.replica.note(now, change);
                    }
                }
                collected = &mut collected => break collected,
            }
        };
        let through = self.consensus.applied();
        while let Ok(changes) = self.changes.try_recv() {
            self.note(changes);
        }
        let leases = leases();
        let now = Moment::now();
        if collected.is_none() && !leases.is_empty() {
            tracing::info!(
                leases = leases.len(),
                "leases begin anew from what is on record"
            );
        }
        let ends = leases.into_iter().map(|lease| {
            let record = Record::from(lease);
            (record, self.ends(now, record, collected.as_ref()))
        });
        let deadlines = Deadlines::resume(now, ends);
        // Changes applied before this moment are in the state; those after it are in the channel as well.
        Some(Broadcast::open(now, leadership, through, deadlines))
    }

    /// When a lease ends that this member goes on counting.
    fn ends(&self, now: Moment, record: Record, collected: Option<&Collected>) -> Moment {
        let Record { of, ttl, left } = record;
        let granted = self.replica.grants().get(&of);
        let known = collected.and_then(|collected| {
            let index = granted.map_or(0, |(index, _)| *index);
            let renewed = collected.ends(now, of, index);
            // The last leader may have applied the grant a little later than this member.
            renewed.or(granted.map(|(_, at)| at.after(ttl + self.allowance())))
        });
        // And some for a renewal that the last leader answered while it was replaced.
        known.unwrap_or_else(|| now.after(left.unwrap_or(ttl) + self.election))
    }
}

/// Resolves when everything that earlier leaders committed is applied here.
async fn caught_up<C: Consensus>(consensus: &C) {
    /// Pause before a barrier that failed is tried again.
    const PAUSE: Duration = Duration::from_millis(50);
    while consensus.read_barrier().await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}
