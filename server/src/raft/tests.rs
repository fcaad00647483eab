//! Whole clusters in one process, over real sockets and logs in memory.

mod additions;
mod cluster;
mod contact;
mod faults;
mod levels;
mod members;
mod places;
mod sameness;
mod sizes;
mod storage;

use cluster::{Cluster, Member};

#[tokio::test]
async fn a_single_member_serves_what_it_was_told() {
    let cluster = Cluster::start(1).await;
    let member = &cluster.members[0];
    member.put("a", "1").await;
    member.raft.read_barrier().await.unwrap();
    assert_eq!(member.get("a").as_deref(), Some("1"));
    let status = member.raft.status();
    assert!(status.is_leader && !status.is_learner);
    assert_eq!(status.applied_index, status.committed_index);
}

#[tokio::test]
async fn a_write_through_any_member_is_read_on_every_member() {
    let cluster = Cluster::start(3).await;
    for (place, member) in cluster.members.iter().enumerate() {
        member.put(&format!("key-{place}"), "x").await;
    }
    for member in &cluster.members {
        member.raft.read_barrier().await.unwrap();
        for place in 0..3 {
            assert_eq!(member.get(&format!("key-{place}")).as_deref(), Some("x"));
        }
    }
    cluster.assert_identical().await;
}

#[tokio::test]
async fn many_writes_at_once_all_get_an_answer() {
    let cluster = Cluster::start(3).await;
    let writers = cluster
        .members
        .iter()
        .enumerate()
        .flat_map(|(place, member)| {
            (0..200).map(move |number| async move {
                member.put(&format!("{place}-{number}"), "v").await
            })
        });
    let revisions: std::collections::BTreeSet<u64> = futures::future::join_all(writers)
        .await
        .into_iter()
        .collect();
    assert_eq!(revisions.len(), 600, "each put takes a revision of its own");
    cluster.assert_identical().await;
}

#[tokio::test]
async fn a_member_that_restarts_has_what_it_had_and_catches_up() {
    let mut cluster = Cluster::start(3).await;
    let follower = cluster.follower();
    cluster.members[follower].put("before", "1").await;
    cluster.stop(follower).await;
    cluster.leader().await.put("while away", "2").await;
    cluster.restart(follower).await;
    let member = &cluster.members[follower];
    member.raft.read_barrier().await.unwrap();
    assert_eq!(member.get("before").as_deref(), Some("1"));
    assert_eq!(member.get("while away").as_deref(), Some("2"));
    cluster.assert_identical().await;
}

#[tokio::test]
async fn a_cluster_that_restarts_as_a_whole_has_lost_nothing() {
    let mut cluster = Cluster::start(3).await;
    for number in 0..20 {
        cluster.members[number % 3]
            .put(&format!("k{number}"), "v")
            .await;
    }
    for place in 0..3 {
        cluster.stop(place).await;
    }
    for place in 0..3 {
        cluster.restart(place).await;
    }
    for member in &cluster.members {
        member.raft.read_barrier().await.unwrap();
        for number in 0..20 {
            assert_eq!(member.get(&format!("k{number}")).as_deref(), Some("v"));
        }
    }
    cluster.members[1].put("after", "v").await;
    cluster.assert_identical().await;
}

#[tokio::test]
async fn leadership_goes_where_it_is_sent() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let follower: &Member = &cluster.members[cluster.follower()];
    leader.raft.transfer_leader(follower.id).await.unwrap();
    let mut leadership = follower.raft.leadership();
    leadership.wait_for(|now| now.is_self).await.unwrap();
    leader.put("through the old leader", "1").await;
    cluster.assert_identical().await;
}
