//! Members that go away, fall behind, or find their disk dead.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::cluster::{Cluster, put};
use crate::raft::peer::{AskError, fetch_state, places_in_log};
use crate::raft::{Limits, check_reach};
use crate::state::{Handle, State};

#[tokio::test]
async fn another_member_leads_when_the_leader_dies() {
    let mut cluster = Cluster::start(3).await;
    cluster.members[0].put("before", "1").await;
    let dead = cluster.leader().await.id;
    let place = cluster
        .members
        .iter()
        .position(|member| member.id == dead)
        .unwrap();
    cluster.stop(place).await;
    let survivor = (place + 1) % 3;
    // Whether the first one reached the dead leader is not known; a later one is done or waits.
    let _ = cluster.members[survivor]
        .raft
        .propose(put("lost", "?"))
        .await;
    cluster.members[survivor].put("after", "2").await;
    assert_eq!(
        cluster.members[survivor].get("before").as_deref(),
        Some("1")
    );
    cluster.restart(place).await;
    cluster.assert_identical().await;
}

#[tokio::test]
async fn a_member_behind_the_log_gets_a_snapshot() {
    let limits = Limits {
        entries: 20,
        bytes: 1 << 40,
        every: Duration::from_millis(20),
    };
    let mut cluster = Cluster::start_with(3, limits).await;
    let away = cluster.follower();
    cluster.stop(away).await;
    let leader = cluster.leader().await;
    for number in 0..200 {
        leader.put(&format!("k{number}"), "v").await;
    }
    let purged = |metrics: &openraft::RaftMetrics<_>| {
        metrics.purged.as_ref().is_some_and(|at| at.index > 100)
    };
    let waiting = leader.raft.core.wait(Some(Duration::from_secs(20)));
    waiting
        .metrics(purged, "the leader cuts its log")
        .await
        .unwrap();
    cluster.restart(away).await;
    let member = &cluster.members[away];
    member.raft.read_barrier().await.unwrap();
    assert_eq!(member.get("k0").as_deref(), Some("v"));
    member.put("after the snapshot", "1").await;
    cluster.assert_identical().await;
}

#[tokio::test]
async fn a_log_that_is_cut_keeps_what_its_limit_says() {
    const KEPT: u64 = 100;
    let limits = Limits {
        entries: KEPT,
        bytes: 1 << 40,
        every: Duration::from_millis(20),
    };
    let cluster = Cluster::start_with(1, limits).await;
    let member = &cluster.members[0];
    for number in 0..400 {
        member.put(&format!("k{number}"), "v").await;
        // Whenever it was cut, the newest entries are there.
        let metrics = member.raft.core.metrics().borrow_watched().clone();
        let applied = metrics.last_applied.map_or(0, |at| at.index);
        let purged = metrics.purged.map_or(0, |at| at.index);
        assert!(
            purged == 0 || applied - purged >= KEPT,
            "cut up to {purged} of {applied}"
        );
    }
    let cut = |metrics: &openraft::RaftMetrics<_>| {
        metrics.purged.as_ref().is_some_and(|at| at.index > KEPT)
    };
    let waiting = member.raft.core.wait(Some(Duration::from_secs(20)));
    waiting.metrics(cut, "it is cut at all").await.unwrap();
}

#[tokio::test]
async fn a_member_whose_state_is_gone_takes_anothers() {
    let limits = Limits {
        entries: 20,
        bytes: 1 << 40,
        every: Duration::from_millis(20),
    };
    let mut cluster = Cluster::start_with(3, limits).await;
    let leader = cluster.leader().await;
    for number in 0..200 {
        leader.put(&format!("k{number}"), "v").await;
    }
    let place = cluster.follower();
    let cut = |metrics: &openraft::RaftMetrics<_>| {
        metrics.purged.as_ref().is_some_and(|at| at.index > 100)
    };
    let waiting = cluster.members[place]
        .raft
        .core
        .wait(Some(Duration::from_secs(20)));
    waiting.metrics(cut, "its log is cut").await.unwrap();
    cluster.stop(place).await;
    // Its state was in memory, so now it has none.
    let member = cluster.members.remove(place);
    let wal = member.log();
    let fault = check_reach(&wal, None).unwrap_err().to_string();
    assert!(fault.contains("add it again as a new member"), "{fault}");
    let reach = wal.ends().purged.unwrap().index;
    let places = vec![cluster.leader().await.url.clone()];
    let none = fetch(&places, wal.identity(), u64::MAX).await;
    assert!(matches!(none, Err(AskError::Unreachable(_))));
    let ready = fetch(&places, wal.identity(), reach).await;
    let ready = ready.map_err(|error| error.to_string()).unwrap();
    assert!(ready.position().unwrap().index >= reach);
    let state = Handle::new(State::in_memory());
    ready.install(&state).unwrap();
    let member = member.restart_on(wal, state.into_state().unwrap()).await;
    cluster.members.insert(place, member);
    cluster.members[place].put("after", "1").await;
    cluster.assert_identical().await;

    let stranger = crate::wal::Identity {
        member: crate::command::MemberId(9),
        ..cluster.members[place].log_identity()
    };
    let refused = fetch(&places, &stranger, reach).await;
    assert!(matches!(refused, Err(AskError::Refused(why)) if why.contains("was removed")));
}

#[tokio::test]
async fn who_has_no_leader_is_not_believed_that_a_member_was_removed() {
    let mut cluster = Cluster::start(3).await;
    for place in 0..3 {
        cluster.stop(place).await;
    }
    cluster.restart(0).await;
    let places = vec![cluster.members[0].url.clone()];
    let unknown = crate::wal::Identity {
        member: crate::command::MemberId(9),
        ..cluster.members[0].log_identity()
    };
    // While it remembers its last leader it says nothing at all.
    let why = loop {
        match fetch(&places, &unknown, 0).await {
            Err(AskError::Unreachable(why)) if why.contains("no leader") => break why,
            Err(AskError::Unreachable(_)) => {}
            Err(AskError::Refused(why)) => panic!("{why}"),
            Ok(_) => panic!("it is sent the state"),
        }
    };
    assert!(why.contains("does not know this member"), "{why}");
}

#[tokio::test]
async fn a_log_knows_where_the_other_members_are() {
    let cluster = Cluster::start(3).await;
    let member = &cluster.members[0];
    member.put("after", "1").await;
    member.raft.read_barrier().await.unwrap();
    let others = cluster.members[1..].iter().map(|member| member.url.clone());
    member.stop().await;
    let mut places = places_in_log(&member.log()).unwrap();
    places.sort();
    let mut others: Vec<String> = others.collect();
    others.sort();
    assert_eq!(places, others);
}

#[tokio::test]
async fn a_proposal_waits_for_a_leader_instead_of_failing() {
    let mut cluster = Cluster::start(3).await;
    let follower = cluster.follower();
    let dead = cluster.leader().await.id;
    let place = cluster
        .members
        .iter()
        .position(|member| member.id == dead)
        .unwrap();
    cluster.stop(place).await;
    // It may be lost on its way to the dead leader, then its outcome is unknown; the next one is not.
    let _ = cluster.members[follower].raft.propose(put("a", "1")).await;
    cluster.members[follower].put("b", "2").await;
}

#[tokio::test]
async fn a_member_whose_log_cannot_be_written_ends() {
    let cluster = Cluster::start(1).await;
    let member = &cluster.members[0];
    let stopped = member.raft.stopped();
    member.disk.fail_writes();
    assert!(member.raft.propose(put("a", "1")).await.is_err() || member.get("a").is_none());
    let why = stopped.await;
    assert!(
        why.contains("cannot write the log") || why.contains("Raft ended"),
        "{why}"
    );
}

async fn fetch(
    places: &[String],
    own: &crate::wal::Identity,
    at_least: u64,
) -> Result<crate::state::InstallReady, AskError> {
    let place = crate::state::StatePlace::Memory(None);
    let offload = crate::offload::Offload::Threads;
    let network = crate::network::Network::Sockets;
    fetch_state(&network, places, own, at_least, &place, offload).await
}

/// openraft leads nobody from the moment a transfer begins, so somebody must see whether it ends.
#[tokio::test]
async fn a_transfer_is_seen_to_its_end_though_its_caller_gave_up() {
    let mut cluster = Cluster::start(2).await;
    let place = cluster.follower();
    let to = cluster.members[place].id;
    cluster.stop(place).await;
    // Before it is noticed that the other one is gone.
    let leader = &cluster.members[1 - place];
    let asked = leader.raft.transfer_leader(to);
    let given_up = tokio::time::timeout(Duration::from_millis(100), asked).await;
    assert!(given_up.is_err(), "{given_up:?}");
    let why = tokio::time::timeout(Duration::from_secs(30), leader.raft.stopped()).await;
    let why = why.expect("it waits for a leader for ever");
    assert!(why.contains("did not take over leadership"), "{why}");
}
