//! Reads of the members: first everybody's status, then the list from the leader they name.

use std::collections::{BTreeMap, BTreeSet};

use coord_proto::etcd::etcdserverpb::{Member, StatusResponse};
use futures::future::join_all;

use super::{Answer, MemberSeen, Membership, Memory, PodSeen, WaitReason, WaitingSeen};
use crate::member_client::{self, MemberClient, MemberError, Route};
use crate::model::{Ordinal, names};

/// The members' answers.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) answers: BTreeMap<Ordinal, Answer>,
    pub(super) waiting: BTreeMap<Ordinal, WaitingSeen>,
    /// Numbers whose servers tell nothing without a user.
    pub(super) locked: BTreeSet<Ordinal>,
    pub(super) membership: Option<Membership>,
    /// Learners that have applied all that the leader had applied before they were asked.
    pub(super) caught_up: BTreeSet<u64>,
}

/// The answer of one server.
enum Said {
    /// It serves.
    Serves(Answer),
    /// It runs, and says why it does not serve.
    Waits(WaitingSeen),
    /// It runs, and asks for a user.
    Locked,
}

/// Asks every pod of the cluster, all at once. A list is only taken from a member of the cluster that is `recorded`, or
/// of any while none is.
pub(super) async fn ask(
    route: &Route,
    cluster: &str,
    namespace: &str,
    recorded: Option<u64>,
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
                Ok(answer) => Some((n, address, Said::Serves(answer))),
                Err(error) if error.asks_for_a_user() => Some((n, address, Said::Locked)),
                Err(error) => {
                    tracing::debug!(member = n, %error, "no status");
                    let waiting = waiting(&address).await?;
                    Some((n, address, Said::Waits(waiting)))
                }
            }
        });
    let mut asked = Asked::default();
    let mut addresses = BTreeMap::new();
    for (n, address, said) in join_all(calls).await.into_iter().flatten() {
        addresses.insert(n, address);
        match said {
            Said::Serves(answer) => drop(asked.answers.insert(n, answer)),
            Said::Waits(waiting) => drop(asked.waiting.insert(n, waiting)),
            Said::Locked => drop(asked.locked.insert(n)),
        }
    }
    if let Some((n, leader)) = leader(recorded, &asked.answers) {
        match list(&addresses[&n], cluster, namespace, leader).await {
            Ok(membership) => asked.membership = Some(membership),
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

/// The leader whose list is taken: of those of the recorded cluster that call themselves leader, the one of the highest
/// term. Never another's, even if that one cannot confirm its list: a leader of an earlier term that can is of another
/// history.
fn leader(
    recorded: Option<u64>,
    answers: &BTreeMap<Ordinal, Answer>,
) -> Option<(Ordinal, &Answer)> {
    answers
        .iter()
        .filter(|(_, a)| recorded.is_none_or(|id| id == a.cluster_id))
        .filter(|(_, a)| a.leader == a.member_id && a.leader != 0)
        .max_by_key(|(_, a)| a.term)
        .map(|(n, answer)| (*n, answer))
}

/// Why a server that gave no status does not serve; `None` if it does not say.
async fn waiting(address: &str) -> Option<WaitingSeen> {
    let said = member_client::waiting(address).await.ok()??;
    let reason = match said.reason.as_str() {
        "not-added" => WaitReason::NotAdded,
        "wiped" => WaitReason::Wiped,
        "foreign" => WaitReason::Foreign,
        _ => WaitReason::Rebuilding,
    };
    Some(WaitingSeen {
        reason,
        why: said.why,
        start: said.start,
    })
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
        term: leader.term,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(cluster_id: u64, member_id: u64, term: u64) -> Answer {
        Answer {
            cluster_id,
            member_id,
            leader: member_id,
            term,
            ..Answer::default()
        }
    }

    #[test]
    fn a_list_is_taken_from_the_highest_term_of_the_recorded_cluster() {
        let answers = [
            (0, claims(0xc1, 0xa0, 3)),
            (1, claims(0xc1, 0xa1, 4)),
            (2, claims(0xc2, 0xb2, 9)),
        ]
        .into();
        assert_eq!(leader(Some(0xc1), &answers).map(|(n, _)| n), Some(1));
        assert_eq!(leader(Some(0xc3), &answers), None);
        assert_eq!(leader(None, &answers).map(|(n, _)| n), Some(2));
    }
}
