//! One member's part in the countdown: leads it, or keeps a copy of it.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use super::broadcast::Broadcast;
use super::collect::{self, Collected};
use super::counted::Record;
use super::deadlines::Deadlines;
use super::replica::Replica;
use super::term::Term;
use super::wire::{self, Ack, Held, KIND};
use crate::clock::Moment;
use crate::command::{Command, LeaderKey, Lease, LeaseChange, MemberId, Outcome, Unavailable};
use crate::raft::sideband::{self, Inbox, Outbox, Received};
use crate::raft::{Leadership, Raft};
use crate::state;

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

/// Messages of members to each other's countdown that may wait for this one; each question is a whole round of
/// renewals.
const RECEIVED_MAX: usize = 64;

/// Where Raft puts what other members say, and where [`run`] takes it from.
pub fn inbox() -> (Inbox, mpsc::Receiver<Received>) {
    let (room, received) = mpsc::channel(RECEIVED_MAX);
    (Inbox::new(KIND, room), received)
}

/// Counts leases down whenever this member leads. Ends when `received` or the leadership of `raft` does.
///
/// `changes` are the lease changes of every applied batch, sent before the batch counts as applied. `election` is
/// etcd's election timeout.
pub async fn run(
    raft: Raft,
    state: state::Handle,
    election: Duration,
    changes: mpsc::UnboundedReceiver<Vec<LeaseChange>>,
    received: mpsc::Receiver<Received>,
) {
    let leases = move || state.with(|state| state.leases());
    count_down(raft, leases, election, changes, received).await;
}

/// [`run`] over any consensus; `leases` reads the state.
pub async fn count_down<C: Consensus>(
    consensus: C,
    leases: impl Fn() -> Vec<Lease>,
    election: Duration,
    changes: mpsc::UnboundedReceiver<Vec<LeaseChange>>,
    received: mpsc::Receiver<Received>,
) {
    let leadership = consensus.leadership();
    let replica = Replica::new(consensus.applied());
    let mut driver = Driver {
        consensus,
        election,
        changes,
        received,
        leadership,
        replica,
    };
    let mut lives = true;
    while lives {
        let now = *driver.leadership.borrow_and_update();
        let leads = now.key().filter(|_| now.is_self);
        lives = match leads {
            Some(key) => match driver.take_over(key, &leases).await {
                Some(broadcast) => Term::new(key, broadcast, &mut driver).lead().await,
                None => driver.leadership.has_changed().is_ok(),
            },
            None => driver.follow().await,
        };
    }
}

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

    /// Keeps a copy of the leader's countdown until leadership changes. Returns false when there is nothing to wait for.
    async fn follow(&mut self) -> bool {
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

    fn note(&mut self, changes: Vec<LeaseChange>) {
        let now = Moment::now();
        for change in changes {
            self.replica.note(now, change);
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
    async fn take_over(
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

/// Resolves when everything that earlier leaders committed is applied here.
async fn caught_up<C: Consensus>(consensus: &C) {
    /// Pause before a barrier that failed is tried again.
    const PAUSE: Duration = Duration::from_millis(50);
    while consensus.read_barrier().await.is_err() {
        tokio::time::sleep(PAUSE).await;
    }
}

pub(super) fn answer<T>(reply: oneshot::Sender<T>, answer: T) {
    // The asker may have given up.
    let _ = reply.send(answer);
}
