//! The feature level: raised when every member can follow, and what becomes of one that cannot.

use std::time::Duration;

use super::cluster::{Cluster, KEEP_ALL, Member, TOKEN, put};
use crate::command::level::FIRST_LEVEL;
use crate::command::{Alarm, AlarmCommand, AlarmKind, AuthCommand, Command};
use crate::network::Network;
use crate::raft::MemberChange;
use crate::raft::peer::{Asker, ask_membership};

/// Waits until a member has applied this level.
async fn reaches(member: &Member, level: u32) {
    while member.raft.feature_level() < level {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(member.raft.feature_level(), level);
}

#[tokio::test]
async fn the_level_rises_only_when_every_member_can_follow() {
    let mut cluster = Cluster::start_at(&[3, 3, 2]).await;
    for member in &cluster.members {
        reaches(member, 2).await;
    }
    // The third is the last that holds it: upgrade it, and it goes on to rise.
    cluster.stop(2).await;
    let upgraded = cluster.members.remove(2).restart_with(3).await;
    upgraded.raft.read_barrier().await.unwrap();
    assert_eq!(upgraded.raft.feature_level(), 2, "it has not said so yet");
    upgraded.publish().await;
    cluster.members.push(upgraded);
    for member in &cluster.members {
        reaches(member, 3).await;
        member.put("after", "x").await;
    }
    cluster.assert_identical().await;
}

#[tokio::test]
async fn a_learner_holds_the_level_too() {
    let cluster = Cluster::start_at(&[2]).await;
    let member = &cluster.members[0];
    reaches(member, 2).await;
    let learner = Member::new_with(9, KEEP_ALL, 2).await;
    let add = MemberChange::AddLearner {
        id: learner.id,
        peer_urls: vec![learner.url.clone()],
    };
    member.raft.change(add).await.unwrap();
    learner.publish().await;
    reaches(&learner, 2).await;
    let places = [member.url.clone()];
    let answer = ask_membership(&Network::Sockets, &places, TOKEN, Asker::At(&[]), |_| true)
        .await
        .unwrap();
    assert_eq!(answer.level, 2, "who joins is told before it starts");
}

#[tokio::test]
async fn a_member_that_is_too_old_ends_and_says_why() {
    let mut cluster = Cluster::start_at(&[3, 3, 3]).await;
    for member in &cluster.members {
        reaches(member, 3).await;
    }
    let away = cluster.follower();
    cluster.stop(away).await;
    // It meets the entry that it does not know while it starts, or soon after.
    let why = match cluster.members.remove(away).try_restart_with(2).await {
        Ok(old) => old.raft.stopped().await,
        Err(fault) => fault.to_string(),
    };
    assert!(
        why.contains(
            "the cluster is at feature level 3, this version knows 2: start a newer version"
        ),
        "{why}"
    );
    // The others go on.
    cluster.leader().await.put("after", "x").await;
}

#[tokio::test]
async fn a_command_above_the_level_is_refused_by_name_while_a_member_cannot_follow() {
    let cluster = Cluster::start(3).await;
    // As if the first level were a new one: the third member is of a version before it, and has said so.
    let old = &cluster.members[2];
    old.publish_at(FIRST_LEVEL - 1).await;
    for member in &cluster.members {
        member.raft.read_barrier().await.unwrap();
        member
            .state
            .with(|state| state.pretend_level(FIRST_LEVEL - 1));
    }
    let alarm = Alarm {
        kind: AlarmKind::NoSpace,
        member: old.id,
    };
    let commands = || {
        [
            (
                Command::Auth(AuthCommand::RoleAdd { role: "r".into() }),
                "role add",
            ),
            (
                Command::Alarm(AlarmCommand::Deactivate(alarm)),
                "end of an alarm",
            ),
            (put("k", "v"), "put"),
        ]
    };
    let before = cluster.leader().await.raft.status().last_index;
    for member in &cluster.members {
        for (command, name) in commands() {
            let refused = member.raft.propose(command).await.unwrap().result;
            let why = refused.unwrap_err().to_string();
            assert!(
                why.starts_with(&format!("{name} needs feature level")),
                "{why}"
            );
        }
    }
    let after = cluster.leader().await.raft.status().last_index;
    assert_eq!(after, before, "nothing of it is in the log");
    // Upgraded, it says so; the leader raises the level.
    old.publish().await;
    for member in &cluster.members {
        reaches(member, FIRST_LEVEL).await;
        for (command, name) in commands() {
            let outcome = member.raft.propose(command).await.unwrap();
            // The second to add it is told that it is there.
            assert!(outcome.result.is_ok() || name == "role add", "{name}");
        }
    }
}
