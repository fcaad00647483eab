//! Reads of the members: first everybody's status, then the list from the leader they name.

use super::{Answer, MemberSeen, Membership, Memory, Ordinal, PodSeen};
use crate::build::names;
use crate::member_client::{self, MemberClient, MemberError, Route};
use coord_proto::etcd::etcdserverpb::{Member, StatusResponse};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};

/// What the members said.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) answers: BTreeMap<Ordinal, Answer>,
    pub(super) membership: Option<Membership>,
    /// Learners that have applied all that the leader had applied before they were asked.
    pub(super) caught_up: BTreeSet<u64>,
}

/// Asks every pod of the cluster, all at once.
pub(super) async fn ask(
    route: &Route,
    cluster: &str,
    namespace: &str,
    pods: &BTreeMap<Ordinal, PodSeen>,
) -> Asked {
    let address = |n: Ordinal, pod: &PodSeen| {
        if !pod.running {
            return None;
        }
        route.address(&names::pod(cluster, n), pod.ip.as_deref())
    };
    let calls = pods
        .iter()
        .filter_map(|(n, pod)| Some((*n, address(*n, pod)?)))
        .map(|(n, address)| async move {
            match status(&address).await {
                Ok(answer) => Some((n, address, answer)),
                Err(error) => {
                    tracing::debug!(member = n, %error, "no status");
                    None
                }
            }
        });
    let mut asked = Asked::default();
    let mut addresses = BTreeMap::new();
    for (n, address, answer) in join_all(calls).await.into_iter().flatten() {
        asked.answers.insert(n, answer);
        addresses.insert(n, address);
    }
    // Only who calls itself leader is asked: its list is the newest, once its quorum has confirmed the read. After a
    // cut there may be two for a moment; the old one cannot confirm.
    let mut leaders: Vec<(Ordinal, Answer)> = asked
        .answers
        .iter()
        .filter(|(_, a)| a.leader == a.member_id && a.leader != 0)
        .map(|(n, a)| (*n, a.clone()))
        .collect();
    leaders.sort_by_key(|(_, answer)| std::cmp::Reverse(answer.term));
    for (n, leader) in leaders {
        match list(&addresses[&n], cluster, namespace, &leader).await {
            Ok(membership) => {
                asked.membership = Some(membership);
                break;
            }
            Err(error) => tracing::debug!(member = n, %error, "no confirmed member list"),
        }
    }
    let Some(membership) = &asked.membership else {
        return asked;
    };
    for learner in membership.members.iter().filter(|m| m.is_learner) {
        let Some(address) = learner.ordinal.and_then(|n| addresses.get(&n)) else {
            continue;
        };
        // Asked once more, after the leader's index was read: only so does "has it all" mean what it says.
        if let Ok(answer) = status(address).await
            && answer.member_id == learner.id
            && answer.applied_index >= membership.leader_index
        {
            asked.caught_up.insert(learner.id);
        }
    }
    asked
}

/// Fills in which program answers: once for each container.
pub(super) async fn versions(
    route: &Route,
    cluster: &str,
    memory: &mut Memory,
    pods: &BTreeMap<Ordinal, PodSeen>,
    answers: &mut BTreeMap<Ordinal, Answer>,
) {
    for (n, answer) in answers {
        let Some(pod) = pods.get(n) else { continue };
        let container = pod.container.as_deref().unwrap_or_default();
        answer.version = match memory.version(container) {
            Some(version) => version,
            None => {
                let Some(address) = route.address(&names::pod(cluster, *n), pod.ip.as_deref())
                else {
                    continue;
                };
                let Some(version) = member_client::program_version(&address).await else {
                    continue;
                };
                memory.remember_version(container, &version);
                version
            }
        };
    }
}

async fn status(address: &str) -> Result<Answer, MemberError> {
    Ok(answer(
        MemberClient::connect(address).await?.status().await?,
    ))
}

async fn list(
    address: &str,
    cluster: &str,
    namespace: &str,
    leader: &Answer,
) -> Result<Membership, MemberError> {
    let list = MemberClient::connect(address).await?.member_list().await?;
    Ok(Membership {
        cluster_id: list.header.unwrap_or_default().cluster_id,
        leader: leader.member_id,
        leader_index: leader.applied_index,
        members: list
            .members
            .into_iter()
            .map(|member| seen(cluster, namespace, member))
            .collect(),
    })
}

fn seen(cluster: &str, namespace: &str, member: Member) -> MemberSeen {
    let ordinal = member
        .peer_ur_ls
        .iter()
        .find_map(|url| names::ordinal_of_peer_url(cluster, namespace, url));
    let name = match ordinal {
        Some(n) => names::member(cluster, n),
        None if member.name.is_empty() => member.peer_ur_ls.join(","),
        None => member.name,
    };
    MemberSeen {
        id: member.id,
        ordinal,
        name,
        is_learner: member.is_learner,
    }
}

fn answer(status: StatusResponse) -> Answer {
    let header = status.header.unwrap_or_default();
    Answer {
        cluster_id: header.cluster_id,
        member_id: header.member_id,
        leader: status.leader,
        term: status.raft_term,
        raft_index: status.raft_index,
        applied_index: status.raft_applied_index,
        is_learner: status.is_learner,
        version: String::new(),
        in_use_bytes: u64::try_from(status.db_size_in_use).unwrap_or(0),
        quota_bytes: u64::try_from(status.db_size_quota).unwrap_or(0),
        errors: status.errors,
    }
}
