//! When each lease ends: a pure queue. Time is passed in.
//!
//! A renewal does not enter the log, so a new leader knows only what was granted. To not start a long forgotten lease
//! anew, the leader records the time left each time it has halved since it was last on record: a lease that is renewed
//! in good time costs nothing, an abandoned one a logarithm of its time, and after a change of leader it lives at most
//! as long again as it had left. What is on record must never be less than what a client was promised, hence
//! [`Renewal::NeedsCommit`].

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use crate::clock::Moment;
use crate::command::{Lease, LeaseId};

/// Time left below which recording it gains nothing: a record has whole seconds.
const CHECKPOINT_MIN: Duration = Duration::from_secs(1);

/// The countdown of every lease, on the leader.
#[derive(Debug, Default)]
pub struct Deadlines {
    leases: HashMap<LeaseId, Countdown>,
    /// Invariant: every lease that is not being ended is in here once, with its `ends`.
    ends: BTreeSet<(Moment, LeaseId)>,
    /// When to record the time left.
    checkpoints: BTreeSet<(Moment, LeaseId)>,
}

/// What became of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewal {
    /// The lease runs anew; its granted seconds.
    Renewed(i64),
    /// On record it has less left than this renewal would promise: record the full time, then call
    /// [`Deadlines::extend`], and only then answer.
    NeedsCommit,
    /// Unknown, or its time was over.
    Gone,
}

#[derive(Clone, Copy, Debug)]
struct Countdown {
    granted_seconds: i64,
    ends: Moment,
    checkpoint: Option<Moment>,
    /// Whether less than the granted time is on record, or about to be.
    is_checkpointed: bool,
    /// Once a lease has been given up, no renewal brings it back: its end may be in the log already.
    is_ending: bool,
}

impl Deadlines {
    /// Starts all countdowns anew: leadership was gained at `now`.
    ///
    /// Each lease has what is on record, and `grace` for a renewal that the last leader answered while it was replaced.
    pub fn rebuild(now: Moment, leases: &[Lease], grace: Duration) -> Self {
        let mut deadlines = Self::default();
        for lease in leases {
            let left = if lease.remaining_seconds > 0 {
                lease.remaining_seconds
            } else {
                lease.ttl_seconds
            };
            let countdown = Countdown {
                granted_seconds: lease.ttl_seconds,
                ends: now.after(seconds(left) + grace),
                checkpoint: None,
                is_checkpointed: lease.remaining_seconds > 0,
                is_ending: false,
            };
            deadlines.put(lease.id, countdown);
            deadlines.plan_checkpoint(lease.id, now, seconds(left));
        }
        deadlines
    }

    /// A lease was granted.
    pub fn granted(&mut self, now: Moment, lease: Lease) {
        if self.leases.contains_key(&lease.id) {
            // Known from the state when leadership was gained; the log only repeats it.
            return;
        }
        let countdown = Countdown {
            granted_seconds: lease.ttl_seconds,
            ends: now.after(seconds(lease.ttl_seconds)),
            checkpoint: None,
            is_checkpointed: false,
            is_ending: false,
        };
        self.put(lease.id, countdown);
        self.plan_checkpoint(lease.id, now, seconds(lease.ttl_seconds));
    }

    /// A lease is gone.
    pub fn ended(&mut self, id: LeaseId) {
        if let Some(countdown) = self.leases.remove(&id) {
            self.unlist(id, &countdown);
        }
    }

    /// The time left of a lease was recorded.
    pub fn checkpointed(&mut self, lease: &Lease) {
        if let Some(countdown) = self.leases.get_mut(&lease.id) {
            countdown.is_checkpointed = lease.remaining_seconds > 0;
        }
    }

    /// Renews a lease if nothing has to be recorded first.
    pub fn renew(&mut self, now: Moment, id: LeaseId) -> Renewal {
        match self.leases.get(&id) {
            Some(countdown) if countdown.is_over(now) => Renewal::Gone,
            Some(countdown) if countdown.is_checkpointed => Renewal::NeedsCommit,
            Some(_) => self.extend(now, id),
            None => Renewal::Gone,
        }
    }

    /// Renews a lease whose full time is on record.
    pub fn extend(&mut self, now: Moment, id: LeaseId) -> Renewal {
        let Some(&countdown) = self.leases.get(&id) else {
            return Renewal::Gone;
        };
        if countdown.is_over(now) {
            return Renewal::Gone;
        }
        self.unlist(id, &countdown);
        let full = seconds(countdown.granted_seconds);
        self.put(
            id,
            Countdown {
                ends: now.after(full),
                checkpoint: None,
                ..countdown
            },
        );
        self.plan_checkpoint(id, now, full);
        Renewal::Renewed(countdown.granted_seconds)
    }

    /// Whole seconds left, -1 if the lease is unknown or its time is over.
    pub fn remaining(&self, now: Moment, id: LeaseId) -> i64 {
        match self.leases.get(&id) {
            Some(countdown) if !countdown.is_over(now) => {
                i64::try_from(countdown.ends.since(now).as_secs()).unwrap_or(i64::MAX)
            }
            _ => -1,
        }
    }

    /// Gives up at most `max` leases whose time is over, the longest overdue first. They are not renewed any more.
    pub fn expire(&mut self, now: Moment, max: usize) -> Vec<LeaseId> {
        let due: Vec<LeaseId> = self
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
    pub fn retry(&mut self, ids: &[LeaseId], again: Moment) {
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
    pub fn checkpoints(&mut self, now: Moment, max: usize) -> Vec<(LeaseId, i64)> {
        let due: Vec<(Moment, LeaseId)> = self
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
    pub fn next(&self) -> Option<Moment> {
        let ends = self.ends.first().map(|(at, _)| *at);
        let checkpoint = self.checkpoints.first().map(|(at, _)| *at);
        ends.into_iter().chain(checkpoint).min()
    }

    /// How many leases run.
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    /// Whether no lease runs.
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    fn put(&mut self, id: LeaseId, countdown: Countdown) {
        self.ends.insert((countdown.ends, id));
        self.leases.insert(id, countdown);
    }

    fn unlist(&mut self, id: LeaseId, countdown: &Countdown) {
        self.ends.remove(&(countdown.ends, id));
        if let Some(at) = countdown.checkpoint {
            self.checkpoints.remove(&(at, id));
        }
    }

    /// With `recorded` left on record, the next record is due when half of it is gone.
    fn plan_checkpoint(&mut self, id: LeaseId, now: Moment, recorded: Duration) {
        let half = recorded / 2;
        if half < CHECKPOINT_MIN {
            return;
        }
        if let Some(countdown) = self.leases.get_mut(&id) {
            let at = now.after(half);
            countdown.checkpoint = Some(at);
            self.checkpoints.insert((at, id));
        }
    }
}

impl Countdown {
    fn is_over(&self, now: Moment) -> bool {
        self.is_ending || self.ends <= now
    }
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LeaseId = LeaseId(1);
    const B: LeaseId = LeaseId(2);
    const GRACE: Duration = Duration::from_secs(1);

    fn lease(id: LeaseId, ttl_seconds: i64, remaining_seconds: i64) -> Lease {
        Lease {
            id,
            ttl_seconds,
            remaining_seconds,
        }
    }

    fn at(start: Moment, millis: u64) -> Moment {
        start.after(Duration::from_millis(millis))
    }

    #[test]
    fn a_lease_ends_after_its_time_and_not_before() {
        let start = Moment::now();
        let mut deadlines = Deadlines::default();
        deadlines.granted(start, lease(A, 10, 0));
        assert_eq!(deadlines.expire(at(start, 9_999), 10), []);
        assert_eq!(deadlines.remaining(at(start, 9_999), A), 0);
        assert_eq!(deadlines.expire(at(start, 10_000), 10), [A]);
        assert_eq!(deadlines.remaining(at(start, 10_000), A), -1);
        deadlines.ended(A);
        assert!(deadlines.is_empty());
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_renewal_counts_from_when_it_is_answered() {
        let start = Moment::now();
        let mut deadlines = Deadlines::default();
        deadlines.granted(start, lease(A, 10, 0));
        assert_eq!(deadlines.renew(at(start, 3_000), A), Renewal::Renewed(10));
        assert_eq!(deadlines.expire(at(start, 12_999), 10), []);
        assert_eq!(deadlines.expire(at(start, 13_000), 10), [A]);
    }

    #[test]
    fn a_lease_that_was_given_up_is_never_renewed() {
        let start = Moment::now();
        let mut deadlines = Deadlines::default();
        deadlines.granted(start, lease(A, 2, 0));
        assert_eq!(
            deadlines.renew(at(start, 2_000), A),
            Renewal::Gone,
            "before it was noticed"
        );
        assert_eq!(deadlines.expire(at(start, 2_000), 10), [A]);
        assert_eq!(
            deadlines.expire(at(start, 2_100), 10),
            [],
            "its end is on its way"
        );
        deadlines.retry(&[A, B], at(start, 3_000));
        assert_eq!(deadlines.extend(at(start, 2_500), A), Renewal::Gone);
        assert_eq!(deadlines.next(), Some(at(start, 3_000)));
        assert_eq!(deadlines.expire(at(start, 3_000), 10), [A]);
    }

    #[test]
    fn a_lease_that_is_renewed_in_good_time_is_never_recorded() {
        let start = Moment::now();
        let mut deadlines = Deadlines::default();
        deadlines.granted(start, lease(A, 9, 0));
        for turn in 1..100 {
            let now = at(start, turn * 3_000);
            assert_eq!(deadlines.checkpoints(now, 10), []);
            assert_eq!(deadlines.renew(now, A), Renewal::Renewed(9));
        }
    }

    #[test]
    fn an_abandoned_lease_is_recorded_each_time_what_it_has_left_has_halved() {
        let start = Moment::now();
        let mut deadlines = Deadlines::default();
        deadlines.granted(start, lease(A, 3600, 0));
        let mut recorded = Vec::new();
        while let Some(next) = deadlines.next() {
            recorded.extend(
                deadlines
                    .checkpoints(next, 10)
                    .into_iter()
                    .map(|(_, left)| left),
            );
            if deadlines.expire(next, 10) == [A] {
                assert_eq!(next, at(start, 3_600_000));
                break;
            }
        }
        assert_eq!(recorded, [1800, 900, 450, 225, 113, 57, 29, 15, 8, 4, 2]);
    }

    #[test]
    fn the_first_renewal_after_a_record_waits_until_the_full_time_is_on_record() {
        let start = Moment::now();
        let mut deadlines = Deadlines::default();
        deadlines.granted(start, lease(A, 10, 0));
        assert_eq!(deadlines.checkpoints(at(start, 6_000), 10), [(A, 4)]);
        assert_eq!(deadlines.renew(at(start, 6_500), A), Renewal::NeedsCommit);
        deadlines.checkpointed(&lease(A, 10, 4));
        assert_eq!(deadlines.renew(at(start, 6_600), A), Renewal::NeedsCommit);
        assert_eq!(deadlines.extend(at(start, 7_000), A), Renewal::Renewed(10));
        deadlines.checkpointed(&lease(A, 10, 0));
        assert_eq!(deadlines.renew(at(start, 8_000), A), Renewal::Renewed(10));
    }

    #[test]
    fn a_new_leader_gives_what_is_on_record_and_grace() {
        let start = Moment::now();
        let mut deadlines = Deadlines::rebuild(start, &[lease(A, 60, 0), lease(B, 60, 5)], GRACE);
        assert_eq!(deadlines.renew(at(start, 1_000), B), Renewal::NeedsCommit);
        assert_eq!(deadlines.expire(at(start, 5_999), 10), []);
        assert_eq!(deadlines.expire(at(start, 6_000), 10), [B]);
        deadlines.granted(at(start, 7_000), lease(A, 60, 0));
        assert_eq!(deadlines.expire(at(start, 60_999), 10), []);
        assert_eq!(
            deadlines.expire(at(start, 61_000), 10),
            [A],
            "the log only repeated the grant"
        );
    }

    #[test]
    fn a_storm_comes_in_batches_longest_overdue_first() {
        let start = Moment::now();
        let mut deadlines = Deadlines::default();
        for id in 1..=5 {
            deadlines.granted(start, lease(LeaseId(id), 20 - id, 0));
        }
        let late = at(start, 60_000);
        assert_eq!(deadlines.expire(late, 2), [LeaseId(5), LeaseId(4)]);
        assert_eq!(
            deadlines.expire(late, 9),
            [LeaseId(3), LeaseId(2), LeaseId(1)]
        );
        assert_eq!(deadlines.len(), 5, "they are there until they have ended");
    }
}
