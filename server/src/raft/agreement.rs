//! Whether this member has applied what its leader has.
//!
//! Raft promises it only as long as no member forgets a promise. After a disk was put back from an older copy two
//! members may agree on another history than the third has applied, and openraft takes a position it once knew as
//! committed for committed ever after, without looking. A law that decides otherwise in another build and a flipped bit
//! have the same look. Members that differ give different answers to the same linearizable read, so one that finds out
//! stops.
//!
//! Each heartbeat carries the running hash (`state::RunningHash`) of what the leader has applied, and up to where; the
//! member compares as soon as it has applied as much. Two committed positions that cannot stand in one log are found
//! without a hash. A leader that a majority contradicts is itself the one that differs.

mod stop;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Moment;
use crate::command::{LeaderKey, LogPosition, MemberId};
use crate::state::RunningHash;
pub(super) use stop::Alarms;

/// Newest entries whose hash is kept. A heartbeat speaks of what the leader had applied when it was sent, and is on its way
/// while this member applies more: for a second or so at any pace that was measured.
const KEPT_MAX: usize = 4096;

/// Up to where something was applied, and the hash after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AppliedHash {
    pub(super) index: u64,
    pub(super) hash: RunningHash,
}

#[derive(Default)]
struct Inner {
    /// Hashes after the newest entries, without a gap.
    hashes: VecDeque<RunningHash>,
    /// The last of them.
    last: Option<LogPosition>,
    /// A hash that the leader has and this member has not reached yet.
    expected: Option<(LeaderKey, AppliedHash)>,
    /// And since when.
    found: Option<(Found, Moment)>,
    /// The leader has had time, and goes on.
    is_settled: bool,
    /// The findings of members that said they differ from this leader.
    differ: BTreeMap<MemberId, AppliedHash>,
    /// Members that refuse this leader, because they have applied what it lacks.
    refuse: BTreeSet<MemberId>,
    /// Those of both kinds whose alarm was raised.
    alarmed: BTreeSet<MemberId>,
    /// The leadership of `differ` and what stands below it.
    leads: Option<LeaderKey>,
    /// Whether its hash was once found to be its leader's.
    has_agreed: bool,
}

/// The fact that contradicts this member.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    /// Its leader's hash, and what it has instead.
    Hash {
        leadership: LeaderKey,
        theirs: RunningHash,
        ours: AppliedHash,
    },
    /// A committed position, for this reason.
    Position(String),
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    found: Notify,
    agreed: Notify,
    /// How long a leader is given to find out that it is the one that differs.
    patience: Duration,
}

/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct Agreement(Arc<Shared>);

const REMEDY: &str = "remove this member from the cluster, add it again and start it with an empty --data-dir and \
                      --initial-cluster-state=existing";

impl Agreement {
    pub(super) fn new(patience: Duration) -> Self {
        Self(Arc::new(Shared {
            patience,
            ..Shared::default()
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0
            .inner
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// An entry was applied: the one after the last.
    pub(super) fn applied(&self, at: LogPosition, hash: RunningHash) {
        let mut inner = self.lock();
        inner.hashes.push_back(hash);
        inner.last = Some(at);
        if inner.hashes.len() > KEPT_MAX {
            inner.hashes.pop_front();
        }
        if let Some((leadership, theirs)) = inner.expected
            && theirs.index <= at.index
        {
            inner.expected = None;
            self.compare(&mut inner, leadership, theirs);
        }
    }

    /// The state is another one now, at the start or by a snapshot.
    pub(super) fn begins(&self, at: Option<LogPosition>, hash: RunningHash) {
        let mut inner = self.lock();
        inner.hashes.clear();
        inner.hashes.extend(at.map(|_| hash));
        inner.last = at;
        inner.expected = None;
    }

    /// The newest entry applied, with the hash after it, for a leader to tell.
    pub(super) fn newest(&self) -> Option<AppliedHash> {
        let inner = self.lock();
        Some(AppliedHash {
            index: inner.last?.index,
            hash: *inner.hashes.back()?,
        })
    }

    /// The newest entry applied.
    pub(super) fn newest_position(&self) -> Option<LogPosition> {
        self.lock().last
    }

    /// A leader says what it has applied. Answers what this member has instead, if it differs.
    pub(super) fn told(&self, leadership: LeaderKey, theirs: AppliedHash) -> Option<AppliedHash> {
        let mut inner = self.lock();
        if inner.last.is_none_or(|last| last.index < theirs.index) {
            // The first is reached first; of an older leadership nothing more is heard.
            let is_kept = inner.expected.is_some_and(|(of, _)| of == leadership);
            if !is_kept {
                inner.expected = Some((leadership, theirs));
            }
        } else {
            self.compare(&mut inner, leadership, theirs);
        }
        match inner.found.clone()? {
            (
                Found::Hash {
                    leadership: of,
                    ours,
                    ..
                },
                since,
            ) if of == leadership => {
                if Moment::now().since(since) >= self.0.patience {
                    inner.is_settled = true;
                    self.0.found.notify_one();
                }
                Some(ours)
            }
            (Found::Hash { .. }, _) => {
                // That leader is gone, perhaps because it was the one that differed.
                inner.found = None;
                None
            }
            (Found::Position(_), _) => None,
        }
    }

    /// Another member says what is committed. Whether this one can have it; if not, it ends.
    pub(super) fn committed(&self, theirs: LogPosition) -> bool {
        let mut inner = self.lock();
        if let Some(ours) = inner.last
            && let Some(why) = contradiction(ours, theirs)
        {
            inner.found = Some((Found::Position(why), Moment::now()));
            inner.is_settled = true;
            self.0.found.notify_one();
            return false;
        }
        true
    }

    /// Whether a leader may go on after, or with, `theirs`, where `committed` is known to be committed here. If not, this
    /// member ends.
    ///
    /// Only of a leader that this member follows or would follow: it was elected by a majority that had all that was
    /// committed, so it has `committed` too. openraft does not look: at and below what is committed it takes every position
    /// for its own.
    pub(super) fn may_follow(&self, committed: LogPosition, theirs: LogPosition) -> bool {
        let mut inner = self.lock();
        let ours = match inner.last {
            Some(applied) if applied.index > committed.index => applied,
            Some(_) | None => committed,
        };
        if theirs.index > ours.index {
            return true;
        }
        let Some(why) = contradiction(ours, theirs) else {
            return true;
        };
        inner.found = Some((Found::Position(why), Moment::now()));
        inner.is_settled = true;
        self.0.found.notify_one();
        false
    }

    fn compare(&self, inner: &mut Inner, leadership: LeaderKey, theirs: AppliedHash) {
        let Some(ours) = inner.at(theirs.index) else {
            return;
        };
        if ours == theirs.hash && !inner.has_agreed {
            inner.has_agreed = true;
            self.0.agreed.notify_waiters();
        }
        if ours != theirs.hash && inner.found.is_none() {
            let found = Found::Hash {
                leadership,
                theirs: theirs.hash,
                ours: AppliedHash {
                    index: theirs.index,
                    hash: ours,
                },
            };
            inner.found = Some((found, Moment::now()));
        }
    }

    /// A member says what it has where this one, which leads, has told it otherwise.
    pub(super) fn differs(&self, leadership: LeaderKey, member: MemberId, theirs: AppliedHash) {
        let mut inner = self.lock();
        inner.lead(leadership);
        if inner.differ.insert(member, theirs) != Some(theirs) {
            tracing::error!(
                %member,
                index = theirs.index,
                hash = %theirs.hash,
                "a member's applied log is not this leader's"
            );
            self.0.found.notify_one();
        }
    }

    /// A member refuses this one, which leads, because it has applied what is not in this leader's log.
    pub(super) fn refuses(&self, leadership: LeaderKey, member: MemberId) {
        let mut inner = self.lock();
        inner.lead(leadership);
        if inner.refuse.insert(member) {
            tracing::error!(%member, "a member has applied entries that are not in this leader's log");
            self.0.found.notify_one();
        }
    }

    /// The members that differ from this one, which leads, and whose alarm was not raised yet.
    fn to_alarm(&self) -> Vec<MemberId> {
        let inner = self.lock();
        let found = inner.differ.keys().chain(&inner.refuse);
        let found: BTreeSet<MemberId> = found.copied().collect();
        found.difference(&inner.alarmed).copied().collect()
    }

    fn was_alarmed(&self, member: MemberId) {
        self.lock().alarmed.insert(member);
    }

    /// Resolves once this member's hash was found to be a leader's.
    pub(super) async fn agreed(&self) {
        let mut agreed = std::pin::pin!(self.0.agreed.notified());
        // First listen, then look: the other order misses what is found in between.
        agreed.as_mut().enable();
        if !self.lock().has_agreed {
            agreed.await;
        }
    }

    /// Why this member, which leads, is the one that differs: a majority of each set of `voters` has the same, and it has
    /// something else.
    fn is_outvoted(&self, voters: &[BTreeSet<MemberId>]) -> Option<String> {
        let inner = self.lock();
        inner.differ.values().find_map(|theirs| {
            let ours = inner.at(theirs.index)?;
            let has_it = |member: &&MemberId| inner.differ.get(*member) == Some(theirs);
            let is_majority =
                |set: &BTreeSet<MemberId>| set.iter().filter(has_it).count() * 2 > set.len();
            let is_outvoted = ours != theirs.hash && voters.iter().all(is_majority);
            (is_outvoted && !voters.is_empty()).then(|| {
                format!(
                    "this member's applied log is not that of the others: after entry {} its running hash is {ours}, that of a \
                     majority is {}: {REMEDY}",
                    theirs.index, theirs.hash
                )
            })
        })
    }

    /// Why this member must end, if it must.
    fn verdict(&self, voters: &[BTreeSet<MemberId>]) -> Option<String> {
        if let Some(why) = self.is_outvoted(voters) {
            return Some(why);
        }
        let inner = self.lock();
        let (found, _) = inner.found.as_ref().filter(|_| inner.is_settled)?;
        Some(match found {
            Found::Position(why) => why.clone(),
            Found::Hash {
                leadership: (_, leader),
                theirs,
                ours: AppliedHash { index, hash },
            } => format!(
                "this member's applied log is not its leader's: after entry {index} its running hash is {hash}, that of leader \
                 {leader} is {theirs}: {REMEDY}"
            ),
        })
    }
}

impl Inner {
    /// The word of others is about this leadership from here on.
    fn lead(&mut self, leadership: LeaderKey) {
        if self.leads != Some(leadership) {
            self.leads = Some(leadership);
            self.differ.clear();
            self.refuse.clear();
            self.alarmed.clear();
        }
    }

    fn at(&self, index: u64) -> Option<RunningHash> {
        let back = self.last?.index.checked_sub(index)?;
        let place = self.hashes.len().checked_sub(1)?;
        let place = place.checked_sub(usize::try_from(back).ok()?)?;
        self.hashes.get(place).copied()
    }
}

/// Why two committed positions cannot be of one log; `None` if they can.
///
/// Leaders only ever grow along a log, and a committed entry stays.
pub(super) fn contradiction(ours: LogPosition, theirs: LogPosition) -> Option<String> {
    let leads = |position: LogPosition| (position.term, position.leader);
    let is_possible = match theirs.index.cmp(&ours.index) {
        std::cmp::Ordering::Less => leads(theirs) <= leads(ours),
        std::cmp::Ordering::Equal => leads(theirs) == leads(ours),
        std::cmp::Ordering::Greater => leads(theirs) >= leads(ours),
    };
    let of = |position: LogPosition| {
        let LogPosition {
            term,
            leader,
            index,
        } = position;
        format!("entry {index} of term {term}, leader {leader}")
    };
    (!is_possible).then(|| {
        format!(
            "this member's applied log is not the cluster's: it has applied {}, where {} is the cluster's; both cannot be of \
             one log, so a disk was put back from an older copy: {REMEDY}",
            of(ours),
            of(theirs)
        )
    })
}

#[cfg(test)]
mod tests;
