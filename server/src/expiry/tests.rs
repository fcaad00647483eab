use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::*;
use crate::clock::Moment;
use crate::command::{
    Command, Lease, LeaseChange, LeaseId, LeaseQuery, Outcome, Response, Revision, Unavailable,
};
use crate::raft::Leadership;

const ELECTION: Duration = Duration::from_secs(1);

/// A log that commits at once, and what it holds.
#[derive(Clone)]
struct Log(Arc<Mutex<Inner>>, watch::Sender<Leadership>);

struct Inner {
    start: Moment,
    leases: BTreeMap<LeaseId, Lease>,
    changes: mpsc::UnboundedSender<Vec<LeaseChange>>,
    /// What was committed, with the milliseconds at which it was.
    committed: Vec<String>,
    /// How long each confirmation of leadership takes.
    barrier: Duration,
    is_cut_off: bool,
}

impl Log {
    fn apply(&self, command: &Command) {
        let mut log = self.0.lock().unwrap();
        let millis = Moment::now().since(log.start).as_millis();
        let mut changes = Vec::new();
        let line = match command {
            Command::LeaseGrant { id, ttl_seconds } => {
                let lease = Lease {
                    id: *id,
                    ttl_seconds: *ttl_seconds,
                    remaining_seconds: 0,
                };
                log.leases.insert(*id, lease);
                changes.push(LeaseChange::Granted(lease));
                format!("{millis} grant {} {ttl_seconds}", id.0)
            }
            Command::LeaseExpire { term, ids } => {
                for id in ids {
                    if log.leases.remove(id).is_some() {
                        changes.push(LeaseChange::Ended(*id));
                    }
                }
                let count = ids.len();
                if count > 9 {
                    format!("{millis} expire {count}")
                } else {
                    format!(
                        "{millis} expire {:?} in term {term}",
                        ids.iter().map(|id| id.0).collect::<Vec<_>>()
                    )
                }
            }
            Command::LeaseCheckpoint { remaining_seconds } => {
                for (id, left) in remaining_seconds {
                    if let Some(lease) = log.leases.get_mut(id) {
                        lease.remaining_seconds = *left;
                        changes.push(LeaseChange::Checkpointed(*lease));
                    }
                }
                let left: Vec<_> = remaining_seconds
                    .iter()
                    .map(|(id, left)| (id.0, *left))
                    .collect();
                format!("{millis} record {left:?}")
            }
            other => panic!("{other:?}"),
        };
        log.committed.push(line);
        log.changes.send(changes).unwrap();
    }

    fn lead(&self, term: u64, is_self: bool) {
        self.1.send_replace(Leadership {
            term,
            leader: None,
            is_self,
        });
    }

    fn committed(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap().committed)
    }
}

impl Consensus for Log {
    async fn propose(&self, command: Command) -> Result<Outcome, Unavailable> {
        tokio::task::yield_now().await;
        if self.0.lock().unwrap().is_cut_off {
            std::future::pending::<()>().await;
        }
        self.apply(&command);
        Ok(Outcome {
            revision: Revision(1),
            result: Ok(Response::Done),
        })
    }

    async fn read_barrier(&self) -> Result<(), Unavailable> {
        let (barrier, is_cut_off) = {
            let log = self.0.lock().unwrap();
            (log.barrier, log.is_cut_off)
        };
        if is_cut_off {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(barrier).await;
        Ok(())
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.1.subscribe()
    }
}

struct Member {
    log: Log,
    queries: mpsc::Sender<Question>,
}

impl Member {
    async fn leading() -> Self {
        let (changes, changes_in) = mpsc::unbounded_channel();
        let (queries, queries_in) = mpsc::channel(4);
        let inner = Inner {
            start: Moment::now(),
            leases: BTreeMap::new(),
            changes,
            committed: Vec::new(),
            barrier: Duration::ZERO,
            is_cut_off: false,
        };
        let log = Log(
            Arc::new(Mutex::new(inner)),
            watch::channel(Leadership::default()).0,
        );
        log.lead(1, true);
        let state = log.clone();
        let leases = move || state.0.lock().unwrap().leases.values().copied().collect();
        tokio::spawn(count_down(
            log.clone(),
            leases,
            ELECTION,
            changes_in,
            queries_in,
        ));
        // Leadership is gained before anything is granted.
        millis(100).await;
        log.0.lock().unwrap().start = Moment::now();
        Self { log, queries }
    }

    fn grant(&self, id: i64, ttl_seconds: i64) {
        self.log.apply(&Command::LeaseGrant {
            id: LeaseId(id),
            ttl_seconds,
        });
    }

    async fn ask(&self, query: LeaseQuery) -> Result<Vec<i64>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        self.queries.send((query, reply)).await.unwrap();
        answer.await.unwrap()
    }

    async fn renew(&self, id: i64) -> Result<i64, Unavailable> {
        Ok(self.ask(LeaseQuery::Renew(vec![LeaseId(id)])).await?[0])
    }
}

async fn millis(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_lives_while_it_is_renewed_and_ends_when_it_is_not() {
    let member = Member::leading().await;
    member.grant(1, 6);
    for _ in 0..4 {
        millis(2_000).await;
        assert_eq!(member.renew(1).await, Ok(6));
    }
    assert_eq!(
        member
            .ask(LeaseQuery::Remaining(vec![LeaseId(1), LeaseId(9)]))
            .await,
        Ok(vec![6, -1])
    );
    millis(20_000).await;
    assert_eq!(member.renew(1).await, Ok(0));
    assert_eq!(
        member.log.committed(),
        [
            "0 grant 1 6",
            "11000 record [(1, 3)]",
            "12500 record [(1, 2)]",
            "14000 expire [1] in term 1"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_renewal_after_a_record_is_committed_before_it_is_answered() {
    let member = Member::leading().await;
    member.grant(1, 10);
    millis(6_000).await;
    assert_eq!(member.renew(1).await, Ok(10));
    assert_eq!(
        member.log.committed(),
        [
            "0 grant 1 10",
            "5000 record [(1, 5)]",
            "6000 record [(1, 0)]"
        ]
    );
    millis(1_000).await;
    assert_eq!(member.renew(1).await, Ok(10));
    assert_eq!(
        member.log.committed(),
        [""; 0],
        "the full time is on record"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_starts_from_the_record_and_never_ends_early() {
    let member = Member::leading().await;
    member.grant(1, 60);
    member.grant(2, 10);
    millis(7_600).await;
    member.log.lead(2, false);
    millis(100).await;
    assert_eq!(member.renew(1).await, Err(Unavailable::LeaderChanged));
    member.log.lead(3, true);
    millis(4_000).await;
    assert_eq!(member.renew(1).await, Ok(60));
    millis(56_000).await;
    assert_eq!(
        member.log.committed(),
        [
            "0 grant 1 60",
            "0 grant 2 10",
            "5000 record [(2, 5)]",
            "7500 record [(2, 3)]",
            "9200 record [(2, 3)]",
            "10450 record [(2, 2)]",
            "11700 expire [2] in term 3",
            "41700 record [(1, 30)]",
            "56700 record [(1, 15)]",
            "64200 record [(1, 8)]",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_confirm_it_in_time_promises_nothing() {
    let member = Member::leading().await;
    member.grant(1, 60);
    member.log.0.lock().unwrap().barrier = ELECTION;
    assert_eq!(member.renew(1).await, Err(Unavailable::LeaderChanged));
    member.log.0.lock().unwrap().is_cut_off = true;
    assert_eq!(member.renew(1).await, Err(Unavailable::Timeout));
    let log = member.log.clone();
    tokio::spawn(async move {
        millis(10).await;
        log.lead(2, false);
    });
    assert_eq!(member.renew(1).await, Err(Unavailable::LeaderChanged));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_did_not_get_through_is_tried_again() {
    let member = Member::leading().await;
    member.grant(1, 2);
    millis(1_500).await;
    member.log.0.lock().unwrap().is_cut_off = true;
    millis(2_000).await;
    member.log.0.lock().unwrap().is_cut_off = false;
    millis(3_000).await;
    let committed = member.log.committed();
    assert_eq!(committed[0], "0 grant 1 2");
    assert_eq!(
        committed.last().map(String::as_str),
        Some("5000 expire [1] in term 1")
    );
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_expiries_lets_renewals_in_between() {
    let member = Member::leading().await;
    for id in 1..=1000 {
        member.grant(id, 5);
    }
    member.grant(5000, 60);
    member.log.committed();
    millis(5_025).await;
    assert_eq!(member.renew(5000).await, Ok(60));
    let first = member.log.committed();
    assert!(
        first.iter().filter(|line| line.contains("expire")).count() < 4,
        "{first:?}"
    );
    millis(1_000).await;
    let rest = member.log.committed();
    assert_eq!(rest.last().map(String::as_str), Some("5150 expire 232"));
}
