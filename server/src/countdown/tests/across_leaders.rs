//! The promise of a lease when the leader changes: not early, and at most one election timeout late.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::cluster::{Cluster, ELECTION, lease, millis};
use crate::command::Unavailable;
use crate::countdown::wire::Question;

/// The election timeout, and the pace at which expiries share a command.
const LATE_MAX: u64 = 1_000 + 50;

#[track_caller]
fn assert_ended(cluster: &Cluster, id: i64, due: u64) {
    let ended = cluster.ended(id);
    assert!(
        ended.is_some_and(|ended| (due..=due + LATE_MAX).contains(&ended)),
        "lease {id} was due at {due} and ended at {ended:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_lease_ends_in_time_whenever_the_leader_changes() {
    for change in [20, 1_000, 4_900, 5_100, 8_000, 9_900, 9_999] {
        let cluster = Cluster::start(3).await;
        cluster.grant(1, 10);
        millis(change).await;
        cluster.elect(2);
        millis(20_000 - change).await;
        assert_ended(&cluster, 1, 10_000);
    }
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_lease_ends_in_time_when_each_leader_dies() {
    for change in [20, 1_000, 4_900, 5_100, 8_000, 9_900, 9_999] {
        let cluster = Cluster::start(3).await;
        cluster.grant(1, 10);
        millis(change).await;
        cluster.kill(1);
        millis(900).await;
        cluster.elect(3);
        millis(20_000 - change).await;
        // Nobody can end it while nobody leads.
        let late = (change + 900).saturating_sub(10_000);
        assert_ended(&cluster, 1, 10_000 + late);
    }
}

#[tokio::test(start_paused = true)]
async fn many_changes_of_leader_do_not_add_up() {
    let cluster = Cluster::start(3).await;
    cluster.grant(1, 30);
    millis(7_000).await;
    assert_eq!(cluster.renew(1, 1).await, Ok(30));
    let due = cluster.now() + 30_000;
    for change in 0..60 {
        cluster.elect(1 + change % 3);
        millis(450).await;
    }
    millis(10_000).await;
    assert_ended(&cluster, 1, due);
}

#[tokio::test(start_paused = true)]
async fn a_renewed_lease_outlives_its_leader() {
    let cluster = Cluster::start(3).await;
    cluster.grant(1, 6);
    for _ in 0..3 {
        millis(4_000).await;
        assert_eq!(cluster.renew(1, 1).await, Ok(6));
    }
    let due = cluster.now() + 6_000;
    cluster.kill(1);
    millis(1_500).await;
    cluster.elect(2);
    millis(10_000).await;
    assert_ended(&cluster, 1, due);
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_that_heard_nothing_learns_of_renewals_from_a_majority() {
    let cluster = Cluster::start(3).await;
    cluster.grant(1, 10);
    millis(1_000).await;
    cluster.cut_off(3, true);
    millis(6_000).await;
    assert_eq!(cluster.renew(1, 1).await, Ok(10));
    let due = cluster.now() + 10_000;
    cluster.cut_off(3, false);
    cluster.kill(1);
    cluster.elect(3);
    millis(20_000).await;
    assert_ended(&cluster, 1, due);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_replaced_unawares_renews_nothing() {
    let cluster = Cluster::start(3).await;
    cluster.grant(1, 10);
    millis(4_000).await;
    cluster.cut_off(1, true);
    cluster.elect(2);
    let answer = cluster.renew(1, 1).await;
    assert_eq!(answer, Err(Unavailable::Timeout));
    cluster.cut_off(1, false);
    millis(20_000).await;
    assert_ended(&cluster, 1, 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_was_long_under_way_makes_no_lease_live_longer() {
    let cluster = Cluster::start(3).await;
    cluster.grant(1, 20);
    millis(1_000).await;
    cluster.hold_up(2, true);
    cluster.hold_up(3, true);
    let asked = cluster.renew(1, 1).await;
    assert_eq!(asked, Err(Unavailable::Timeout));
    millis(8_000).await;
    cluster.hold_up(2, false);
    cluster.hold_up(3, false);
    millis(5).await;
    let sent = 1_000 + 3 * 500;
    cluster.kill(1);
    cluster.elect(2);
    millis(30_000).await;
    // The renewal was not answered; that it was asked for may count.
    let ended = cluster.ended(1).unwrap();
    assert!(
        (20_000..=sent + 20_000 + LATE_MAX).contains(&ended),
        "{ended}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_member_that_restarts_is_told_everything_anew() {
    let cluster = Cluster::start(3).await;
    cluster.grant(1, 10);
    millis(3_000).await;
    assert_eq!(cluster.renew(1, 1).await, Ok(10));
    let due = cluster.now() + 10_000;
    for member in [2, 3] {
        cluster.kill(member);
        millis(500).await;
        cluster.restart(member);
        millis(500).await;
    }
    cluster.kill(1);
    cluster.elect(2);
    millis(20_000).await;
    assert_ended(&cluster, 1, due);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_forgot_vouches_for_nothing() {
    let cluster = Cluster::start(3).await;
    cluster.grant(1, 10);
    millis(1_000).await;
    cluster.cut_off(3, true);
    millis(3_000).await;
    assert_eq!(cluster.renew(1, 1).await, Ok(10));
    let renewed = cluster.now();
    // The only two that know of the renewal: one dies, one forgets.
    cluster.kill(2);
    cluster.kill(1);
    cluster.cut_off(3, false);
    cluster.restart(2);
    cluster.elect(3);
    millis(30_000).await;
    let ended = cluster.ended(1).unwrap();
    assert!(ended >= renewed + 10_000, "{ended}");
    assert!(ended <= renewed + 10_000 + 2 * LATE_MAX, "{ended}");
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_of_all_a_lease_has_what_is_on_record() {
    let cluster = Cluster::start(3).await;
    cluster.grant(1, 60);
    cluster.grant(2, 60);
    millis(46_000).await;
    // Less than its full time was on record: the renewal waited until that was put right.
    assert_eq!(cluster.renew(1, 2).await, Ok(60));
    for member in 1..=3 {
        cluster.kill(member);
    }
    for member in 1..=3 {
        cluster.restart(member);
    }
    let restarted = cluster.now();
    cluster.elect(2);
    millis(100_000).await;
    assert_ended(&cluster, 1, restarted + 15_000);
    assert_ended(&cluster, 2, restarted + 60_000);
}

#[tokio::test(start_paused = true)]
async fn an_id_that_is_granted_again_has_its_own_time() {
    let cluster = Cluster::start(3).await;
    cluster.grant(1, 3);
    millis(2_000).await;
    // The new leader has applied the second grant, but no heartbeat has told it the new end.
    cluster.hold_up(2, true);
    cluster.hold_up(3, true);
    cluster.revoke(1);
    cluster.grant(1, 10);
    let due = cluster.now() + 10_000;
    cluster.kill(1);
    cluster.hold_up(2, false);
    cluster.hold_up(3, false);
    cluster.elect(2);
    millis(5_000).await;
    assert_eq!(cluster.renew(2, 9).await, Ok(0));
    let left = cluster.ask(2, Question::Remaining(vec![lease(1)])).await;
    assert_eq!(left, Ok(vec![5]));
    millis(20_000).await;
    // The end of the first one is the first that is noted.
    let last = cluster.committed().pop().unwrap();
    let ended: u64 = last.split(' ').next().unwrap().parse().unwrap();
    assert!(last.contains("expire [1]"), "{last}");
    assert!((due..=due + LATE_MAX).contains(&ended), "{last}");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_renewals_travels_in_few_messages() {
    const LEASES: i64 = 10_000;
    let cluster = Cluster::start(3).await;
    for id in 1..=LEASES {
        cluster.grant(id, 60);
    }
    millis(1_000).await;
    let before = cluster.tellings();
    let asks = (1..=LEASES).collect::<Vec<_>>();
    // As members gather them: rounds of at most 4,096.
    for round in asks.chunks(4_096) {
        let ids = round.iter().copied().map(lease).collect();
        let answers = cluster.ask(1, Question::Renew(ids)).await.unwrap();
        assert!(answers.iter().all(|seconds| *seconds == 60));
    }
    millis(1_000).await;
    let tellings = cluster.tellings() - before;
    assert!(
        (3..=12).contains(&tellings),
        "{tellings} messages for {LEASES} renewals"
    );
    assert!(
        cluster
            .committed()
            .iter()
            .all(|line| line.contains("grant")),
        "no renewal is in the log"
    );
    // And the next leader knows all of it.
    let due = cluster.now() - 1_000 + 60_000;
    cluster.kill(1);
    cluster.elect(3);
    millis(58_000).await;
    assert_eq!(cluster.ended(LEASES), None);
    millis(12_000).await;
    assert_ended(&cluster, 1, due);
}

/// Leases renewed at random while leaders die, are cut off and come back.
#[tokio::test(start_paused = true)]
async fn no_lease_ends_early_or_late_whatever_happens() {
    for seed in 0..50 {
        let mut random = StdRng::seed_from_u64(seed);
        let cluster = Cluster::start(3).await;
        let ttl = random.random_range(4..20);
        cluster.grant(1, ttl);
        let full = u64::try_from(ttl).unwrap() * 1_000;
        // The earliest and the latest time that the last renewal may count from.
        let mut counts_from = (0, 0);
        let mut leader = Some(1);
        let mut has_led_since = 0;
        let mut down = None;
        let abandoned = random.random_range(0..40_000);
        while cluster.ended(1).is_none() && cluster.now() < 120_000 {
            millis(random.random_range(1..1_500)).await;
            match random.random_range(0..10) {
                0..6 => {
                    let renewing = leader.filter(|_| cluster.now() < abandoned);
                    let Some(leader) = renewing else { continue };
                    let asked = cluster.now();
                    match cluster.renew(leader, 1).await {
                        Ok(0) => {}
                        Ok(_) => counts_from = (cluster.now(), cluster.now()),
                        Err(_) => counts_from.1 = asked.max(cluster.now()),
                    }
                }
                6..8 => {
                    let others = (1..=3).filter(|member| Some(*member) != down);
                    let others: Vec<u64> = others.collect();
                    let next = others[random.random_range(0..others.len())];
                    cluster.elect(next);
                    leader = Some(next);
                    has_led_since = cluster.now();
                }
                8 if down.is_none() => {
                    let member = random.random_range(1..=3);
                    cluster.cut_off(member, true);
                    down = Some(member);
                    if leader == Some(member) {
                        leader = None;
                    }
                }
                _ => {
                    if let Some(member) = down.take() {
                        cluster.cut_off(member, false);
                        has_led_since = cluster.now();
                    }
                }
            }
        }
        let ended = cluster
            .ended(1)
            .unwrap_or_else(|| panic!("seed {seed}: never ended"));
        let earliest = counts_from.0 + full;
        let latest = (counts_from.1 + full).max(has_led_since) + LATE_MAX;
        assert!(
            (earliest..=latest).contains(&ended),
            "seed {seed}: ended at {ended}, not between {earliest} and {latest}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_leader_that_is_slow_to_take_over_ends_nothing_before_it_knows() {
    let cluster = Cluster::start(3).await;
    cluster.grant(1, 5);
    millis(4_000).await;
    assert_eq!(cluster.renew(1, 1).await, Ok(5));
    let due = cluster.now() + 5_000;
    cluster.kill(1);
    cluster.set_delay(ELECTION / 5);
    cluster.elect(2);
    millis(300).await;
    assert_eq!(cluster.ended(1), None);
    millis(20_000).await;
    assert_ended(&cluster, 1, due);
}
