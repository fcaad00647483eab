//! The queue of what waits to be proposed, and the one task that takes from it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::{BoxFuture, Either, select};
use futures::stream::{FuturesUnordered, StreamExt};
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use tokio::sync::{Notify, mpsc, watch};

use super::pending::Pending;
use crate::clock;
use crate::command::{Envelope, LeaderKey, Proposal, Unavailable, UnixMillis, codec};
use crate::raft::core::Core;
use crate::raft::leadership::{Leadership, RETRY_PAUSE};
use crate::raft::peer::{LeaderLink, Lost};
use crate::state;
use crate::wal::Proposals;

/// Bytes of proposals in one log entry: bounds the time one takes to write, send and apply.
const ENTRY_BYTES_MAX: usize = 1 << 20;
/// Entries, or messages to the leader, under way. With two the next one fills while one is written and one applied; more
/// were measured to bring nothing.
const IN_FLIGHT_MAX: usize = 2;
/// Bytes that members may have waiting at the leader; one batch that is larger by itself waits alone.
const FORWARDED_BYTES_MAX: usize = 64 << 20;

/// A member's batch that arrived at the leader.
pub(in crate::raft) struct Forwarded {
    /// The leadership it was sent to.
    pub(in crate::raft) to: LeaderKey,
    pub(in crate::raft) proposals: Vec<Proposal>,
    pub(in crate::raft) bytes: usize,
    /// Told only if nothing of it will be done.
    pub(in crate::raft) refused: mpsc::Sender<(u64, Unavailable)>,
    pub(in crate::raft) number: u64,
}

impl Forwarded {
    fn refuse(self, why: Unavailable) {
        // The member may be gone, or read nothing of what it is told.
        let _ = self.refused.try_send((self.number, why));
    }
}

enum Item {
    Own(Proposal, usize),
    Forwarded(Forwarded),
}

#[derive(Default)]
struct Queue {
    items: VecDeque<Item>,
    forwarded_bytes: usize,
}

/// The proposals that wait to be proposed.
pub(in crate::raft) struct Gather {
    queue: Mutex<Queue>,
    wake: Notify,
    /// The largest envelope that the log takes.
    entry_bytes_max: usize,
}

impl Gather {
    pub(super) fn new(entry_bytes_max: usize) -> Self {
        Self {
            queue: Mutex::default(),
            wake: Notify::new(),
            entry_bytes_max,
        }
    }

    /// The most that the proposals of one entry may take together.
    pub(super) fn batch_bytes_max(&self) -> usize {
        self.entry_bytes_max - codec::ENVELOPE_HEAD_BYTES_MAX
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    pub(super) fn push(&self, proposal: Proposal, bytes: usize) {
        self.lock().items.push_back(Item::Own(proposal, bytes));
        self.wake.notify_one();
    }

    /// Takes a member's batch, or refuses it.
    pub(in crate::raft) fn push_forwarded(&self, batch: Forwarded) {
        {
            let mut queue = self.lock();
            let waiting = queue.forwarded_bytes;
            if batch.bytes > self.batch_bytes_max()
                || waiting > 0 && waiting + batch.bytes > FORWARDED_BYTES_MAX
            {
                drop(queue);
                batch.refuse(Unavailable::TooManyRequests);
                return;
            }
            queue.forwarded_bytes += batch.bytes;
            queue.items.push_back(Item::Forwarded(batch));
        }
        self.wake.notify_one();
    }

    /// Takes what fits in one entry. Own proposals that nobody waits for any more are dropped, members' batches that
    /// were sent to another leadership, or arrive where none is, are refused.
    fn take(&self, leads: Option<LeaderKey>, pending: &Pending) -> Taken {
        let mut queue = self.lock();
        let mut taken = Taken::default();
        let mut bytes = 0;
        while let Some(item) = queue.items.front() {
            let size = match item {
                Item::Own(_, size) => *size,
                Item::Forwarded(batch) => batch.bytes,
            };
            if bytes > 0 && bytes + size > ENTRY_BYTES_MAX.min(self.batch_bytes_max()) {
                break;
            }
            match queue.items.pop_front().expect("it is at the front") {
                Item::Own(proposal, _) if pending.is_wanted(proposal.sequence) => {
                    taken.own.push(taken.proposals.len());
                    taken.proposals.push(proposal);
                    bytes += size;
                }
                Item::Own(proposal, _) => {
                    pending.fail([proposal.sequence], Unavailable::Timeout);
                }
                Item::Forwarded(mut batch) => {
                    queue.forwarded_bytes -= batch.bytes;
                    if leads == Some(batch.to) {
                        taken.proposals.append(&mut batch.proposals);
                        taken.forwarded.push(batch);
                        bytes += size;
                    } else {
                        batch.refuse(Unavailable::LeaderChanged);
                    }
                }
            }
        }
        taken
    }

    /// Puts proposals back where they were: before all that came later, and after what an earlier batch has put back.
    fn put_back(&self, proposals: Vec<Proposal>) {
        let mut queue = self.lock();
        for proposal in proposals.into_iter().rev() {
            let is_later = |item: &Item| matches!(item, Item::Own(later, _) if later.sequence > proposal.sequence);
            let place = queue.items.iter().position(is_later);
            let place = place.unwrap_or(queue.items.len());
            let bytes = codec::proposal_bytes(&proposal.principal, &proposal.command);
            queue.items.insert(place, Item::Own(proposal, bytes));
        }
    }

    fn refuse_forwarded(&self) {
        let mut queue = self.lock();
        let items = std::mem::take(&mut queue.items);
        for item in items {
            match item {
                Item::Own(..) => queue.items.push_back(item),
                Item::Forwarded(batch) => batch.refuse(Unavailable::LeaderChanged),
            }
        }
        queue.forwarded_bytes = 0;
    }
}

/// One entry's worth.
#[derive(Default)]
struct Taken {
    proposals: Vec<Proposal>,
    /// Places in `proposals` of those that were made here.
    own: Vec<usize>,
    forwarded: Vec<Forwarded>,
}

impl Taken {
    fn own_sequences(&self) -> Vec<u64> {
        self.own
            .iter()
            .map(|&place| self.proposals[place].sequence)
            .collect()
    }
}

/// Takes from the queue for as long as the process runs.
pub(in crate::raft) async fn run(
    gather: Arc<Gather>,
    pending: Pending,
    state: state::Handle,
    core: Core,
    link: LeaderLink,
    mut leadership: watch::Receiver<Leadership>,
) {
    let mut in_flight: FuturesUnordered<BoxFuture<'static, ()>> = FuturesUnordered::new();
    loop {
        let now = *leadership.borrow_and_update();
        if !now.is_self {
            gather.refuse_forwarded();
        }
        if let Some(key) = now.key() {
            while in_flight.len() < IN_FLIGHT_MAX {
                let taken = gather.take(now.is_self.then_some(key), &pending);
                if taken.proposals.is_empty() {
                    break;
                }
                let level = state.feature_level();
                let batch = if now.is_self {
                    write(&gather, &core, &pending, taken, key, level).await
                } else {
                    send(&gather, &link, &pending, taken, key, level)
                };
                in_flight.push(batch);
            }
        }
        tokio::select! {
            () = gather.wake.notified() => {}
            Some(()) = in_flight.next() => {}
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

/// Appends an entry to the log, as its leader. The future ends when this member has applied it or it is lost.
async fn write(
    gather: &Arc<Gather>,
    core: &Core,
    pending: &Pending,
    taken: Taken,
    key: LeaderKey,
    feature_level: u32,
) -> BoxFuture<'static, ()> {
    let own = taken.own_sequences();
    // The word that they are through is openraft's here.
    drop(pending.sent(&own, key));
    let Taken {
        proposals,
        forwarded,
        ..
    } = taken;
    let envelope = Envelope {
        feature_level,
        leader_time: clock::wall(),
        proposals,
    };
    let bytes = codec::encode_envelope(&envelope);
    let entry = Proposals::new(bytes, envelope);
    let (responder, complete) = ProgressResponder::complete_only();
    let leader = openraft::impls::leader_id_adv::LeaderId {
        term: key.0,
        node_id: key.1.0,
    };
    let submitted = core
        .write(entry.clone())
        .with_leader(leader)
        .responder(responder)
        .await;
    let (gather, pending) = (gather.clone(), pending.clone());
    Box::pin(async move {
        let lost = match submitted {
            Ok(()) => match complete.await {
                Ok(Ok(_)) => return,
                // Refused before it was appended.
                Ok(Err(ClientWriteError::ForwardToLeader(_))) => {
                    Lost::Undone(Unavailable::LeaderChanged)
                }
                Ok(Err(_)) | Err(_) => Lost::Unknown,
            },
            Err(_) => Lost::Undone(Unavailable::Stopped),
        };
        for batch in forwarded {
            match lost {
                Lost::Undone(why) => batch.refuse(why),
                // Its member learns it from the next leader's first entry.
                Lost::Unknown => {}
            }
        }
        let proposals = entry
            .take_envelope(codec::decode_envelope)
            .map(|envelope| envelope.proposals);
        lose(&gather, &pending, own, proposals.unwrap_or_default(), lost).await;
    })
}

/// Sends a batch to the leader. The future ends when none of it is waited for any more.
fn send(
    gather: &Arc<Gather>,
    link: &LeaderLink,
    pending: &Pending,
    taken: Taken,
    key: LeaderKey,
    feature_level: u32,
) -> BoxFuture<'static, ()> {
    let own = taken.own_sequences();
    let answered = pending.sent(&own, key);
    let envelope = Envelope {
        feature_level,
        leader_time: UnixMillis::default(),
        proposals: taken.proposals,
    };
    let lost = link.propose(key, codec::encode_envelope(&envelope));
    let (gather, pending) = (gather.clone(), pending.clone());
    Box::pin(async move {
        match select(answered, Box::pin(lost)).await {
            Either::Left(_) => {}
            Either::Right((lost, _)) => {
                lose(&gather, &pending, own, envelope.proposals, lost).await
            }
        }
    })
}

/// Proposals that were certainly not done wait for the next leader; those that may have been done are answered as
/// unknown.
async fn lose(
    gather: &Gather,
    pending: &Pending,
    own: Vec<u64>,
    proposals: Vec<Proposal>,
    lost: Lost,
) {
    match lost {
        Lost::Undone(Unavailable::NoLeader | Unavailable::LeaderChanged) => {
            // Or a leader that cannot be reached would be asked in a tight loop.
            tokio::time::sleep(RETRY_PAUSE).await;
            let own = proposals
                .into_iter()
                .filter(|proposal| proposal.origin == pending.origin());
            gather.put_back(pending.unsent(own));
        }
        Lost::Undone(why) => pending.fail(own, why),
        Lost::Unknown => pending.fail(own, Unavailable::LeaderChanged),
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::command::{Command, KvCommand, MemberId, Principal, Revision};
    use crate::raft::propose::pending::Proposed;

    /// Makes a proposal that somebody waits for.
    fn propose(
        gather: &Gather,
        pending: &Pending,
    ) -> oneshot::Receiver<Result<Proposed, Unavailable>> {
        let (reply, outcome) = oneshot::channel();
        let command = Command::Kv(KvCommand::Compact {
            revision: Revision(1),
        });
        let proposal = pending
            .register(Principal::System, command, 1, reply)
            .unwrap();
        gather.push(proposal, 1);
        outcome
    }

    #[tokio::test(start_paused = true)]
    async fn what_refused_batches_held_is_proposed_again_whole_and_in_order() {
        let (gather, pending) = (Gather::new(1 << 20), Pending::new(MemberId(1), 1));
        let leader = (1, MemberId(2));
        let send = || {
            let taken = gather.take(None, &pending);
            let own = taken.own_sequences();
            drop(pending.sent(&own, leader));
            (own, taken.proposals)
        };
        let refused = Lost::Undone(Unavailable::LeaderChanged);
        let _waiting: Vec<_> = (0..3).map(|_| propose(&gather, &pending)).collect();
        let first = send();
        let _more: Vec<_> = (0..3).map(|_| propose(&gather, &pending)).collect();
        let second = send();
        for (own, proposals) in [first, second] {
            lose(&gather, &pending, own, proposals, refused).await;
        }
        // And once more, all six in one batch: an outcome that is forgotten is one that somebody waits for in vain, and it
        // holds up every later batch.
        let (own, proposals) = send();
        assert_eq!(own, [0, 1, 2, 3, 4, 5]);
        lose(&gather, &pending, own, proposals, refused).await;
        assert_eq!(send().0, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn batches_of_members_are_bounded_in_bytes() {
        let gather = Gather::new(2 * FORWARDED_BYTES_MAX);
        let (refused, mut refusals) = mpsc::channel(9);
        let batch = |number, bytes| Forwarded {
            to: (1, MemberId(1)),
            proposals: Vec::new(),
            bytes,
            refused: refused.clone(),
            number,
        };
        gather.push_forwarded(batch(1, FORWARDED_BYTES_MAX - 1));
        gather.push_forwarded(batch(2, 1));
        gather.push_forwarded(batch(3, 1));
        assert_eq!(refusals.try_recv(), Ok((3, Unavailable::TooManyRequests)));
        assert!(refusals.try_recv().is_err(), "the others wait");
        gather.refuse_forwarded();
        gather.push_forwarded(batch(4, FORWARDED_BYTES_MAX + 1));
        gather.push_forwarded(batch(5, 1));
        let told: Vec<_> = std::iter::from_fn(|| refusals.try_recv().ok()).collect();
        let (changed, many) = (Unavailable::LeaderChanged, Unavailable::TooManyRequests);
        let expected = [(1, changed), (2, changed), (5, many)];
        assert_eq!(
            told, expected,
            "there is room again, for one that is larger"
        );
    }
}
