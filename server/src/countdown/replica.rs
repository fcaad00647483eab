//! A member's copy of the leader's countdown, with which the next leader goes on where this one stopped.
//!
//! A copy belongs to one leadership and is kept by that leader's clock. A message that was long under way must not make a
//! lease live longer, so the leader's clock is taken from the message that was fastest, not from the last one.

use std::collections::HashMap;

use super::counted::Counted;
use super::wire::{Ack, Delta, LeaderMillis, Table};
use crate::clock::Moment;
use crate::command::{LeaderKey, LeaseChange};

/// A member's knowledge of the countdown while it is not the leader.
#[derive(Debug, Default)]
pub(super) struct Replica {
    /// The last copy that was complete. While the next one comes in it still says what this member has acknowledged.
    complete: Option<Copy>,
    coming: Option<Copy>,
    /// Leases whose grant was applied here and is not covered by the complete copy: log index, and when.
    grants: HashMap<Counted, (u64, Moment)>,
    /// A copy counts only if it knows the log up to here: grants before it were not seen.
    floor: u64,
}

#[derive(Debug)]
struct Copy {
    leadership: LeaderKey,
    number: u64,
    /// Place after the last change.
    upto: u64,
    through: u64,
    clock: Clock,
    ends: HashMap<Counted, LeaderMillis>,
}

/// Another member's clock, never ahead of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    at: Moment,
    shows: LeaderMillis,
}

impl Clock {
    /// A clock that showed `shows`, or more, at `at`.
    pub(super) fn new(at: Moment, shows: LeaderMillis) -> Self {
        Self { at, shows }
    }

    /// The leader's clock at `now`, which must not lie before it was made.
    pub(super) fn now(&self, now: Moment) -> LeaderMillis {
        self.shows.after(now.since(self.at))
    }

    /// It showed at least `shows` at `at`.
    pub(super) fn observe(&mut self, at: Moment, shows: LeaderMillis) {
        if shows > self.now(at) {
            *self = Self { at, shows };
        }
    }
}

impl Replica {
    /// A member that starts with a state that has applied the log up to `floor`.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            floor,
            ..Self::default()
        }
    }

    /// A member that stops leading holds its own countdown.
    pub(super) fn set(&mut self, at: Moment, table: Table) {
        let Table {
            leadership,
            now,
            through,
            ends,
        } = table;
        self.grants.retain(|_, (index, _)| *index > through);
        self.coming = None;
        self.complete = Some(Copy {
            leadership,
            // Its own leadership tells it nothing more.
            number: u64::MAX,
            upto: 0,
            through,
            clock: Clock::new(at, now),
            ends: ends.into_iter().collect(),
        });
    }

    /// Takes what the leader, whom this member must follow, tells it.
    pub(super) fn take(&mut self, at: Moment, leadership: LeaderKey, delta: Delta) -> Ack {
        let Delta {
            now,
            through,
            copy: number,
            whole,
            from,
            changes,
        } = delta;
        let is_same = |copy: &&mut Copy| (copy.leadership, copy.number) == (leadership, number);
        let (copy, is_coming) = match self.complete.as_mut().filter(is_same) {
            Some(copy) => (copy, false),
            None => {
                if self.coming.as_mut().filter(is_same).is_none() {
                    let same_clock = |copy: &&Copy| copy.leadership == leadership;
                    let known = self.complete.as_ref().filter(same_clock);
                    self.coming = Some(Copy {
                        leadership,
                        number,
                        upto: 0,
                        through,
                        clock: known.map_or(Clock::new(at, now), |copy| copy.clock),
                        ends: HashMap::new(),
                    });
                }
                (self.coming.as_mut().expect("it was just made"), true)
            }
        };
        if from > copy.upto {
            return Ack::Again;
        }
        copy.clock.observe(at, now);
        copy.through = copy.through.max(through);
        // Changes that overlap were answered, but the answer was lost.
        let known = usize::try_from(copy.upto - from).unwrap_or(usize::MAX);
        for (id, ends) in changes.into_iter().skip(known) {
            match ends {
                Some(ends) => copy.ends.insert(id, ends),
                None => copy.ends.remove(&id),
            };
            copy.upto += 1;
        }
        let upto = copy.upto;
        if is_coming && upto >= whole {
            self.complete = self.coming.take();
        }
        if let Some(complete) = &self.complete {
            self.grants
                .retain(|_, (index, _)| *index > complete.through);
        }
        Ack::Taken { copy: number, upto }
    }

    /// Notes a change that this member applied.
    pub(super) fn note(&mut self, at: Moment, change: LeaseChange) {
        match change {
            LeaseChange::Granted { lease, index } => {
                let covered = self.complete.as_ref().map(|copy| copy.through);
                if covered.is_none_or(|through| index > through) {
                    self.grants.insert(Counted::Lease(lease.id), (index, at));
                }
            }
            LeaseChange::Ended(id) => {
                self.grants.remove(&Counted::Lease(id));
            }
            LeaseChange::Checkpointed(_) => {}
            LeaseChange::Replaced { upto } => {
                self.grants.clear();
                self.floor = self.floor.max(upto);
            }
        }
    }

    /// The grants that the copy may not know: log index, and when they were applied here.
    pub(super) fn grants(&self) -> &HashMap<Counted, (u64, Moment)> {
        &self.grants
    }

    /// The copy at `now`, if this member has a complete one.
    pub(super) fn table(&self, now: Moment) -> Option<Table> {
        let copy = self.complete.as_ref();
        let copy = copy.filter(|copy| copy.through >= self.floor)?;
        Some(Table {
            leadership: copy.leadership,
            now: copy.clock.now(now),
            through: copy.through,
            ends: copy.ends.iter().map(|(id, ends)| (*id, *ends)).collect(),
        })
    }
}

#[cfg(test)]
mod tests;
