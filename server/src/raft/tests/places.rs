//! Peer URLs that change while members run: the list says where they are dialled.

use std::time::Duration;

use super::cluster::{Cluster, KEEP_ALL, Member, free_url};
use crate::command::MemberId;
use crate::raft::MemberChange;

const LIMIT: Duration = Duration::from_secs(20);

fn moved(id: MemberId, url: &str) -> MemberChange {
    MemberChange::SetPeerUrls {
        id,
        peer_urls: vec![url.to_owned()],
    }
}

async fn serves(member: &Member) {
    let reached = tokio::time::timeout(LIMIT, member.raft.read_barrier()).await;
    reached.expect("it is reached").unwrap();
}

#[tokio::test]
async fn a_member_that_moved_is_dialled_where_it_is_now() {
    let mut cluster = Cluster::start(3).await;
    let moves = cluster.follower();
    let id = cluster.members[moves].id;
    let url = free_url().await;
    let leader = cluster.leader().await;
    leader.raft.change(moved(id, &url)).await.unwrap();
    leader.put("meanwhile", "1").await;
    cluster.stop(moves).await;
    let member = cluster.members.remove(moves).restart_at(&url).await;
    serves(&member).await;
    assert_eq!(member.get("meanwhile").as_deref(), Some("1"));
    cluster.members.insert(moves, member);
    cluster.assert_identical().await;
}

#[tokio::test]
async fn a_learner_that_was_added_with_a_wrong_url_is_reached_when_it_is_put_right() {
    let cluster = Cluster::start(1).await;
    let learner = Member::new(2, KEEP_ALL).await;
    let add = MemberChange::AddLearner {
        id: learner.id,
        peer_urls: vec![free_url().await],
    };
    let member = &cluster.members[0];
    member.raft.change(add).await.unwrap();
    // It is dialled there for a while.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let right = moved(learner.id, &learner.url);
    member.raft.change(right).await.unwrap();
    serves(&learner).await;
}
