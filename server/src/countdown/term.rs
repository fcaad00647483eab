//! The countdown while this member leads.
//!
//! Everything happens in turns of one task: renewals that wait, then leases that are over, then records of time left,
//! each committed before the next turn. So the order in which records reach the log is the order in which they were
//! decided, and a storm of expiries lets requests in after every batch.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::broadcast::Broadcast;
use super::collect::is_quorum;
use super::driver::{Consensus, Driver, answer, renewed_in};
use crate::clock::Moment;
use crate::command::{
    Command, LeaderKey, LeaseAck, LeaseChange, LeaseCommand, LeaseCopy, LeaseDelta, LeaseId,
    LeaseQuery, MemberId, Unavailable,
};
use crate::failpoints::{self, Bug};
use crate::raft::{LeaseAsk, LeaseTeller};

/// Leases ended by one command: each may delete any number of keys in a revision of its own.
const EXPIRE_MAX: usize = 256;
/// Records of time left in one command: 16 KiB.
const CHECKPOINT_MAX: usize = 1024;
/// Questions answered after one confirmation of leadership: a round of renewals from each member, and more.
const ASKS_MAX: usize = 64;
/// Expiries within so long share a command.
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
    book: Arc<Mutex<Broadcast>>,
    driver: &'a mut Driver<C>,
    last_round: Option<Moment>,
    /// Whether the countdown is told to the other members, and renewals wait until a majority holds them.
    is_told: bool,
}

/// What heartbeats carry.
struct Pages(LeaderKey, Arc<Mutex<Broadcast>>);

impl LeaseTeller for Pages {
    fn news(&self, leadership: LeaderKey, member: MemberId) -> Option<LeaseDelta> {
        (leadership == self.0).then(|| lock(&self.1).news(Moment::now(), member))?
    }

    fn receipt(&self, leadership: LeaderKey, member: MemberId, receipt: LeaseAck) {
        if leadership == self.0 {
            lock(&self.1).receipt(member, receipt);
        }
    }
}

impl<'a, C: Consensus> Term<'a, C> {
    pub(super) fn new(leadership: LeaderKey, book: Broadcast, driver: &'a mut Driver<C>) -> Self {
        Self {
            leadership,
            book: Arc::new(Mutex::new(book)),
            driver,
            last_round: None,
            is_told: false,
        }
    }

    /// Leads until leadership changes. Returns false when there is nothing to wait for.
    pub(super) async fn lead(mut self) -> bool {
        let lives = self.turns().await;
        self.driver.consensus.carry(None);
        // The next leader asks for it.
        let now = Moment::now();
        let table = self.book().table(now);
        self.driver.replica.set(now, table);
        lives
    }

    async fn turns(&mut self) -> bool {
        let mut waiting = Vec::new();
        loop {
            self.tell_if_all_listen();
            let due = self.next_round();
            tokio::select! {
                changed = self.driver.leadership.changed() => return changed.is_ok(),
                count = self.driver.asks.recv_many(&mut waiting, ASKS_MAX) => if count == 0 {
                    return false;
                },
                changes = self.driver.changes.recv() => match changes {
                    Some(changes) => self.note(changes),
                    None => return false,
                },
                () = sleep_until(due) => {}
                () = tokio::time::sleep(self.driver.election), if !self.is_told => {}
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
        }
    }

    /// Begins to tell the countdown once every member keeps a copy. The first copy is of all that was answered before, so
    /// whoever has a complete one knows every renewal of this leadership.
    fn tell_if_all_listen(&mut self) {
        if !self.is_told && self.driver.consensus.has_copies() {
            self.is_told = true;
            let pages = Pages(self.leadership, self.book.clone());
            self.driver.consensus.carry(Some(Arc::new(pages)));
        }
    }

    fn book(&self) -> MutexGuard<'_, Broadcast> {
        lock(&self.book)
    }

    /// Not before the last round is over, so that ends that lie close together share a command.
    fn next_round(&self) -> Option<Moment> {
        let next = self.book().deadlines.next()?;
        Some(
            self.last_round
                .map_or(next, |last| next.max(last.after(ROUND))),
        )
    }

    fn note_waiting(&mut self) {
        // Read first: what was applied by then has been handed over.
        let applied = self.driver.consensus.applied();
        while let Ok(changes) = self.driver.changes.try_recv() {
            self.note(changes);
        }
        self.book().reached(applied);
    }

    fn note(&mut self, changes: Vec<LeaseChange>) {
        let now = Moment::now();
        let mut book = self.book();
        for change in changes {
            match change {
                LeaseChange::Granted { lease, index } => {
                    book.reached(index);
                    if let Some(ends) = book.deadlines.granted(now, lease) {
                        book.tell(lease.id, Some(ends));
                    }
                }
                LeaseChange::Ended(id) => {
                    book.deadlines.ended(id);
                    book.tell(id, None);
                }
                LeaseChange::Checkpointed(lease) => book.deadlines.checkpointed(&lease),
                // A leader takes no snapshot from another one.
                LeaseChange::Replaced { .. } => {}
            }
        }
    }

    async fn answer_all(&mut self, asks: Vec<LeaseAsk>) {
        let promised = self.promise(&renewed_in(&asks)).await;
        // From here to the replies nothing waits: what is renewed now is answered now.
        let now = Moment::now();
        for ask in asks {
            let (query, reply) = match ask {
                LeaseAsk::Query(query, reply) => (query, reply),
                LeaseAsk::News(_, reply) => {
                    answer(reply, LeaseAck::NotFollowing);
                    continue;
                }
                LeaseAsk::Recall(_, reply) => {
                    answer(reply, LeaseCopy::NotFollowing);
                    continue;
                }
            };
            let mut book = self.book();
            let deadlines = &mut book.deadlines;
            let answers = promised.map(|()| match query {
                LeaseQuery::Renew(ids) => {
                    let renew = |id| deadlines.renew(now, id).unwrap_or(0);
                    ids.into_iter().map(renew).collect()
                }
                LeaseQuery::Remaining(ids) => {
                    let remaining = |id| deadlines.remaining(now, id);
                    ids.into_iter().map(remaining).collect()
                }
            });
            answer(reply, answers);
        }
    }

    /// Makes sure of all that an answer promises: this member leads, it knows every lease that was granted before now, a
    /// majority of the members holds the renewals of `ids`, and none of them has less than its full time on record.
    ///
    /// The offer says when the renewed leases end if they are renewed at the last moment allowed. A leader that was
    /// replaced without noticing gets no majority, and an answer that comes later than allowed is none.
    async fn promise(&mut self, ids: &[LeaseId]) -> Result<(), Unavailable> {
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
                let (book, now) = (self.book(), Moment::now());
                let less = |id: &&LeaseId| book.deadlines.is_on_record_with_less(now, **id);
                ids.iter().filter(less).map(|id| (*id, 0)).collect()
            };
            if !less.is_empty() {
                self.record(less).await?;
            }
            // Those that were not known before the confirmation.
            upto = upto.max(self.offer(ids, latest));
            while upto.is_some_and(|upto| !self.is_held(upto)) && Moment::now() < latest {
                tokio::time::sleep(CARRY_PAUSE).await;
                self.barrier().await?;
            }
            if Moment::now() < latest {
                return Ok(());
            }
        }
        Err(Unavailable::LeaderChanged)
    }

    /// Tells the other members how long these leases live if they are renewed. Answers the change they must hold then.
    fn offer(&self, ids: &[LeaseId], latest: Moment) -> Option<u64> {
        let mut book = self.book();
        let now = Moment::now();
        let mut offered = None;
        for id in ids {
            if let Some(ends) = book.deadlines.offer(now, *id, latest) {
                book.tell(*id, Some(ends));
                offered = Some(book.last_change());
            }
        }
        offered
    }

    fn is_held(&self, upto: u64) -> bool {
        if !self.is_told {
            return true;
        }
        let mut holders: BTreeSet<MemberId> = self.book().holders(upto);
        holders.insert(self.leadership.1);
        is_quorum(&self.driver.consensus.voters(), &holders)
    }

    async fn barrier(&self) -> Result<(), Unavailable> {
        let barrier = self.driver.consensus.read_barrier();
        self.driver.while_leading(barrier).await
    }

    async fn expire(&mut self) {
        let ids = self.book().deadlines.expire(Moment::now(), EXPIRE_MAX);
        if ids.is_empty() {
            return;
        }
        let command = Command::Lease(LeaseCommand::Expire {
            term: self.leadership.0,
            ids: ids.clone(),
        });
        if let Err(unavailable) = self
            .driver
            .while_leading(self.driver.consensus.propose(command))
            .await
        {
            tracing::debug!(%unavailable, leases = ids.len(), "leases are not ended yet");
        }
        self.note_waiting();
        // Whatever became of the command: those that are still there are tried again.
        let again = Moment::now().after(RETRY);
        self.book().deadlines.retry(&ids, again);
    }

    async fn checkpoint(&mut self) {
        let left = self
            .book()
            .deadlines
            .checkpoints(Moment::now(), CHECKPOINT_MAX);
        if left.is_empty() {
            return;
        }
        // A record that does not get through costs a little: after a stop of all members those leases have more time.
        if let Err(unavailable) = self.record(left).await {
            tracing::debug!(%unavailable, "time left is not recorded");
        }
    }

    async fn record(&mut self, remaining_seconds: Vec<(LeaseId, i64)>) -> Result<(), Unavailable> {
        let command = Command::Lease(LeaseCommand::Checkpoint { remaining_seconds });
        self.driver
            .while_leading(self.driver.consensus.propose(command))
            .await?;
        self.note_waiting();
        Ok(())
    }
}

fn lock(book: &Mutex<Broadcast>) -> MutexGuard<'_, Broadcast> {
    book.lock().expect("nothing panics while it holds the lock")
}

async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.instant()).await,
        None => std::future::pending().await,
    }
}
