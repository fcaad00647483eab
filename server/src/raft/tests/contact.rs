//! Members that are cut off know that they have no leader.

use std::time::Duration;

use super::cluster::{Cluster, Member};
use crate::raft::Leadership;

/// Twice the tests' election timeout, and something for a loaded machine.
const LIMIT: Duration = Duration::from_secs(5);

async fn comes_to(member: &Member, wanted: impl FnMut(&Leadership) -> bool, what: &str) {
    let mut contact = member.raft.contact();
    let found = tokio::time::timeout(LIMIT, contact.wait_for(wanted)).await;
    found.expect(what).unwrap();
}

#[tokio::test]
async fn a_follower_without_its_leader_has_none() {
    let mut cluster = Cluster::start(2).await;
    let survivor = cluster.follower();
    cluster.stop(1 - survivor).await;
    let member = &cluster.members[survivor];
    comes_to(member, |now| now.leader.is_none(), "it has no leader").await;
    let status = member.raft.status();
    assert!(status.leader.is_none() && !status.is_leader);
    cluster.restart(1 - survivor).await;
    let member = &cluster.members[survivor];
    comes_to(member, |now| now.leader.is_some(), "there is one again").await;
}

#[tokio::test]
async fn a_leader_without_a_quorum_is_none() {
    let mut cluster = Cluster::start(3).await;
    let leader = cluster.leader().await.id;
    let place = |cluster: &Cluster| {
        let mut members = cluster.members.iter();
        members.position(|member| member.id == leader).unwrap()
    };
    for member in cluster.members.iter().filter(|member| member.id != leader) {
        member.stop().await;
    }
    let member = &cluster.members[place(&cluster)];
    comes_to(member, |now| now.leader.is_none(), "it leads nobody").await;
    assert!(!member.raft.status().is_leader);
    let other = (place(&cluster) + 1) % 3;
    cluster.restart(other).await;
    let member = &cluster.members[place(&cluster)];
    comes_to(member, |now| now.leader.is_some(), "there is one again").await;
    member.put("after", "1").await;
}

#[tokio::test]
async fn a_follower_of_a_leader_without_a_quorum_has_none_either() {
    let cluster = Cluster::start(5).await;
    let leader = cluster.leader().await.id;
    let others = cluster.members.iter().filter(|member| member.id != leader);
    let others: Vec<&Member> = others.collect();
    let (follows, gone) = others.split_first().unwrap();
    for member in gone {
        member.stop().await;
    }
    comes_to(follows, |now| now.leader.is_none(), "it has no leader").await;
    // The leader goes on to look for its quorum; to be heard of it then is not to have a leader.
    let mut contact = follows.raft.contact();
    contact.borrow_and_update();
    let changed = tokio::time::timeout(Duration::from_secs(6), contact.changed()).await;
    assert!(changed.is_err(), "{:?}", *contact.borrow());
}

#[tokio::test]
async fn a_leader_in_contact_stays_one() {
    let cluster = Cluster::start(3).await;
    let member = &cluster.members[cluster.follower()];
    let mut contact = member.raft.contact();
    comes_to(member, |now| now.leader.is_some(), "there is a leader").await;
    // A machine that gives the test no time for an election timeout makes a break; breaks one after the other are ours.
    for _ in 0..5 {
        contact.borrow_and_update();
        let changed = tokio::time::timeout(Duration::from_secs(3), contact.changed()).await;
        if changed.is_err() {
            return;
        }
    }
    panic!("it comes and goes: {:?}", *contact.borrow());
}
