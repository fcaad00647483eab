//! The countdown of one member, and across changes of leader. Time is paused: it jumps to the next timer.

mod across_leaders;
mod cluster;

use super::wire::Question;
use crate::command::Unavailable;
use cluster::{Cluster, ELECTION, lease, millis};

#[tokio::test(start_paused = true)]
async fn a_lease_lives_while_it_is_renewed_and_ends_when_it_is_not() {
    let cluster = Cluster::start(1).await;
    cluster.grant(1, 6);
    for _ in 0..4 {
        millis(2_000).await;
        assert_eq!(cluster.renew(1, 1).await, Ok(6));
    }
    assert_eq!(
        cluster
            .ask(1, Question::Remaining([1, 9].map(lease).to_vec()))
            .await,
        Ok(vec![6, -1])
    );
    millis(20_000).await;
    assert_eq!(cluster.renew(1, 1).await, Ok(0));
    assert_eq!(
        cluster.committed(),
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
    let cluster = Cluster::start(1).await;
    cluster.grant(1, 10);
    millis(6_000).await;
    assert_eq!(cluster.renew(1, 1).await, Ok(10));
    assert_eq!(
        cluster.committed(),
        [
            "0 grant 1 10",
            "5000 record [(1, 5)]",
            "6000 record [(1, 0)]"
        ]
    );
    millis(1_000).await;
    assert_eq!(cluster.renew(1, 1).await, Ok(10));
    assert_eq!(cluster.committed(), [""; 0], "the full time is on record");
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_confirm_it_in_time_promises_nothing() {
    let cluster = Cluster::start(3).await;
    cluster.grant(1, 60);
    millis(100).await;
    cluster.set_delay(ELECTION / 4);
    assert_eq!(cluster.renew(1, 1).await, Err(Unavailable::LeaderChanged));
    cluster.set_delay(ELECTION / 5);
    assert_eq!(cluster.renew(1, 1).await, Ok(60));
    cluster.cut_off(1, true);
    assert_eq!(cluster.renew(1, 1).await, Err(Unavailable::Timeout));
    let asked = cluster.renew(1, 1);
    let deposed = async {
        millis(10).await;
        cluster.depose(1);
    };
    let (answer, ()) = tokio::join!(asked, deposed);
    assert_eq!(answer, Err(Unavailable::LeaderChanged));
    assert_eq!(cluster.renew(1, 1).await, Err(Unavailable::LeaderChanged));
}

#[tokio::test(start_paused = true)]
async fn an_end_that_did_not_get_through_is_tried_again() {
    let cluster = Cluster::start(1).await;
    cluster.grant(1, 2);
    millis(1_500).await;
    cluster.lose_proposals(true);
    millis(2_000).await;
    cluster.lose_proposals(false);
    millis(3_000).await;
    let committed = cluster.committed();
    assert_eq!(committed[0], "0 grant 1 2");
    assert_eq!(
        committed.last().map(String::as_str),
        Some("5000 expire [1] in term 1")
    );
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_expiries_lets_renewals_in_between() {
    let cluster = Cluster::start(1).await;
    for id in 1..=1000 {
        cluster.grant(id, 5);
    }
    cluster.grant(5000, 60);
    cluster.committed();
    millis(5_025).await;
    assert_eq!(cluster.renew(1, 5000).await, Ok(60));
    let first = cluster.committed();
    assert!(
        first.iter().filter(|line| line.contains("expire")).count() < 4,
        "{first:?}"
    );
    millis(1_000).await;
    let rest = cluster.committed();
    assert_eq!(rest.last().map(String::as_str), Some("5150 expire 232"));
}
