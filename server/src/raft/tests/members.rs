//! The membership: joining, promotion, removal, and who is refused.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;

use super::cluster::{CLUSTER, Cluster, Member, TOKEN};
use crate::command::{LogPosition, MemberId, MemberRefusal};
use crate::network::Network;
use crate::raft::peer::{AskError, Asker, JoinAnswer, ask_membership};
use crate::raft::{ChangeError, Limits, MemberChange, types};

const KEEP_ALL: Limits = Limits {
    entries: 1 << 40,
    bytes: 1 << 40,
    every: Duration::from_secs(3600),
};

fn removal(id: MemberId) -> MemberChange {
    MemberChange::Remove {
        id,
        with: Vec::new(),
    }
}

fn promotion(id: MemberId) -> MemberChange {
    MemberChange::Promote {
        id,
        with: Vec::new(),
    }
}

async fn promote(member: &Member, id: MemberId) {
    loop {
        match member.raft.change(promotion(id)).await {
            Ok(()) => return,
            Err(ChangeError::Refused(MemberRefusal::LearnerNotReady(_))) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_member_joins_as_a_learner_is_promoted_and_leaves() {
    let mut cluster = Cluster::start(3).await;
    cluster.members[0].put("before", "1").await;
    let fourth = Member::new(4, KEEP_ALL).await;
    let (id, peer_urls) = (fourth.id, vec![fourth.url.clone()]);
    let through = cluster.follower();
    let add = MemberChange::AddLearner {
        id,
        peer_urls: peer_urls.clone(),
    };
    cluster.members[through]
        .raft
        .change(add.clone())
        .await
        .unwrap();
    let again = cluster.members[through].raft.change(add).await;
    assert_eq!(again, Err(MemberRefusal::Exists(id).into()));
    fourth.raft.read_barrier().await.unwrap();
    assert_eq!(fourth.get("before").as_deref(), Some("1"));
    assert!(fourth.raft.status().is_learner);
    fourth.publish().await;

    promote(&cluster.members[through], id).await;
    fourth.put("as a voter", "2").await;
    cluster.members.push(fourth);
    cluster.assert_identical().await;
    let status = cluster.members[3].raft.status();
    assert!(!status.is_learner);
    let again = cluster.members[through].raft.change(promotion(id)).await;
    assert_eq!(again, Err(MemberRefusal::NotLearner(id).into()));

    let fourth = cluster.members.pop().unwrap();
    cluster.members[through]
        .raft
        .change(removal(id))
        .await
        .unwrap();
    let why = fourth.raft.stopped().await;
    assert!(why.contains("was removed"), "{why}");
    assert_eq!(cluster.members[0].raft.members().unwrap().len(), 3);
    let reused = MemberChange::AddLearner { id, peer_urls };
    assert_eq!(
        cluster.members[0].raft.change(reused).await,
        Err(MemberRefusal::Exists(id).into())
    );
}

#[tokio::test]
async fn a_single_member_grows_to_two() {
    let mut cluster = Cluster::start(1).await;
    let second = Member::new(2, KEEP_ALL).await;
    let add = MemberChange::AddVoter {
        id: second.id,
        peer_urls: vec![second.url.clone()],
    };
    cluster.members[0].raft.change(add).await.unwrap();
    second.put("a", "1").await;
    cluster.members.push(second);
    cluster.assert_identical().await;
}

#[tokio::test]
async fn changes_that_would_cost_the_quorum_are_refused() {
    let mut cluster = Cluster::start(3).await;
    let away = cluster.follower();
    let gone = cluster.members[away].id;
    cluster.stop(away).await;
    // Until the leader has missed it for an election timeout it counts as there.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let leader = cluster.leader().await;
    let other = cluster
        .members
        .iter()
        .find(|member| member.id != leader.id && member.id != gone)
        .unwrap();
    let refused = leader.raft.change(removal(other.id)).await;
    assert_eq!(refused, Err(crate::command::Unavailable::Unhealthy.into()));
    let unknown = leader.raft.change(removal(MemberId(77))).await;
    assert_eq!(unknown, Err(MemberRefusal::NotFound(MemberId(77)).into()));
    leader.raft.change(removal(gone)).await.unwrap();
    leader.put("still here", "1").await;
}

#[tokio::test]
async fn peer_urls_change_and_a_learner_stays_one() {
    let cluster = Cluster::start(1).await;
    let member = &cluster.members[0];
    let learner = MemberId(9);
    let url = |text: &str| vec![text.to_owned()];
    let add = MemberChange::AddLearner {
        id: learner,
        peer_urls: url("http://127.0.0.1:1"),
    };
    member.raft.change(add).await.unwrap();
    let set = MemberChange::SetPeerUrls {
        id: learner,
        peer_urls: url("http://127.0.0.1:2"),
    };
    member.raft.change(set).await.unwrap();
    let listed = member.raft.members().unwrap();
    assert!(
        listed.contains(&(learner, url("http://127.0.0.1:2"), true)),
        "{listed:?}"
    );
    let taken = MemberChange::SetPeerUrls {
        id: learner,
        peer_urls: vec![member.url.clone()],
    };
    assert_eq!(
        member.raft.change(taken).await,
        Err(MemberRefusal::PeerUrlExists.into())
    );
}

#[tokio::test]
async fn a_single_member_has_two_learners_at_most_and_others_one() {
    let learner = |id: u64| MemberChange::AddLearner {
        id: MemberId(id),
        peer_urls: vec![format!("http://127.0.0.1:{id}")],
    };
    for (members, most) in [(1, 2), (3, 1)] {
        let cluster = Cluster::start(members).await;
        let raft = &cluster.leader().await.raft;
        for id in 0..most {
            raft.change(learner(10 + id)).await.unwrap();
        }
        assert_eq!(
            raft.change(learner(20)).await,
            Err(MemberRefusal::TooManyLearners.into()),
            "{members} members"
        );
    }
}

/// From one voter to three, with no moment in which two vote: then neither of them could be lost.
#[tokio::test]
async fn two_learners_get_their_votes_in_one_change_or_none_does() {
    let cluster = Cluster::start(1).await;
    let first = &cluster.members[0];
    first.put("before", "1").await;
    let learners = [
        Member::new(2, KEEP_ALL).await,
        Member::new(3, KEEP_ALL).await,
    ];
    let add = |member: &Member| MemberChange::AddLearner {
        id: member.id,
        peer_urls: vec![member.url.clone()],
    };
    first.raft.change(add(&learners[0])).await.unwrap();
    let together = |with: MemberId| MemberChange::Promote {
        id: learners[0].id,
        with: vec![with],
    };
    let voters = || -> Vec<usize> {
        first
            .raft
            .membership
            .voters()
            .iter()
            .map(BTreeSet::len)
            .collect()
    };
    let unknown = first.raft.change(together(learners[1].id)).await;
    assert_eq!(unknown, Err(MemberRefusal::NotFound(learners[1].id).into()));
    assert_eq!(voters(), [1]);
    first.raft.change(add(&learners[1])).await.unwrap();
    for learner in &learners {
        learner.raft.read_barrier().await.unwrap();
        learner.publish().await;
    }
    let mut counts = first.raft.membership.core.server_metrics();
    loop {
        match first.raft.change(together(learners[1].id)).await {
            Ok(()) => break,
            Err(ChangeError::Refused(MemberRefusal::LearnerNotReady(_))) => {
                assert_eq!(voters(), [1], "one was promoted without the other");
                counts.changed().await.unwrap();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(voters(), [3]);
    for learner in &learners {
        assert!(!learner.raft.status().is_learner);
    }
    let listed = first.raft.members().unwrap();
    assert!(
        listed.iter().all(|(_, _, is_learner)| !is_learner),
        "{listed:?}"
    );
}

/// From three voters to one, with no moment in which two vote: then neither of them could be lost.
#[tokio::test]
async fn two_voters_leave_in_one_change_or_none_does() {
    let mut cluster = Cluster::start(3).await;
    let leads = cluster.leader().await.id;
    let place = cluster.members.iter().position(|m| m.id == leads).unwrap();
    let leader = cluster.members.remove(place);
    leader.put("before", "1").await;
    let others: Vec<MemberId> = cluster.members.iter().map(|member| member.id).collect();
    let together = |with: Vec<MemberId>| MemberChange::Remove {
        id: others[0],
        with,
    };
    let voters = |membership: &types::Members| -> Vec<usize> {
        let configurations = membership.get_joint_config().iter();
        configurations.map(BTreeSet::len).collect()
    };
    let core = &leader.raft.membership.core;
    let now = || {
        voters(
            core.server_metrics()
                .borrow_watched()
                .membership_config
                .membership(),
        )
    };
    let unknown = leader.raft.change(together(vec![MemberId(77)])).await;
    assert_eq!(unknown, Err(MemberRefusal::NotFound(MemberId(77)).into()));
    let all = leader.raft.change(together(vec![others[1], leads])).await;
    assert_eq!(all, Err(MemberRefusal::NotEnoughStarted.into()));
    assert_eq!(now(), [3]);

    let mut metrics = core.server_metrics();
    let seen = tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        while !seen.contains(&vec![1]) {
            let members = metrics.borrow_and_update().membership_config.clone();
            seen.insert(voters(members.membership()));
            metrics.changed().await.unwrap();
        }
        seen
    });
    leader.raft.change(together(vec![others[1]])).await.unwrap();
    assert_eq!(now(), [1]);
    let seen = seen.await.unwrap();
    assert!(seen.iter().flatten().all(|count| *count != 2), "{seen:?}");
    leader.put("after", "2").await;
    assert_eq!(leader.raft.members().unwrap().len(), 1);
    for member in cluster.members {
        let why = member.raft.stopped().await;
        assert!(why.contains("was removed"), "{why}");
    }
}

#[tokio::test]
async fn a_member_names_no_membership_that_does_not_have_it() {
    let cluster = Cluster::start(1).await;
    let member = &cluster.members[0];
    let add = MemberChange::AddLearner {
        id: MemberId(7),
        peer_urls: vec!["http://127.0.0.1:1".to_owned()],
    };
    member.raft.change(add).await.unwrap();
    let membership = &member.raft.membership;
    assert!(membership.committed_with(member.id).is_some());
    // As one that is only being added reads the log from before its time.
    assert_eq!(membership.committed_with(MemberId(5)), None);
    assert!(!membership.has_removed(MemberId(5), None));
    let known = membership
        .committed_with(member.id)
        .map(|at| LogPosition { index: 0, ..at });
    assert!(membership.has_removed(MemberId(5), known));
}

async fn ask(places: &[String], token: &str, own: &[String]) -> Result<JoinAnswer, AskError> {
    let settles = |answer: &JoinAnswer| answer.own.is_some();
    ask_membership(&Network::Sockets, places, token, Asker::At(own), settles).await
}

#[tokio::test]
async fn a_program_without_data_learns_who_is_there() {
    let cluster = Cluster::start(1).await;
    let places = vec![
        "http://127.0.0.1:1".to_owned(),
        cluster.members[0].url.clone(),
    ];
    let own = vec!["http://new:1".to_owned()];
    let answer = ask(&places, TOKEN, &own).await.unwrap();
    assert_eq!((answer.cluster, answer.own), (CLUSTER, None));
    assert_eq!(answer.started, [MemberId(1)]);
    let add = MemberChange::AddLearner {
        id: MemberId(5),
        peer_urls: own.clone(),
    };
    cluster.members[0].raft.change(add).await.unwrap();
    let answer = ask(&places, TOKEN, &own).await.unwrap();
    assert_eq!(answer.own, Some(MemberId(5)));
    assert_eq!((answer.used_up(), answer.is_current), (None, true));
    let refused = ask(&places, "another", &own).await;
    assert!(matches!(refused, Err(AskError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_program_without_data_asks_on_if_somebody_has_not_heard_of_it() {
    let (behind, ahead) = (Cluster::start(1).await, Cluster::start(1).await);
    let own = vec!["http://new:1".to_owned()];
    let add = MemberChange::AddLearner {
        id: MemberId(5),
        peer_urls: own.clone(),
    };
    ahead.members[0].raft.change(add).await.unwrap();
    let places = [&behind, &ahead].map(|cluster| cluster.members[0].url.clone());
    let answer = ask(&places, TOKEN, &own).await.unwrap();
    assert_eq!(answer.own, Some(MemberId(5)));
}

#[tokio::test]
async fn who_reaches_no_leader_does_not_say_that_its_answer_is_current() {
    let mut cluster = Cluster::start(3).await;
    let left = cluster.follower();
    let own = vec![cluster.members[left].url.clone()];
    let answer = ask(&own, TOKEN, &own).await.unwrap();
    assert_eq!(answer.used_up(), Some(cluster.members[left].id));
    assert!(answer.is_current);
    for place in 0..3 {
        cluster.stop(place).await;
    }
    cluster.restart(left).await;
    // Alone of three it finds no leader, and does not know whether it is still a member itself. While it remembers its last
    // leader it says nothing at all.
    let own = vec![cluster.members[left].url.clone()];
    match ask(&own, TOKEN, &own).await {
        Ok(answer) => assert!(!answer.is_current, "{answer:?}"),
        Err(error) => assert!(matches!(error, AskError::Unreachable(_)), "{error}"),
    }
}
