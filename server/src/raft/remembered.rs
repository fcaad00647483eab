//! This member's memory of the others, so that none can come back without what it promised.
//!
//! A member votes and acknowledges entries on the strength of its disk. A disk that is put back from an older copy
//! has forgotten votes and entries that a majority counts on. Its member may elect a leader that lacks acknowledged
//! entries, and no rule of Raft sees it. The others do: a member that got its vote or its acknowledgement knows that
//! it must have been durable there. So each member keeps, of each other, the highest vote it was shown and how far
//! the other's log reached under it, in memory and, soon after, in its log. A member that starts asks all of them,
//! before it votes or serves, and again while it runs until each has answered once; one that holds less than any of
//! them remembers ends itself.
//!
//! Not seen: what only members that cannot be asked remember; and the last second before a member that remembers was
//! itself killed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{Notify, watch};

use super::agreement;
use super::membership::Membership;
use super::peer::{self, Peers};
use super::removal::say;
use super::types::Members;
use crate::command::{LeaderKey, LogPosition, MemberId};
use crate::failpoints::{self, Bug};
use crate::wal::{PeerMemory, Wal};

/// Votes of this process that are kept.
const EARLIER_MAX: usize = 4096;
/// How soon an acknowledgement is written down. Votes are at once.
const WRITE_PAUSE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Inner {
    of: BTreeMap<MemberId, PeerMemory>,
    /// Not handed to the log yet.
    is_dirty: bool,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    /// There is something to write.
    dirty: Notify,
    /// .. that is worth to be written at once.
    voted: Notify,
}

/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct Remembered(Arc<Shared>);

/// A member's answer about the one that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) memory: Option<PeerMemory>,
    /// The newest committed position, as far as the answerer has applied it.
    pub(super) committed: Option<LogPosition>,
}

/// This member's promises since it started, and the contents of its disk then: for each vote it had, the end of the log
/// when it was replaced, and now for the newest. Clones share it.
#[derive(Clone)]
pub(super) struct Promised(Arc<Mutex<Promises>>);

struct Promises {
    /// The leadership that the disk knew last.
    first: Option<LeaderKey>,
    /// The last position that its state had applied.
    applied: Option<LogPosition>,
    /// Earlier votes: the term, the leader, and the end of the log under it.
    earlier: BTreeMap<LeaderKey, u64>,
}

/// The leadership that a log knows last: that of its vote, or of an entry of a state that was taken from another member.
fn newest(wal: &Wal) -> Option<LeaderKey> {
    let vote = wal.vote().map(|vote| (vote.term, vote.leader));
    let last = wal.ends().last.map(|last| (last.term, last.leader));
    vote.max(last)
}

/// Where a log ends: the index after its last entry.
fn end(last: Option<LogPosition>) -> u64 {
    last.map_or(0, |last| last.index + 1)
}

impl Promised {
    /// The contents of log and state at the start.
    pub(super) fn at_start(wal: &Wal, applied: Option<LogPosition>) -> Self {
        Self(Arc::new(Mutex::new(Promises {
            first: newest(wal),
            applied,
            earlier: BTreeMap::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Promises> {
        self.0
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// The vote is about to be replaced.
    pub(super) fn replaces_vote(&self, wal: &Wal) {
        if let Some(leadership) = newest(wal) {
            let mut promises = self.lock();
            let reached = end(wal.ends().last);
            promises.earlier.insert(leadership, reached);
            // A process that sees more elections than this in its life has a fault of its own.
            while promises.earlier.len() > EARLIER_MAX {
                promises.earlier.pop_first();
            }
        }
    }
}

impl Remembered {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0
            .inner
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// Restores the memory that the log holds.
    pub(super) fn restore(&self, peers: &[PeerMemory]) {
        self.lock().of = peers.iter().map(|peer| (peer.member, *peer)).collect();
    }

    /// `member` has this vote, durably.
    pub(super) fn voted(&self, member: MemberId, (term, leader): LeaderKey) {
        self.note(PeerMemory {
            member,
            term,
            leader,
            acknowledged: 0,
        });
    }

    /// `member` follows this leader, and has its log up to `index`, durably.
    pub(super) fn acknowledged(&self, member: MemberId, (term, leader): LeaderKey, index: u64) {
        self.note(PeerMemory {
            member,
            term,
            leader,
            acknowledged: index + 1,
        });
    }

    fn note(&self, now: PeerMemory) {
        let mut inner = self.lock();
        let order = |memory: &PeerMemory| (memory.term, memory.leader, memory.acknowledged);
        let known = inner.of.get(&now.member).copied();
        if known.is_some_and(|known| order(&known) >= order(&now)) {
            return;
        }
        inner.of.insert(now.member, now);
        let was_dirty = std::mem::replace(&mut inner.is_dirty, true);
        if !was_dirty {
            self.0.dirty.notify_one();
        }
        if known.is_none_or(|known| (known.term, known.leader) != (now.term, now.leader)) {
            self.0.voted.notify_one();
        }
    }

    /// The memory of a member.
    pub(super) fn of(&self, member: MemberId) -> Option<PeerMemory> {
        self.lock().of.get(&member).copied()
    }

    /// Whether `member` has acknowledged entry `index` to this leader.
    pub(super) fn has_acknowledged(
        &self,
        member: MemberId,
        leadership: LeaderKey,
        index: u64,
    ) -> bool {
        self.of(member).is_some_and(|memory| {
            (memory.term, memory.leader) == leadership && memory.acknowledged > index
        })
    }

    /// Writes down what is remembered of those who are members.
    pub(super) async fn keep(self, wal: Wal, membership: Membership) {
        loop {
            self.0.dirty.notified().await;
            // A heartbeat's worth of news is not worth a write of its own.
            let _ = tokio::time::timeout(WRITE_PAUSE, self.0.voted.notified()).await;
            let members = membership.effective();
            let peers: Vec<PeerMemory> = {
                let mut inner = self.lock();
                inner.is_dirty = false;
                if !members.is_empty() {
                    let is_member = |member: &MemberId| members.iter().any(|(id, ..)| id == member);
                    inner.of.retain(|member, _| is_member(member));
                }
                inner.of.values().copied().collect()
            };
            if wal.save_peers(&peers).is_err() {
                // The log is dead, and the process ends for it.
                return;
            }
        }
    }
}

impl Promises {
    /// Why the disk that this member started with is not the one that `from` remembers; `None` if it may be.
    ///
    /// `now` and `reached` are the leadership and the end of its log by now.
    fn missing(
        &self,
        (now, reached): (Option<LeaderKey>, u64),
        from: MemberId,
        answer: &Answer,
    ) -> Option<String> {
        const REMEDY: &str = "remove this member from the cluster, add it again and start it with an empty --data-dir and \
                              --initial-cluster-state=existing";
        if failpoints::has(Bug::OlderCopyRuns) {
            return None;
        }
        if let (Some(ours), Some(theirs)) = (self.applied, answer.committed)
            && let Some(why) = agreement::contradiction(ours, theirs)
        {
            return Some(why);
        }
        let PeerMemory {
            member: _,
            term,
            leader,
            acknowledged,
        } = answer.memory?;
        let remembered = (term, leader);
        // Under one leader a log only grows; entries of an earlier one may have been taken back since.
        let reached = match now {
            Some(now) if now == remembered => Some(reached),
            Some(_) | None => self.earlier.get(&remembered).copied(),
        };
        match reached {
            Some(reached) if reached >= acknowledged => None,
            Some(reached) => Some(format!(
                "this data directory is an older copy: member {from} remembers that this member acknowledged entry {} to \
                 leader {leader} of term {term}, and the log here ends at entry {}: {REMEDY}",
                acknowledged - 1,
                reached.saturating_sub(1),
            )),
            None if Some(remembered) < self.first => None,
            None => Some(format!(
                "this data directory is an older copy: member {from} remembers this member's vote for {leader} in term {term}, \
                 and the last vote here was of term {}: {REMEDY}",
                self.first.map_or(0, |(term, _)| term),
            )),
        }
    }
}

/// Asks these, all at once.
///
/// Answers who did not answer. Errors: why this member must not run.
async fn ask(
    peers: &Peers,
    promised: &Promised,
    wal: &Wal,
    members: Vec<(MemberId, Vec<String>)>,
) -> Result<Vec<MemberId>, String> {
    let asked = members.into_iter().map(|(member, urls)| async move {
        let answer = peer::ask::remembered(peers, member, &urls).await;
        (member, answer)
    });
    let mut silent = Vec::new();
    for (member, answer) in futures::future::join_all(asked).await {
        match answer {
            Some(answer) => {
                // Looked at now: promises made while the answer was on its way are in both.
                let holds = (newest(wal), end(wal.ends().last));
                if let Some(why) = promised.lock().missing(holds, member, &answer) {
                    return Err(why);
                }
            }
            None => silent.push(member),
        }
    }
    Ok(silent)
}

/// Asks all other members, before this one votes or serves.
///
/// Errors: why it must not.
pub(super) async fn at_start(
    own: MemberId,
    peers: &Peers,
    wal: &Wal,
    applied: Option<LogPosition>,
    members: &Members,
) -> Result<(), String> {
    let others = members.nodes().filter(|(id, _)| **id != own.0);
    let others = others.map(|(id, place)| (MemberId(*id), place.peer_urls.clone()));
    let promised = Promised::at_start(wal, applied);
    let silent = ask(peers, &promised, wal, others.collect()).await?;
    if !silent.is_empty() {
        tracing::debug!(?silent, "will be asked again what they remember");
    }
    Ok(())
}

/// Asks, while this member runs, all others until each has answered once.
pub(super) async fn watch(
    own: MemberId,
    membership: Membership,
    peers: Peers,
    (promised, wal): (Promised, Wal),
    pause: Duration,
    stop: watch::Sender<Option<String>>,
) {
    let mut answered: Vec<MemberId> = Vec::new();
    loop {
        let members = membership.effective();
        let is_left = |member: &MemberId| *member != own && !answered.contains(member);
        let left: Vec<(MemberId, Vec<String>)> = members
            .iter()
            .filter(|(member, ..)| is_left(member))
            .map(|(member, urls, _)| (*member, urls.clone()))
            .collect();
        if left.is_empty() && !members.is_empty() {
            return;
        }
        let asked: Vec<MemberId> = left.iter().map(|(member, _)| *member).collect();
        match ask(&peers, &promised, &wal, left).await {
            Ok(silent) => {
                answered.extend(asked.into_iter().filter(|member| !silent.contains(member)));
            }
            Err(why) => return say(&stop, why),
        }
        tokio::time::sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(term: u64, leader: u64) -> Option<LeaderKey> {
        Some((term, MemberId(leader)))
    }

    fn memory(term: u64, leader: u64, acknowledged: u64) -> PeerMemory {
        PeerMemory {
            member: MemberId(3),
            term,
            leader: MemberId(leader),
            acknowledged,
        }
    }

    fn is_refused(vote: Option<LeaderKey>, reached: u64, memory: PeerMemory) -> bool {
        let promises = Promises {
            first: vote,
            applied: None,
            earlier: BTreeMap::new(),
        };
        let answer = Answer {
            memory: Some(memory),
            committed: None,
        };
        let missing = promises.missing((vote, reached), MemberId(1), &answer);
        missing.is_some()
    }

    #[test]
    fn a_disk_that_holds_what_is_remembered_is_no_older_copy() {
        assert!(!is_refused(vote(2, 1), 10, memory(2, 1, 10)));
        assert!(!is_refused(vote(2, 1), 13, memory(2, 1, 10)));
        // Entries that the leader of term 2 sent may have been taken back by that of term 3.
        assert!(!is_refused(vote(3, 1), 5, memory(2, 1, 10)));
        assert!(!is_refused(vote(2, 2), 5, memory(2, 1, 10)));
        assert!(!is_refused(vote(1, 1), 0, memory(1, 1, 0)));
    }

    #[test]
    fn a_disk_that_lacks_what_is_remembered_is_an_older_copy() {
        assert!(is_refused(vote(2, 1), 9, memory(2, 1, 10)));
        assert!(is_refused(vote(2, 1), 0, memory(2, 1, 1)));
        assert!(is_refused(vote(1, 2), 21, memory(2, 1, 10)));
        assert!(is_refused(vote(2, 1), 21, memory(2, 2, 0)));
        assert!(is_refused(None, 0, memory(1, 1, 0)));
    }

    #[test]
    fn what_was_promised_since_the_start_is_told_from_what_the_disk_forgot() {
        // It had voted in term 2 when it started, and has followed terms 3 and 5 since.
        let promises = Promises {
            first: vote(2, 1),
            applied: None,
            earlier: BTreeMap::from([((2, MemberId(1)), 6), ((3, MemberId(2)), 9)]),
        };
        let is_refused = |memory| {
            let answer = Answer {
                memory: Some(memory),
                committed: None,
            };
            let missing = promises.missing((vote(5, 1), 20), MemberId(1), &answer);
            missing.is_some()
        };
        assert!(!is_refused(memory(5, 1, 20)));
        assert!(!is_refused(memory(3, 2, 9)));
        assert!(!is_refused(memory(2, 1, 6)));
        assert!(!is_refused(memory(1, 3, 30)));
        assert!(is_refused(memory(4, 3, 0)), "a vote it never gave");
        assert!(is_refused(memory(2, 1, 7)), "entries it never had");
    }

    #[test]
    fn only_what_came_last_is_remembered() {
        let remembered = Remembered::default();
        let member = MemberId(3);
        remembered.acknowledged(member, (1, MemberId(1)), 9);
        remembered.acknowledged(member, (1, MemberId(1)), 4);
        assert_eq!(remembered.of(member), Some(memory(1, 1, 10)));
        assert!(remembered.has_acknowledged(member, (1, MemberId(1)), 9));
        assert!(!remembered.has_acknowledged(member, (1, MemberId(1)), 10));
        assert!(!remembered.has_acknowledged(member, (1, MemberId(2)), 9));
        // A vote says nothing of the log that is there when it is given.
        remembered.voted(member, (2, MemberId(2)));
        assert_eq!(remembered.of(member), Some(memory(2, 2, 0)));
        remembered.acknowledged(member, (1, MemberId(1)), 20);
        assert_eq!(remembered.of(member), Some(memory(2, 2, 0)));
        assert_eq!(remembered.of(MemberId(4)), None);
    }
}
