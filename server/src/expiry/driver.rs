//! Keeps the clock of the countdown while this member leads.
//!
//! Everything happens in turns of one task: renewals that wait, then leases that are over, then records of time left,
//! each committed before the next turn. So the order in which records reach the log is the order in which they were
//! decided, and a storm of expiries lets requests in after every batch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::deadlines::{Deadlines, Renewal};
use crate::clock::Moment;
use crate::command::{Command, Lease, LeaseChange, LeaseId, LeaseQuery, Outcome, Unavailable};
use crate::raft::{Leadership, Raft};
use crate::state::State;

/// Leases ended by one command: each may delete any number of keys in a revision of its own.
const EXPIRE_MAX: usize = 256;
/// Records of time left in one command: 16 KiB.
const CHECKPOINT_MAX: usize = 1024;
/// Rounds of renewals answered after one confirmation of leadership: more than there are members.
const QUERIES_MAX: usize = 64;
/// Expiries within so long share a command.
const ROUND: Duration = Duration::from_millis(50);
/// Pause before a lease whose end did not get through is given up again.
const RETRY: Duration = Duration::from_millis(500);

/// What the countdown needs of consensus.
pub trait Consensus: Send + Sync {
    /// Proposes a command; returns once this member has applied it.
    fn propose(
        &self,
        command: Command,
    ) -> impl Future<Output = Result<Outcome, Unavailable>> + Send;
    /// Returns once this member, having led after the call, has applied everything that was committed before it.
    fn read_barrier(&self) -> impl Future<Output = Result<(), Unavailable>> + Send;
    /// Who leads.
    fn leadership(&self) -> watch::Receiver<Leadership>;
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
}

/// A member's question, and where the answer goes.
pub type Question = (LeaseQuery, oneshot::Sender<Result<Vec<i64>, Unavailable>>);

/// Counts leases down whenever this member leads. Ends when `queries` or the leadership of `raft` does.
///
/// `changes` are the lease changes of every applied batch, sent before the batch counts as applied. `election` is
/// etcd's election timeout.
pub async fn run(
    raft: Raft,
    state: Arc<Mutex<State>>,
    election: Duration,
    changes: mpsc::UnboundedReceiver<Vec<LeaseChange>>,
    queries: mpsc::Receiver<Question>,
) {
    let leases = move || {
        state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .leases()
    };
    count_down(raft, leases, election, changes, queries).await;
}

/// [`run`] over any consensus; `leases` reads the state.
pub async fn count_down<C: Consensus>(
    consensus: C,
    leases: impl Fn() -> Vec<Lease>,
    election: Duration,
    changes: mpsc::UnboundedReceiver<Vec<LeaseChange>>,
    queries: mpsc::Receiver<Question>,
) {
    let leadership = consensus.leadership();
    let mut driver = Driver {
        consensus,
        election,
        changes,
        queries,
        leadership,
    };
    let mut lives = true;
    while lives {
        let now = *driver.leadership.borrow_and_update();
        lives = if now.is_self {
            // Changes applied before this moment are in the state; those after it are in the channel as well.
            let deadlines = Deadlines::rebuild(Moment::now(), &leases(), election);
            Term {
                term: now.term,
                deadlines,
                driver: &mut driver,
                last_round: None,
            }
            .lead()
            .await
        } else {
            driver.follow().await
        };
    }
}

struct Driver<C> {
    consensus: C,
    election: Duration,
    changes: mpsc::UnboundedReceiver<Vec<LeaseChange>>,
    queries: mpsc::Receiver<Question>,
    leadership: watch::Receiver<Leadership>,
}

impl<C: Consensus> Driver<C> {
    /// Drops changes and turns questions away until leadership changes. Returns false when there is nothing to wait for.
    async fn follow(&mut self) -> bool {
        loop {
            tokio::select! {
                changed = self.leadership.changed() => return changed.is_ok(),
                query = self.queries.recv() => match query {
                    // Whoever asks believes that this member leads; it must look again.
                    Some((_, reply)) => answer(reply, Err(Unavailable::LeaderChanged)),
                    None => return false,
                },
                changes = self.changes.recv() => if changes.is_none() {
                    return false;
                },
            }
        }
    }

    /// Does `work` unless leadership changes or nothing happens for long.
    async fn while_leading<T>(
        &self,
        work: impl Future<Output = Result<T, Unavailable>>,
    ) -> Result<T, Unavailable> {
        let mut leadership = self.leadership.clone();
        tokio::select! {
            biased;
            _ = leadership.changed() => Err(Unavailable::LeaderChanged),
            done = tokio::time::timeout(self.election * 2 + RETRY, work) => done.unwrap_or(Err(Unavailable::Timeout)),
        }
    }
}

/// One leadership of this member.
struct Term<'a, C> {
    term: u64,
    deadlines: Deadlines,
    driver: &'a mut Driver<C>,
    last_round: Option<Moment>,
}

impl<C: Consensus> Term<'_, C> {
    /// Leads until leadership changes. Returns false when there is nothing to wait for.
    async fn lead(mut self) -> bool {
        let mut waiting = Vec::new();
        loop {
            let due = self.next_round();
            tokio::select! {
                changed = self.driver.leadership.changed() => return changed.is_ok(),
                count = self.driver.queries.recv_many(&mut waiting, QUERIES_MAX) => if count == 0 {
                    return false;
                },
                changes = self.driver.changes.recv() => match changes {
                    Some(changes) => self.note(changes),
                    None => return false,
                },
                () = sleep_until(due) => {}
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

    /// Not before the last round is over, so that ends that lie close together share a command.
    fn next_round(&self) -> Option<Moment> {
        let next = self.deadlines.next()?;
        Some(
            self.last_round
                .map_or(next, |last| next.max(last.after(ROUND))),
        )
    }

    fn note_waiting(&mut self) {
        while let Ok(changes) = self.driver.changes.try_recv() {
            self.note(changes);
        }
    }

    fn note(&mut self, changes: Vec<LeaseChange>) {
        let now = Moment::now();
        for change in changes {
            match change {
                LeaseChange::Granted(lease) => self.deadlines.granted(now, lease),
                LeaseChange::Ended(id) => self.deadlines.ended(id),
                LeaseChange::Checkpointed(lease) => self.deadlines.checkpointed(&lease),
            }
        }
    }

    async fn answer_all(&mut self, questions: Vec<Question>) {
        let led = self.confirm().await;
        let mut to_record = Vec::new();
        if led.is_ok() {
            for (query, _) in &questions {
                if let LeaseQuery::Renew(ids) = query {
                    let now = Moment::now();
                    let waits =
                        |id: &&LeaseId| self.deadlines.renew(now, **id) == Renewal::NeedsCommit;
                    to_record.extend(ids.iter().filter(waits).map(|id| (*id, 0)));
                }
            }
        }
        let led = match led {
            Ok(()) if !to_record.is_empty() => self.record(to_record).await,
            other => other,
        };
        // From here to the replies nothing waits: what is extended now is answered now.
        let now = Moment::now();
        for (query, reply) in questions {
            let answers = led.map(|()| match query {
                LeaseQuery::Renew(ids) => {
                    ids.into_iter().map(|id| self.extended(now, id)).collect()
                }
                LeaseQuery::Remaining(ids) => ids
                    .into_iter()
                    .map(|id| self.deadlines.remaining(now, id))
                    .collect(),
            });
            answer(reply, answers);
        }
    }

    fn extended(&mut self, now: Moment, id: LeaseId) -> i64 {
        match self.deadlines.extend(now, id) {
            Renewal::Renewed(seconds) => seconds,
            Renewal::NeedsCommit | Renewal::Gone => 0,
        }
    }

    /// Makes sure that this member leads now and knows every lease that was granted before now.
    ///
    /// A leader that was replaced without noticing must not promise anything: its successor has given each lease no
    /// more than an election timeout of grace, so a confirmation that took longer says nothing any more.
    async fn confirm(&mut self) -> Result<(), Unavailable> {
        let asked = Moment::now();
        self.driver
            .while_leading(self.driver.consensus.read_barrier())
            .await?;
        self.note_waiting();
        if Moment::now().since(asked) >= self.driver.election {
            return Err(Unavailable::LeaderChanged);
        }
        Ok(())
    }

    async fn expire(&mut self) {
        let ids = self.deadlines.expire(Moment::now(), EXPIRE_MAX);
        if ids.is_empty() {
            return;
        }
        let command = Command::LeaseExpire {
            term: self.term,
            ids: ids.clone(),
        };
        if let Err(unavailable) = self
            .driver
            .while_leading(self.driver.consensus.propose(command))
            .await
        {
            tracing::debug!(%unavailable, leases = ids.len(), "leases are not ended yet");
        }
        self.note_waiting();
        // Whatever became of the command: those that are still there are tried again.
        self.deadlines.retry(&ids, Moment::now().after(RETRY));
    }

    async fn checkpoint(&mut self) {
        let left = self.deadlines.checkpoints(Moment::now(), CHECKPOINT_MAX);
        if left.is_empty() {
            return;
        }
        // A record that does not get through costs a little: a new leader gives those leases more time.
        if let Err(unavailable) = self.record(left).await {
            tracing::debug!(%unavailable, "time left is not recorded");
        }
    }

    async fn record(&mut self, remaining_seconds: Vec<(LeaseId, i64)>) -> Result<(), Unavailable> {
        let asked = Moment::now();
        let command = Command::LeaseCheckpoint { remaining_seconds };
        self.driver
            .while_leading(self.driver.consensus.propose(command))
            .await?;
        self.note_waiting();
        if Moment::now().since(asked) >= self.driver.election {
            return Err(Unavailable::LeaderChanged);
        }
        Ok(())
    }
}

fn answer(
    reply: oneshot::Sender<Result<Vec<i64>, Unavailable>>,
    answers: Result<Vec<i64>, Unavailable>,
) {
    // Whoever asked may have given up.
    let _ = reply.send(answers);
}

async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.instant()).await,
        None => std::future::pending().await,
    }
}
