//! The leader's countdown, and how much of it each other member knows.
//!
//! Each member is told the whole countdown once, then every change, in order and without a gap; what it has not
//! acknowledged is told again. Pure: Raft's heartbeats carry it (`raft::sideband`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::counted::Counted;
use super::deadlines::Deadlines;
use super::wire::{Ack, Delta, LeaderMillis, Table};
use crate::clock::Moment;
use crate::command::{LeaderKey, MemberId};

/// Changes in one heartbeat: a quarter of a megabyte, which must not hold it up.
const CHANGES_MAX: usize = 16 * 1024;
/// Changes that may wait for one member beyond one for each lease. One that stays away longer is told the whole anew.
const WAITING_MAX: usize = 64 * 1024;
/// A member that has nothing to learn is still told the time this often.
pub(super) const QUIET_MAX: Duration = Duration::from_millis(100);

/// One leadership's countdown.
#[derive(Debug)]
pub(super) struct Broadcast {
    leadership: LeaderKey,
    /// Where the leadership's clock is at zero.
    zero: Moment,
    /// The log index up to which grants and ends are in `deadlines`.
    through: u64,
    /// The countdown itself. A caller that changes an end tells it with [`Broadcast::tell`].
    pub(super) deadlines: Deadlines,
    /// Counts the changes told to all.
    changes: u64,
    readers: BTreeMap<MemberId, Reader>,
}

/// One other member.
#[derive(Debug, Default)]
struct Reader {
    copy: u64,
    /// The number of changes from the start of the copy that are the whole countdown.
    whole: u64,
    /// Place in the copy of the first of `waiting`.
    from: u64,
    /// Not acknowledged yet.
    waiting: VecDeque<Change>,
    /// Whether it has acknowledged anything of this copy.
    has_answered: bool,
    /// Whether it must be told the whole (again).
    is_lost: bool,
    told: Option<Moment>,
}

#[derive(Debug)]
struct Change {
    number: u64,
    id: Counted,
    ends: Option<LeaderMillis>,
}

impl Broadcast {
    /// Begins the countdown of a leadership at `now`, knowing the log up to `through`.
    pub(super) fn open(
        now: Moment,
        leadership: LeaderKey,
        through: u64,
        deadlines: Deadlines,
    ) -> Self {
        Self {
            leadership,
            zero: now,
            through,
            deadlines,
            changes: 0,
            readers: BTreeMap::new(),
        }
    }

    /// All grants and ends up to `through` are in the countdown now.
    pub(super) fn reached(&mut self, through: u64) {
        self.through = self.through.max(through);
    }

    /// Tells every member when a lease ends at the latest, or that it is gone.
    pub(super) fn tell(&mut self, id: Counted, ends: Option<Moment>) {
        let ends = ends.map(|ends| self.ends_millis(ends));
        self.changes += 1;
        let waiting_max = WAITING_MAX + self.deadlines.len();
        for reader in self.readers.values_mut().filter(|reader| !reader.is_lost) {
            reader.waiting.push_back(Change {
                number: self.changes,
                id,
                ends,
            });
            if reader.waiting.len() > waiting_max {
                reader.is_lost = true;
                reader.waiting = VecDeque::new();
            }
        }
    }

    /// The number of the last change.
    pub(super) fn last_change(&self) -> u64 {
        self.changes
    }

    /// The other members that hold a complete copy with every change up to this number.
    pub(super) fn holders(&self, upto: u64) -> BTreeSet<MemberId> {
        let holds = |reader: &Reader| {
            let next = reader.waiting.front().map(|change| change.number);
            reader.has_answered
                && !reader.is_lost
                && reader.from >= reader.whole
                && next.is_none_or(|next| next > upto)
        };
        let holders = self.readers.iter().filter(|(_, reader)| holds(reader));
        holders.map(|(member, _)| *member).collect()
    }

    /// The delta that `member` is to be told at `now`, if there is any.
    pub(super) fn delta(&mut self, now: Moment, member: MemberId) -> Option<Delta> {
        let reader = self.readers.entry(member).or_insert_with(|| Reader {
            is_lost: true,
            ..Reader::default()
        });
        if reader.is_lost {
            let (zero, number) = (self.zero, self.changes);
            let whole = self.deadlines.told().map(|(id, ends)| Change {
                number,
                id,
                ends: Some(ends_millis(zero, ends)),
            });
            let waiting: VecDeque<Change> = whole.collect();
            *reader = Reader {
                copy: reader.copy + 1,
                whole: waiting.len() as u64,
                waiting,
                ..Reader::default()
            };
        }
        let is_quiet = reader.has_answered
            && reader.waiting.is_empty()
            && reader.told.is_some_and(|told| now.since(told) < QUIET_MAX);
        if is_quiet {
            return None;
        }
        reader.told = Some(now);
        let changes = reader.waiting.iter().take(CHANGES_MAX);
        Some(Delta {
            now: millis(now.since(self.zero)),
            through: self.through,
            copy: reader.copy,
            whole: reader.whole,
            from: reader.from,
            changes: changes.map(|change| (change.id, change.ends)).collect(),
        })
    }

    /// Forgets members that are not among these.
    pub(super) fn keep(&mut self, members: &[MemberId]) {
        self.readers.retain(|member, _| members.contains(member));
    }

    /// Takes `member`'s acknowledgement.
    pub(super) fn acknowledged(&mut self, member: MemberId, ack: Ack) {
        let Some(reader) = self.readers.get_mut(&member) else {
            return;
        };
        match ack {
            Ack::Taken { copy, upto } if copy == reader.copy => {
                reader.has_answered = true;
                let known = upto.saturating_sub(reader.from);
                let known = usize::try_from(known).unwrap_or(usize::MAX);
                let known = known.min(reader.waiting.len());
                reader.waiting.drain(..known);
                reader.from += known as u64;
            }
            // About a copy that it does not need any more.
            Ack::Taken { .. } => {}
            Ack::Again => reader.is_lost = true,
            // It will follow soon, or there is another leader.
            Ack::NotFollowing => {}
        }
    }

    /// The whole countdown, for the leader after this one.
    pub(super) fn table(&self, now: Moment) -> Table {
        let ends = self.deadlines.told();
        Table {
            leadership: self.leadership,
            now: millis(now.since(self.zero)),
            through: self.through,
            ends: ends
                .map(|(id, ends)| (id, self.ends_millis(ends)))
                .collect(),
        }
    }

    fn ends_millis(&self, ends: Moment) -> LeaderMillis {
        ends_millis(self.zero, ends)
    }
}

/// Rounded up: an end is never told too early.
fn ends_millis(zero: Moment, ends: Moment) -> LeaderMillis {
    millis(ends.since(zero) + Duration::from_nanos(999_999))
}

fn millis(since: Duration) -> LeaderMillis {
    LeaderMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
