//! The callers on this member, and the outcome that each waits for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;

use crate::clock::Moment;
use crate::command::{Command, LeaderKey, MemberId, Principal, Proposal, ProposalId, Unavailable};
use crate::state::Answer;

/// Proposals of this member that may wait for their outcome.
const REQUESTS_MAX: usize = 16 * 1024;
/// And their bytes; one that is larger by itself waits alone.
const BYTES_MAX: usize = 64 << 20;

type Reply = oneshot::Sender<Result<Proposed, Unavailable>>;

/// A proposal that was applied.
#[derive(Debug)]
pub(super) struct Proposed {
    pub(super) answer: Answer,
    /// When it was on its way to the log, or to the leader.
    pub(super) sent: Moment,
    /// When its entry was committed and taken to be applied.
    pub(super) committed: Moment,
}

struct Waiting {
    reply: Reply,
    bytes: usize,
    /// The leadership it was proposed under, once it was.
    sent: Option<LeaderKey>,
    /// When that was; else when it began to wait.
    sent_at: Moment,
}

#[derive(Default)]
struct Inner {
    /// Sequence number of the first of `waiting`.
    first: u64,
    /// By sequence number, without a gap; answered ones are `None` until all before them are.
    waiting: VecDeque<Option<Waiting>>,
    requests: usize,
    bytes: usize,
    /// The newest leadership of which an entry was applied.
    seen: Option<LeaderKey>,
    /// Told when a batch is no longer waited for: the sequence after its last, and the word.
    batches: VecDeque<(u64, oneshot::Sender<()>)>,
}

/// Shared by those who propose and the state machine. Clones share it.
#[derive(Clone)]
pub(in crate::raft) struct Pending {
    origin: MemberId,
    run: u64,
    inner: Arc<Mutex<Inner>>,
}

impl Pending {
    pub(super) fn new(origin: MemberId, run: u64) -> Self {
        Self {
            origin,
            run,
            inner: Arc::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// Numbers a command and remembers who waits for it.
    pub(super) fn register(
        &self,
        principal: Principal,
        command: Command,
        bytes: usize,
        reply: Reply,
    ) -> Result<Proposal, Unavailable> {
        let mut inner = self.lock();
        if !inner.has_room(bytes) {
            // Those that were given up while there was no leader make room.
            inner.forget_abandoned();
        }
        if !inner.has_room(bytes) {
            return Err(Unavailable::TooManyRequests);
        }
        inner.requests += 1;
        inner.bytes += bytes;
        let sequence = inner.first + inner.waiting.len() as u64;
        inner.waiting.push_back(Some(Waiting {
            reply,
            bytes,
            sent: None,
            sent_at: Moment::now(),
        }));
        Ok(Proposal {
            origin: self.origin,
            run: self.run,
            sequence,
            principal,
            command,
        })
    }

    /// Notes that these are on their way to a log. Resolves when none of them is waited for any more.
    pub(super) fn sent(&self, batch: &[u64], to: LeaderKey) -> oneshot::Receiver<()> {
        let (all_answered, answered) = oneshot::channel();
        let now = Moment::now();
        let mut inner = self.lock();
        let mut end = inner.first;
        for &sequence in batch {
            end = end.max(sequence + 1);
            if let Some(waiting) = inner.at(sequence) {
                waiting.sent = Some(to);
                waiting.sent_at = now;
            }
        }
        if end <= inner.first {
            // Nobody waits any more; the receiver must still learn of it.
            let _ = all_answered.send(());
        } else {
            inner.batches.push_back((end, all_answered));
        }
        answered
    }

    /// Notes that these never left after all; returns those that somebody still waits for.
    pub(super) fn unsent(&self, proposals: impl Iterator<Item = Proposal>) -> Vec<Proposal> {
        let mut inner = self.lock();
        let wanted = proposals.filter(|proposal| match inner.at(proposal.sequence) {
            Some(waiting) => {
                waiting.sent = None;
                true
            }
            None => false,
        });
        wanted.collect()
    }

    /// The member whose proposals these are.
    pub(super) fn origin(&self) -> MemberId {
        self.origin
    }

    /// Answers what was applied, of entries that were committed by then. Of what was given up
    /// [`waits_for`](Self::waits_for) has heard before.
    pub(in crate::raft) fn resolve(&self, outcomes: Vec<(ProposalId, Answer)>, committed: Moment) {
        let mut inner = self.lock();
        for (id, outcome) in outcomes {
            if id.origin == self.origin && id.run == self.run {
                inner.answer(id.sequence, Ok((outcome, committed)));
            }
        }
        inner.tidy();
    }

    /// An entry of this leadership was applied: a proposal sent to an earlier one and not applied by now never will be,
    /// because entries of earlier leaders stand before those of later ones.
    pub(in crate::raft) fn leader_seen(&self, key: LeaderKey) {
        let mut inner = self.lock();
        if inner.seen.is_some_and(|seen| seen >= key) {
            return;
        }
        inner.seen = Some(key);
        inner.fail_where(|sent| sent.is_some_and(|sent| sent < key));
    }

    /// A snapshot took the place of entries: outcomes of what was sent may have been among them.
    pub(in crate::raft) fn jumped(&self) {
        self.lock().fail_where(|sent| sent.is_some());
    }

    /// Gives up on these.
    pub(super) fn fail(&self, sequences: impl IntoIterator<Item = u64>, why: Unavailable) {
        let mut inner = self.lock();
        for sequence in sequences {
            inner.answer(sequence, Err(why));
        }
        inner.tidy();
    }

    /// Whether a proposal that is being applied was made here, in this run of the process, by somebody who still waits.
    ///
    /// A proposal that was given up is forgotten here, since it will have no outcome. It would stand before all later
    /// ones for ever, and their batches would count as under way until no further one may leave.
    pub(in crate::raft) fn waits_for(&self, id: &ProposalId) -> bool {
        if id.origin != self.origin || id.run != self.run {
            return false;
        }
        let is_wanted = self.is_wanted(id.sequence);
        if !is_wanted {
            self.lock()
                .answer(id.sequence, Err(Unavailable::LeaderChanged));
        }
        is_wanted
    }

    /// Whether anyone still waits for this one.
    pub(super) fn is_wanted(&self, sequence: u64) -> bool {
        let mut inner = self.lock();
        inner
            .at(sequence)
            .is_some_and(|waiting| !waiting.reply.is_closed())
    }
}

impl Inner {
    fn has_room(&self, bytes: usize) -> bool {
        self.requests < REQUESTS_MAX && (self.bytes == 0 || self.bytes + bytes <= BYTES_MAX)
    }

    fn slot(&mut self, sequence: u64) -> Option<&mut Option<Waiting>> {
        let place = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.waiting.get_mut(place)
    }

    fn at(&mut self, sequence: u64) -> Option<&mut Waiting> {
        self.slot(sequence)?.as_mut()
    }

    fn answer(&mut self, sequence: u64, answer: Result<(Answer, Moment), Unavailable>) {
        let Some(waiting) = self.slot(sequence).and_then(Option::take) else {
            return;
        };
        self.requests -= 1;
        self.bytes -= waiting.bytes;
        let sent = waiting.sent_at;
        let answer = answer.map(|(answer, committed)| Proposed {
            answer,
            sent,
            committed,
        });
        // The waiter may have gone.
        let _ = waiting.reply.send(answer);
    }

    fn fail_where(&mut self, lost: impl Fn(Option<LeaderKey>) -> bool) {
        self.fail_each(|waiting| lost(waiting.sent));
    }

    fn forget_abandoned(&mut self) {
        self.fail_each(|waiting| waiting.reply.is_closed());
    }

    fn fail_each(&mut self, lost: impl Fn(&Waiting) -> bool) {
        let first = self.first;
        let places = (first..).zip(&self.waiting);
        let lost: Vec<u64> = places
            .filter(|(_, waiting)| waiting.as_ref().is_some_and(&lost))
            .map(|(sequence, _)| sequence)
            .collect();
        for sequence in lost {
            self.answer(sequence, Err(Unavailable::LeaderChanged));
        }
        self.tidy();
    }

    /// Drops answered ones from the front, and tells batches that are through.
    fn tidy(&mut self) {
        while let Some(None) = self.waiting.front() {
            self.waiting.pop_front();
            self.first += 1;
        }
        while self
            .batches
            .front()
            .is_some_and(|(end, _)| *end <= self.first)
        {
            let (_, answered) = self.batches.pop_front().expect("checked");
            let _ = answered.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{KvCommand, Outcome, Response, Revision};

    #[test]
    fn a_batch_ends_although_some_of_it_was_given_up() {
        let pending = Pending::new(MemberId(1), 7);
        let propose = || {
            let (reply, outcome) = oneshot::channel();
            let command = Command::Kv(KvCommand::Compact {
                revision: Revision(1),
            });
            let proposal = pending
                .register(Principal::System, command, 1, reply)
                .unwrap();
            (proposal.id(), outcome)
        };
        let (given_up, outcome) = propose();
        let (kept, mut waited_for) = propose();
        let sequences = [given_up.sequence, kept.sequence];
        let mut ended = pending.sent(&sequences, (1, MemberId(2)));
        drop(outcome);
        // As the state machine does.
        assert!(!pending.waits_for(&given_up) && pending.waits_for(&kept));
        let done = Answer::Done(Outcome {
            revision: Revision(1),
            result: Ok(Response::Done),
        });
        pending.resolve(vec![(kept, done)], Moment::now());
        assert!(matches!(
            waited_for.try_recv(),
            Ok(Ok(Proposed {
                answer: Answer::Done(_),
                ..
            }))
        ));
        assert_eq!(ended.try_recv(), Ok(()), "the next batch may leave");
        let mut alone = {
            let (given_up, outcome) = propose();
            let ended = pending.sent(&[given_up.sequence], (1, MemberId(2)));
            drop(outcome);
            assert!(!pending.waits_for(&given_up));
            ended
        };
        pending.resolve(Vec::new(), Moment::now());
        assert_eq!(alone.try_recv(), Ok(()), "also if nothing else was in it");
    }
}
