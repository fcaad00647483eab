//! When each lease ends: a pure queue. Time is passed in.
//!
//! A renewal does not enter the log. A cluster that was stopped as a whole must not start a long forgotten lease anew.
//! So the time left is recorded each time it has halved since the last record: a lease that is renewed in good time
//! costs nothing, an abandoned one a logarithm of its time. The time on record must never be less than the one promised
//! to a client, hence [`Deadlines::is_on_record_with_less`].

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::counted::{Counted, Record};
use crate::clock::Moment;
use crate::failpoints::{self, Bug};

/// Time left below which recording it gains nothing: a record has whole seconds.
const CHECKPOINT_MIN: Duration = Duration::from_secs(1);

/// The countdown of every lease, on the leader.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    leases: HashMap<Counted, Countdown>,
    /// Invariant: every lease that is not being ended is in here once, with its `ends`.
    ends: BTreeSet<(Moment, Counted)>,
    /// When to record the time left.
    checkpoints: BTreeSet<(Moment, Counted)>,
}

#[derive(Clone, Copy, Debug)]
struct Countdown {
    granted: Duration,
    ends: Moment,
    /// The latest end that another member was told. Invariant: not before `ends`.
    told: Moment,
    checkpoint: Option<Moment>,
    /// Whether less than the granted time is on record, or about to be.
    is_checkpointed: bool,
    /// Once a lease has been given up, no renewal brings it back: its end may be in the log already.
    is_ending: bool,
}

impl Deadlines {
    /// Goes on with leases that were granted before, each with the moment when it ends.
    pub(super) fn resume(now: Moment, leases: impl IntoIterator<Item = (Record, Moment)>) -> Self {
        let mut deadlines = Self::default();
        for (Record { of, ttl, left }, ends) in leases {
            deadlines.put(
                of,
                Countdown {
                    is_checkpointed: left.is_some(),
                    ..Countdown::new(ttl, ends)
                },
            );
            deadlines.plan_checkpoint(of, now, left.unwrap_or(ttl));
        }
        deadlines
    }

    /// A lease was granted. Answers when it ends, unless it is known already.
    pub(super) fn granted(&mut self, now: Moment, record: Record) -> Option<Moment> {
        let Record { of, ttl, left: _ } = record;
        if self.leases.contains_key(&of) {
            // Known from the state when leadership was gained; the log only repeats it.
            return None;
        }
        let ends = now.after(ttl);
        self.put(of, Countdown::new(ttl, ends));
        self.plan_checkpoint(of, now, ttl);
        Some(ends)
    }

    /// A lease is gone.
    pub(super) fn ended(&mut self, id: Counted) {
        if let Some(countdown) = self.leases.remove(&id) {
            self.unlist(id, &countdown);
        }
    }

    /// The time left of a lease was recorded.
    pub(super) fn checkpointed(&mut self, record: &Record) {
        if let Some(countdown) = self.leases.get_mut(&record.of) {
            countdown.is_checkpointed = record.left.is_some();
        }
    }

    /// The end that the other members must be told before a renewal at or before `latest` is answered.
    /// `None` if there is nothing to renew, or they were told as much already.
    pub(super) fn offer(&mut self, now: Moment, id: Counted, latest: Moment) -> Option<Moment> {
        let countdown = self.leases.get_mut(&id).filter(|it| !it.is_over(now))?;
        let ends = latest.after(countdown.granted);
        if ends <= countdown.told {
            return None;
        }
        countdown.told = ends;
        Some(ends)
    }

    /// Whether a lease that could be renewed has less on record than a renewal would promise: the full time must be
    /// recorded before it is answered.
    pub(super) fn is_on_record_with_less(&self, now: Moment, id: Counted) -> bool {
        let lives = |it: &&Countdown| !it.is_over(now);
        let countdown = self.leases.get(&id).filter(lives);
        countdown.is_some_and(|it| it.is_checkpointed)
    }

    /// Renews a lease. Answers its granted time; `None` if it is unknown or its time was over.
    pub(super) fn renew(&mut self, now: Moment, id: Counted) -> Option<Duration> {
        let countdown = *self.leases.get(&id).filter(|it| !it.is_over(now))?;
        self.unlist(id, &countdown);
        let full = countdown.granted;
        let ends = now.after(full);
        self.put(
            id,
            Countdown {
                ends,
                told: countdown.told.max(ends),
                checkpoint: None,
                ..countdown
            },
        );
        self.plan_checkpoint(id, now, full);
        Some(countdown.granted)
    }

    /// The time left; `None` if the lease is unknown or its time is over.
    pub(super) fn remaining(&self, now: Moment, id: Counted) -> Option<Duration> {
        let countdown = self.leases.get(&id).filter(|it| !it.is_over(now))?;
        Some(countdown.ends.since(now))
    }

    /// Gives up at most `max` leases whose time is over, the longest overdue first. They are not renewed any more.
    pub(super) fn expire(&mut self, now: Moment, max: usize) -> Vec<Counted> {
        let due: Vec<Counted> = self
            .ends
            .iter()
            .take_while(|(ends, _)| *ends <= now)
            .take(max)
            .map(|(_, id)| *id)
            .collect();
        for id in &due {
            if let Some(countdown) = self.leases.get(id).copied() {
                self.unlist(*id, &countdown);
                self.leases.insert(
                    *id,
                    Countdown {
                        checkpoint: None,
                        is_ending: true,
                        ..countdown
                    },
                );
            }
        }
        due
    }

    /// Of leases that were given up, lists those still there to be given up again at `again`.
    pub(super) fn retry(&mut self, ids: &[Counted], again: Moment) {
        for id in ids {
            // One that ended and was granted anew under the same id meanwhile runs its own time.
            if let Some(countdown) = self
                .leases
                .get_mut(id)
                .filter(|countdown| countdown.is_ending)
            {
                countdown.ends = again;
                self.ends.insert((again, *id));
            }
        }
    }

    /// Leases whose time left is to be recorded now, at most `max`, with whole seconds left, rounded up.
    pub(super) fn checkpoints(&mut self, now: Moment, max: usize) -> Vec<(Counted, i64)> {
        let due: Vec<(Moment, Counted)> = self
            .checkpoints
            .iter()
            .take_while(|(at, _)| *at <= now)
            .take(max)
            .copied()
            .collect();
        let mut left = Vec::new();
        for entry in due {
            self.checkpoints.remove(&entry);
            let id = entry.1;
            let Some(countdown) = self.leases.get_mut(&id) else {
                continue;
            };
            countdown.checkpoint = None;
            let rest = countdown.ends.since(now);
            if countdown.is_over(now) {
                continue;
            }
            // From here on a renewal waits: the record may be in the log before we learn that it is.
            countdown.is_checkpointed = true;
            let whole = rest.as_secs() + u64::from(rest.subsec_nanos() > 0);
            left.push((id, i64::try_from(whole).unwrap_or(i64::MAX)));
            self.plan_checkpoint(id, now, rest);
        }
        left
    }

    /// When there is something to expire or to record next.
    pub(super) fn next(&self) -> Option<Moment> {
        let ends = self.ends.first().map(|(at, _)| *at);
        let checkpoint = self.checkpoints.first().map(|(at, _)| *at);
        ends.into_iter().chain(checkpoint).min()
    }

    /// The latest end of each lease that another member was told, or may be told now.
    pub(super) fn told(&self) -> impl Iterator<Item = (Counted, Moment)> {
        self.leases.iter().map(|(id, it)| (*id, it.told))
    }

    /// How many leases run.
    pub(super) fn len(&self) -> usize {
        self.leases.len()
    }

    fn put(&mut self, id: Counted, countdown: Countdown) {
        self.ends.insert((countdown.ends, id));
        self.leases.insert(id, countdown);
    }

    fn unlist(&mut self, id: Counted, countdown: &Countdown) {
        self.ends.remove(&(countdown.ends, id));
        if let Some(at) = countdown.checkpoint {
            self.checkpoints.remove(&(at, id));
        }
    }

    /// With `recorded` left on record, the next record is due when only half of it is left.
    fn plan_checkpoint(&mut self, id: Counted, now: Moment, recorded: Duration) {
        let half = recorded / 2;
        if half < CHECKPOINT_MIN {
            return;
        }
        if let Some(countdown) = self.leases.get_mut(&id) {
            let at = now.after(countdown.ends.since(now).saturating_sub(half));
            countdown.checkpoint = Some(at);
            self.checkpoints.insert((at, id));
        }
    }
}

impl Countdown {
    fn new(granted: Duration, ends: Moment) -> Self {
        Self {
            granted,
            ends,
            told: ends,
            checkpoint: None,
            is_checkpointed: false,
            is_ending: false,
        }
    }

    fn is_over(&self, now: Moment) -> bool {
        self.is_ending || (self.ends <= now && !failpoints::has(Bug::LeaseRevived))
    }
}

#[cfg(test)]
mod tests;
