//! The countdown while this member leads.
//!
//! Everything happens in turns of one task: renewals that wait, then leases that are over, then records of time left,
//! each committed before the next turn. So the order in which records reach the log is the order in which they were
//! decided, and a storm of expiries lets requests in after every batch.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::broadcast::{Broadcast, QUIET_MAX};
use super::collect::is_quorum;
use super::consensus::Consensus;
use super::counted::{Counted, Record};
use super::driver::{Driver, answer};
use super::wire::{self, Ack, Held, KIND, Question};
use crate::clock::Moment;
use crate::command::{
    Command, LeaderKey, LeaseChange, LeaseCommand, LeaseId, MemberId, Unavailable,
};
use crate::failpoints::{self, Bug};
use crate::raft::sideband::Received;

/// Leases ended by one command: each may delete any number of keys in a revision of its own.
const EXPIRE_MAX: usize = 256;
/// Records of time left in one command: 16 KiB.
const CHECKPOINT_MAX: usize = 1024;
/// Questions answered after one confirmation of leadership: a round of renewals from each member, and more.
const ASKS_MAX: usize = 64;
/// The time within which expiries share a command.
const ROUND: Duration = Duration::from_millis(50);
/// Pause before a lease whose end did not get through is given up again.
const RETRY: Duration = Duration::from_millis(500);
/// Offers of a renewal before it is left unanswered: each waits for the allowance at most.
const OFFERS_MAX: usize = 3;
/// Pause between rounds that carry an offer to a member that did not take it.
const CARRY_PAUSE: Duration = Duration::from_millis(2);

/// One leadership of this member.
pub(super) struct Term<'a, C> {
    leadership: LeaderKey,
    broadcast: Broadcast,
    driver: &'a mut Driver<C>,
    last_round: Option<Moment>,
    /// When the other members were last told something.
    last_post: Moment,
}

/// Where the answer to a question goes.
type Reply = oneshot::Sender<Result<Bytes, Unavailable>>;

impl<'a, C: Consensus> Term<'a, C> {
    pub(super) fn new(
        leadership: LeaderKey,
        broadcast: Broadcast,
        driver: &'a mut Driver<C>,
    ) -> Self {
        Self {
            leadership,
            broadcast,
            driver,
            last_round: None,
            last_post: Moment::now(),
        }
    }

    /// Leads until leadership changes. Returns false when there is nothing to wait for.
    pub(super) async fn lead(mut self) -> bool {
        // The first copy is of all that was answered before: a member with a complete one knows every renewal.
        self.driver.consensus.outbox().open(self.leadership, KIND);
        self.post();
        let lives = self.turns().await;
        self.driver.consensus.outbox().close();
        // The next leader asks for it.
        let now = Moment::now();
        let table = self.broadcast.table(now);
        self.driver.replica.set(now, table);
        lives
    }

    async fn turns(&mut self) -> bool {
        let mut waiting = Vec::new();
        loop {
            let (due, post) = (self.next_round(), self.next_post());
            tokio::select! {
                changed = self.driver.leadership.changed() => return changed.is_ok(),
                count = self.driver.received.recv_many(&mut waiting, ASKS_MAX) => if count == 0 {
                    return false;
                },
                changes = self.driver.changes.recv() => match changes {
                    Some(changes) => self.note(changes),
                    None => return false,
                },
                () = sleep_until(due) => {}
                () = tokio::time::sleep_until(post.instant()) => {}
            }
            self.note_waiting();
            if !waiting.is_empty() {
                self.answer_all(std::mem::take(&mut waiting)).await;
            }
            if self.next_round().is_some_and(|due| due <= Moment::now()) {
                self.last_round = Some(Moment::now());
                self.expire().await;
                self.checkpoint().await;
            }
            if self.next_post() <= Moment::now() {
                self.post();
            }
        }
    }

    /// When to say the next thing to the other members, or to look whether there are any.
    fn next_post(&self) -> Moment {
        let pause = match self.driver.consensus.others().is_empty() {
            true => self.driver.election,
            false => QUIET_MAX,
        };
        self.last_post.after(pause)
    }

    /// Gives the heartbeats what each other member is to be told.
    fn post(&mut self) {
        let now = Moment::now();
        self.last_post = now;
        self.take_answers();
        let outbox = self.driver.consensus.outbox();
        let others = self.driver.consensus.others();
        let level = self.driver.consensus.feature_level();
        self.broadcast.keep(&others);
        for member in others {
            if let Some(delta) = self.broadcast.delta(now, member) {
                outbox.put(member, wire::delta(level, &delta));
            }
        }
    }

    fn take_answers(&mut self) {
        for (member, answer) in self.driver.consensus.outbox().answers() {
            match wire::read_ack(answer) {
                Ok(ack) => self.broadcast.acknowledged(member, ack),
                // As if it had not answered.
                Err(error) => tracing::debug!(%member, %error, "an answer cannot be read"),
            }
        }
    }

    /// Not before the last round is over, so that ends that lie close together share a command.
    fn next_round(&self) -> Option<Moment> {
        let next = self.broadcast.deadlines.next()?;
        Some(
            self.last_round
                .map_or(next, |last| next.max(last.after(ROUND))),
        )
    }

    fn note_waiting(&mut self) {
        // Read first: all that was applied by then has been handed over.
        let applied = self.driver.consensus.applied();
        while let Ok(changes) = self.driver.changes.try_recv() {
            self.note(changes);
        }
        self.broadcast.reached(applied);
    }

    fn note(&mut self, changes: Vec<LeaseChange>) {
        let now = Moment::now();
        let broadcast = &mut self.broadcast;
        for change in changes {
            match change {
                LeaseChange::Granted { lease, index } => {
                    broadcast.reached(index);
                    let record = Record::from(lease);
                    if let Some(ends) = broadcast.deadlines.granted(now, record) {
                        broadcast.tell(record.of, Some(ends));
                    }
                }
                LeaseChange::Ended(id) => {
                    let of = Counted::Lease(id);
                    broadcast.deadlines.ended(of);
                    broadcast.tell(of, None);
                }
                LeaseChange::Checkpointed(lease) => {
                    broadcast.deadlines.checkpointed(&lease.into());
                }
                // A leader takes no snapshot from another one.
                LeaseChange::Replaced { .. } => {}
            }
        }
    }

    async fn answer_all(&mut self, received: Vec<Received>) {
        let level = self.driver.consensus.feature_level();
        let asked = questions(level, received);
        let renewed = asked.iter().flat_map(|(question, _)| match question {
            Question::Renew(of) => of.as_slice(),
            Question::Remaining(_) => &[],
        });
        let promised = self.promise(&renewed.copied().collect::<Vec<_>>()).await;
        // From here to the replies nothing waits: a lease renewed now is answered now.
        let now = Moment::now();
        for (question, reply) in asked {
            let deadlines = &mut self.broadcast.deadlines;
            let answers = promised.map(|()| -> Vec<Option<Duration>> {
                match question {
                    Question::Renew(of) => {
                        of.into_iter().map(|of| deadlines.renew(now, of)).collect()
                    }
                    Question::Remaining(of) => {
                        let left = |of| deadlines.remaining(now, of);
                        of.into_iter().map(left).collect()
                    }
                }
            });
            answer(reply, answers.map(|answers| wire::times(level, &answers)));
        }
    }

    /// Makes sure of all that an answer promises: this member leads, it knows every lease that was granted before now, a
    /// majority of the members holds the renewals of `ids`, and none of them has less than its full time on record.
    ///
    /// The offer says when the renewed leases end if they are renewed at the last moment allowed. A leader that was
    /// replaced without noticing gets no majority, and an answer that comes later than allowed is none.
    async fn promise(&mut self, ids: &[Counted]) -> Result<(), Unavailable> {
        if failpoints::has(Bug::LeaseRevived) {
            return Ok(());
        }
        for _ in 0..OFFERS_MAX {
            let asked = Moment::now();
            let latest = asked.after(self.driver.allowance());
            // Offered before leadership is confirmed, so that the same round of heartbeats carries both.
            let mut upto = self.offer(ids, latest);
            self.barrier().await?;
            self.note_waiting();
            let less: Vec<_> = {
                let (deadlines, now) = (&self.broadcast.deadlines, Moment::now());
                let less = |id: &&Counted| deadlines.is_on_record_with_less(now, **id);
                ids.iter().filter(less).map(|id| (*id, 0)).collect()
            };
            if !less.is_empty() {
                self.record(less).await?;
            }
            // Those that were not known before the confirmation.
            upto = upto.max(self.offer(ids, latest));
            while upto.is_some_and(|upto| !self.is_held(upto)) && Moment::now() < latest {
                tokio::time::sleep(CARRY_PAUSE).await;
                self.post();
                self.barrier().await?;
            }
            if Moment::now() < latest {
                return Ok(());
            }
        }
        Err(Unavailable::LeaderChanged)
    }

    /// Tells the other members how long these leases live if they are renewed. Answers the change they must hold then.
    fn offer(&mut self, ids: &[Counted], latest: Moment) -> Option<u64> {
        let broadcast = &mut self.broadcast;
        let now = Moment::now();
        let mut offered = None;
        for id in ids {
            if let Some(ends) = broadcast.deadlines.offer(now, *id, latest) {
                broadcast.tell(*id, Some(ends));
                offered = Some(broadcast.last_change());
            }
        }
        if offered.is_some() {
            self.post();
        }
        offered
    }

    fn is_held(&mut self, upto: u64) -> bool {
        self.take_answers();
        let mut holders: BTreeSet<MemberId> = self.broadcast.holders(upto);
        holders.insert(self.leadership.1);
        is_quorum(&self.driver.consensus.voters(), &holders)
    }

    async fn barrier(&self) -> Result<(), Unavailable> {
        let barrier = self.driver.consensus.read_barrier();
        self.driver.while_leading(barrier).await
    }

    async fn expire(&mut self) {
        let ids = self.broadcast.deadlines.expire(Moment::now(), EXPIRE_MAX);
        if ids.is_empty() {
            return;
        }
        let command = Command::Lease(LeaseCommand::Expire {
            term: self.leadership.0,
            ids: leases(&ids),
        });
        if let Err(unavailable) = self
            .driver
            .while_leading(self.driver.consensus.propose(command))
            .await
        {
            tracing::debug!(%unavailable, leases = ids.len(), "leases are not ended yet");
        }
        self.note_waiting();
        // The outcome of the command does not matter: those that are still there are tried again.
        let again = Moment::now().after(RETRY);
        self.broadcast.deadlines.retry(&ids, again);
    }

    async fn checkpoint(&mut self) {
        let deadlines = &mut self.broadcast.deadlines;
        let left = deadlines.checkpoints(Moment::now(), CHECKPOINT_MAX);
        if left.is_empty() {
            return;
        }
        // A record that does not get through costs a little: after a stop of all members those leases have more time.
        if let Err(unavailable) = self.record(left).await {
            tracing::debug!(%unavailable, "time left is not recorded");
        }
    }

    async fn record(&mut self, left: Vec<(Counted, i64)>) -> Result<(), Unavailable> {
        let left = left.into_iter();
        let remaining_seconds = left.map(|(Counted::Lease(id), left)| (id, left)).collect();
        let command = Command::Lease(LeaseCommand::Checkpoint { remaining_seconds });
        self.driver
            .while_leading(self.driver.consensus.propose(command))
            .await?;
        self.note_waiting();
        Ok(())
    }
}

/// Those whose end is a command about leases: all, as long as nothing else is counted.
fn leases(of: &[Counted]) -> Vec<LeaseId> {
    of.iter().map(|Counted::Lease(id)| *id).collect()
}

/// The questions among what was received. The rest is answered: a leader follows nobody.
fn questions(level: u32, received: Vec<Received>) -> Vec<(Question, Reply)> {
    let mut questions = Vec::new();
    for received in received {
        match received {
            Received::Question { body, reply } => match wire::read_question(body) {
                Ok(question) => questions.push((question, reply)),
                // Of a member whose version asks what this one does not know.
                Err(_) => answer(reply, Err(Unavailable::Timeout)),
            },
            Received::Heartbeat { reply, .. } => answer(reply, wire::ack(level, Ack::NotFollowing)),
            Received::Collect { reply, .. } => {
                answer(reply, Box::new(wire::pages(level, Held::NotFollowing)));
            }
        }
    }
    questions
}

async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.instant()).await,
        None => std::future::pending().await,
    }
}
