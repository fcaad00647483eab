//! Compaction without a client that asks for it: `--auto-compaction-mode` and `--auto-compaction-retention`.
//!
//! Every member notes revisions; only the leader proposes. A compaction that is due is decided by [`Schedule`], over
//! plain values; the task waits and proposes. Source: etcd `server/etcdserver/api/v3compactor`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::command::{KvCommand, KvRefusal, Principal, Refusal, Revision};
use crate::config::AutoCompaction;
use crate::coordinator::Coordinator;

/// How often the leader compacts where it keeps a number of revisions.
const REVISIONS_PAUSE: Duration = Duration::from_secs(5 * 60);
/// The time between two compactions of a longer period.
const PERIOD_PAUSE_MAX: Duration = Duration::from_secs(60 * 60);
/// Revisions noted in each such pause: at most a tenth of a pause is kept beyond what was asked for.
const NOTES: u32 = 10;

/// Compacts for as long as it is polled.
pub async fn run(coordinator: Arc<Coordinator>, keep: AutoCompaction) {
    let began = Instant::now();
    let mut schedule = Schedule::new(keep);
    loop {
        schedule.note(coordinator.revision());
        tokio::time::sleep(schedule.pause()).await;
        if !coordinator.status().raft.is_leader {
            continue;
        }
        let now = began.elapsed();
        let Some(revision) = schedule.due(now, coordinator.revision()) else {
            continue;
        };
        let command = KvCommand::Compact { revision };
        let outcome = coordinator.propose(Principal::System, command.into()).await;
        let outcome = outcome.map(|outcome| outcome.result);
        match outcome {
            Ok(Ok(_) | Err(Refusal::Kv(KvRefusal::Compacted { .. }))) => {
                tracing::info!(%revision, "completed auto compaction");
                schedule.done(now, revision);
            }
            Ok(Err(refusal)) => tracing::warn!(%revision, %refusal, "failed auto compaction"),
            Err(error) => tracing::warn!(%revision, %error, "failed auto compaction"),
        }
    }
}

/// When to compact to which revision.
#[derive(Debug)]
struct Schedule {
    keep: AutoCompaction,
    /// Of a period: the revision at each note, the oldest a period ago once there are enough.
    noted: VecDeque<Revision>,
    last: Option<Revision>,
    /// When it was compacted last, and how long to wait from then.
    since: Duration,
    wait: Duration,
}

impl Schedule {
    fn new(keep: AutoCompaction) -> Self {
        Self {
            keep,
            noted: VecDeque::new(),
            last: None,
            since: Duration::ZERO,
            wait: match keep {
                AutoCompaction::Period(period) => period,
                AutoCompaction::Revisions(_) => Duration::ZERO,
            },
        }
    }

    /// How long until it is worth looking again.
    fn pause(&self) -> Duration {
        match self.keep {
            AutoCompaction::Period(period) => period.min(PERIOD_PAUSE_MAX) / NOTES,
            AutoCompaction::Revisions(_) => REVISIONS_PAUSE,
        }
    }

    /// Notes the store's revision.
    fn note(&mut self, revision: Revision) {
        let AutoCompaction::Period(period) = self.keep else {
            return;
        };
        self.noted.push_back(revision);
        let pause = self.pause().as_nanos().max(1);
        let most = usize::try_from(period.as_nanos() / pause).unwrap_or(usize::MAX);
        // One more than fit into the period: the oldest is a whole period old.
        if self.noted.len() > most.saturating_add(1) {
            self.noted.pop_front();
        }
    }

    /// The revision to compact to, if any.
    fn due(&self, now: Duration, newest: Revision) -> Option<Revision> {
        let revision = match self.keep {
            AutoCompaction::Period(_) if now.saturating_sub(self.since) < self.wait => None,
            AutoCompaction::Period(_) => self.noted.front().copied(),
            AutoCompaction::Revisions(kept) => newest.0.checked_sub(kept).map(Revision),
        };
        revision.filter(|revision| revision.0 > 0 && Some(*revision) != self.last)
    }

    /// Notes that it was compacted.
    fn done(&mut self, now: Duration, revision: Revision) {
        self.last = Some(revision);
        self.since = now;
        if let AutoCompaction::Period(period) = self.keep {
            // The first time only when a whole period has gone by.
            self.wait = period.min(PERIOD_PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// One new revision every minute; answers the minutes at which it compacts, and to what.
    fn compactions(keep: AutoCompaction, minutes: u64) -> Vec<(u64, u64)> {
        let mut schedule = Schedule::new(keep);
        let mut compacted = Vec::new();
        let mut now = Duration::ZERO;
        let revision = |now: Duration| Revision(1 + now.as_secs() / 60);
        while now < MINUTE * u32::try_from(minutes).unwrap() {
            schedule.note(revision(now));
            now += schedule.pause();
            if let Some(due) = schedule.due(now, revision(now)) {
                schedule.done(now, due);
                compacted.push((now.as_secs() / 60, due.0));
            }
        }
        compacted
    }

    #[test]
    fn a_short_period_is_kept_and_compacted_once_in_each() {
        let keep = AutoCompaction::Period(MINUTE * 10);
        // At minute 10 nothing is older than that; from then on what there was ten minutes before.
        assert_eq!(compactions(keep, 31), [(10, 1), (20, 10), (30, 20)]);
    }

    #[test]
    fn a_long_period_is_compacted_every_hour() {
        let keep = AutoCompaction::Period(MINUTE * 180);
        let hours = compactions(keep, 361);
        let at: Vec<_> = hours.iter().map(|(minute, _)| *minute).collect();
        assert_eq!(at, [180, 240, 300, 360]);
        let kept = hours.iter().map(|(minute, revision)| minute - revision);
        assert!(
            kept.clone().all(|kept| (179..=187).contains(&kept)),
            "{hours:?}"
        );
    }

    #[test]
    fn a_number_of_revisions_is_kept() {
        let keep = AutoCompaction::Revisions(12);
        assert_eq!(compactions(keep, 25), [(15, 4), (20, 9), (25, 14)]);
    }

    #[test]
    fn nothing_is_compacted_twice_where_nothing_is_written() {
        let mut schedule = Schedule::new(AutoCompaction::Revisions(2));
        assert_eq!(schedule.due(MINUTE, Revision(2)), None);
        assert_eq!(schedule.due(MINUTE, Revision(5)), Some(Revision(3)));
        schedule.done(MINUTE, Revision(3));
        assert_eq!(schedule.due(MINUTE * 9, Revision(5)), None);
    }
}
