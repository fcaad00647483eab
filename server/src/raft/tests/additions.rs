//! Members that are added as voters before they run.

use std::time::Duration;

use super::cluster::{Cluster, Member, free_url};
use crate::command::{MemberId, MemberRefusal};
use crate::raft::{ChangeError, MemberChange};

const LIMIT: Duration = Duration::from_secs(20);
/// etcd answers at once.
const AT_ONCE: Duration = Duration::from_secs(1);

fn add(id: u64, url: &str) -> MemberChange {
    MemberChange::AddVoter {
        id: MemberId(id),
        peer_urls: vec![url.to_owned()],
    }
}

async fn at_once(member: &Member, change: MemberChange) -> Result<(), ChangeError> {
    let changed = tokio::time::timeout(AT_ONCE, member.raft.change(change)).await;
    changed.expect("it is answered at once")
}

async fn writes(member: &Member, key: &str) {
    let written = tokio::time::timeout(LIMIT, member.put(key, "1")).await;
    written.expect("writes pass");
}

/// Once the member has a vote.
async fn voting(cluster: &Cluster, voters: usize) {
    let has_all = async {
        let count = || cluster.members[0].raft.voters();
        while count().len() != 1 || count()[0].len() != voters {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let all = tokio::time::timeout(LIMIT, has_all).await;
    all.expect("the member that was added votes");
}

#[tokio::test]
async fn a_second_member_of_one_costs_nothing_until_it_runs() {
    let mut cluster = Cluster::start(1).await;
    let url = free_url().await;
    at_once(&cluster.members[0], add(2, &url)).await.unwrap();
    let listed = cluster.members[0].raft.members().unwrap();
    assert!(
        listed.contains(&(MemberId(2), vec![url.clone()], false)),
        "clients see a voter: {listed:?}"
    );
    writes(&cluster.members[0], "alone").await;
    let again = at_once(&cluster.members[0], add(3, &url)).await;
    assert_eq!(again, Err(MemberRefusal::NotEnoughStarted.into()));
    let third = at_once(&cluster.members[0], add(3, &free_url().await)).await;
    assert_eq!(third, Err(MemberRefusal::NotEnoughStarted.into()));
    let promoted = MemberChange::Promote {
        id: MemberId(2),
        with: Vec::new(),
    };
    let promoted = at_once(&cluster.members[0], promoted).await;
    assert_eq!(promoted, Err(MemberRefusal::NotLearner(MemberId(2)).into()));

    let second = Member::new_at(2, &url).await;
    second.raft.read_barrier().await.unwrap();
    assert!(!second.raft.is_learner(), "it serves as a voter does");
    second.publish().await;
    cluster.members.push(second);
    voting(&cluster, 2).await;
    writes(&cluster.members[1], "together").await;
    cluster.assert_identical().await;
}

#[tokio::test]
async fn a_member_that_never_started_is_removed_at_once() {
    let cluster = Cluster::start(1).await;
    let member = &cluster.members[0];
    at_once(member, add(2, &free_url().await)).await.unwrap();
    let remove = MemberChange::Remove {
        id: MemberId(2),
        with: Vec::new(),
    };
    at_once(member, remove).await.unwrap();
    writes(member, "after").await;
    assert_eq!(member.raft.members().unwrap().len(), 1);
}

#[tokio::test]
async fn a_fourth_member_joins_although_one_of_three_has_died() {
    let mut cluster = Cluster::start(3).await;
    let url = free_url().await;
    let leader = cluster.leader().await;
    at_once(leader, add(4, &url)).await.unwrap();
    let dies = cluster.follower();
    cluster.stop(dies).await;
    writes(cluster.leader().await, "without the fourth").await;
    let fourth = Member::new_at(4, &url).await;
    fourth.publish().await;
    let died = cluster.members.remove(dies);
    cluster.members.push(fourth);
    voting(&cluster, 4).await;
    writes(&cluster.members[2], "with it").await;
    cluster.members.push(died.restart().await);
    cluster.assert_identical().await;
}

#[tokio::test]
async fn a_member_that_awaits_its_vote_gets_it_from_the_next_leader_too() {
    let mut cluster = Cluster::start(3).await;
    let url = free_url().await;
    at_once(cluster.leader().await, add(4, &url)).await.unwrap();
    let old = cluster.leader().await.id;
    let old = cluster.members.iter().position(|member| member.id == old);
    cluster.stop(old.unwrap()).await;
    let fourth = Member::new_at(4, &url).await;
    let left = cluster.members.remove(old.unwrap());
    fourth.publish().await;
    cluster.members.push(fourth);
    voting(&cluster, 4).await;
    cluster.members.push(left.restart().await);
    cluster.assert_identical().await;
}
