//! The rows of the members in the status, and the sentence about one that is not well.

use std::collections::{BTreeMap, BTreeSet};

use super::{Outcome, StatusInput};
use crate::crd::MemberRow;
use crate::model::{Ordinal, names};
use crate::observe::{MemberSeen, NodeState, Observed};
use crate::plan::Plan;

/// How a server ends that will not start on what it finds: nothing that starting it again would mend.
const REFUSED: &str = "its server ended with exit code 1:";

/// One row per member, and per pod that is on its way to become one. The remains of a removed member have none.
pub(super) fn rows(input: &StatusInput) -> Vec<MemberRow> {
    let observed = input.observed;
    let mut rows = BTreeMap::new();
    let membership = observed.membership.as_ref();
    let wanted: BTreeSet<Ordinal> = match &input.outcome {
        Outcome::Planned {
            plan: Plan {
                children: Some(children),
                ..
            },
            ..
        } => children.members.keys().copied().collect(),
        _ if membership.is_none() => observed.sets.keys().copied().collect(),
        _ => BTreeSet::new(),
    };
    for n in wanted {
        let role = if membership.is_some() {
            "joining"
        } else {
            "unknown"
        };
        let name = names::member(input.name, n);
        let trouble = observed.trouble(n).map(ToOwned::to_owned);
        rows.insert((n, name.clone()), row(name, role, observed, n, trouble));
    }
    for member in membership.iter().flat_map(|m| &m.members) {
        let leads = membership.is_some_and(|m| m.leader == member.id);
        let role = match (leads, member.is_learner) {
            (true, _) => "leader",
            (false, true) => "learner",
            (false, false) => "voter",
        };
        let n = member.ordinal.unwrap_or(u32::MAX);
        rows.retain(|(other, _), _| *other != n || member.ordinal.is_none());
        let healthy = observed.is_healthy(member);
        let message = (!healthy).then(|| sick_because(observed, member));
        let mut row = row(member.name.clone(), role, observed, n, message);
        row.id = Some(format!("{:x}", member.id));
        row.healthy = healthy;
        row.lag = observed
            .lag_of(member)
            .map(|lag| i64::try_from(lag).unwrap_or(i64::MAX));
        rows.insert((n, member.name.clone()), row);
    }
    let mut rows: Vec<MemberRow> = rows.into_values().collect();
    // A member that somebody else added may carry a name of ours, and the API server takes no two rows of one name.
    let mut names = BTreeSet::new();
    for row in &mut rows {
        if !names.insert(row.name.clone()) {
            row.name = format!("{} ({})", row.name, row.id.as_deref().unwrap_or("?"));
        }
    }
    rows
}

fn row(
    name: String,
    role: &str,
    observed: &Observed,
    n: u32,
    message: Option<String>,
) -> MemberRow {
    MemberRow {
        name,
        id: None,
        role: role.to_owned(),
        healthy: false,
        lag: None,
        version: observed
            .answers
            .get(&n)
            .map(|a| a.version.clone())
            .filter(|version| !version.is_empty()),
        node: observed.pods.get(&n).and_then(|pod| pod.node.clone()),
        message,
    }
}

fn sick_because(observed: &Observed, member: &MemberSeen) -> String {
    let Some(n) = member.ordinal else {
        return "was not added by the operator".to_owned();
    };
    let Some(pod) = observed.pods.get(&n) else {
        return match observed.trouble(n) {
            Some(trouble) => format!("has no pod: {trouble}"),
            None => "has no pod".to_owned(),
        };
    };
    if let Some(lost) = lost_home(observed, n) {
        return lost;
    }
    if let Some(finalizer) = pod
        .finalizer
        .as_ref()
        .filter(|_| pod.deleting_since.is_some())
    {
        return format!(
            "is being deleted, and its pod waits for the finalizer {finalizer}, which somebody else set and must take off"
        );
    }
    if pod.stuck {
        let node = pod.node.as_deref().unwrap_or("?");
        return format!(
            "cannot move: its pod on node {node} does not end, because that node does not report; if it will never come \
             back: kubectl delete node {node}, or taint it node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        );
    }
    if pod.deleting_since.is_some() {
        return "is being restarted".to_owned();
    }
    if let Some(trouble) = observed.trouble(n) {
        // A server that refuses its disk ends so. Its own way out is for people without an operator.
        let refuses = trouble.contains(REFUSED);
        let is_alone = observed
            .membership
            .as_ref()
            .is_none_or(|m| m.voters().count() < 2);
        let way_out = (refuses && !is_alone).then(|| {
            let claim = names::volume_of(&member.name);
            format!(" Here, if its disk cannot be used any more: kubectl delete pvc {claim} --wait=false")
        });
        return format!("does not run: {trouble}{}", way_out.unwrap_or_default());
    }
    if let Some(waiting) = observed.waiting.get(&n) {
        return match observed.is_emptied(n) {
            true => format!("has lost its data: {}", waiting.why),
            false => format!("does not serve: {}", waiting.why),
        };
    }
    if let Some(other) = observed
        .answers
        .get(&n)
        .filter(|a| a.member_id != member.id)
    {
        return format!(
            "is not there: its pod answers as member {:x} of cluster {:x}",
            other.member_id, other.cluster_id
        );
    }
    match (observed.answer_of(member), observed.lag_of(member)) {
        (None, _) => "does not answer".to_owned(),
        (Some(answer), _) if answer.leader == 0 => "sees no leader".to_owned(),
        (Some(answer), _)
            if Some(answer.leader) != observed.membership.as_ref().map(|m| m.leader) =>
        {
            "follows another leader".to_owned()
        }
        // No number: each that differs would be a write of the status. The row has it.
        (Some(_), _) => "is far behind the leader".to_owned(),
    }
}

/// The state of a member whose disk is tied to a node that is not there, and the remedy.
pub(super) fn lost_home(observed: &Observed, n: Ordinal) -> Option<String> {
    let home = observed.volumes.get(&n)?.home.as_ref()?;
    let node = &home.node;
    match home.state {
        NodeState::Ready => None,
        NodeState::NotReady => Some(format!(
            "waits for node {node}, which holds its disk and is not ready; if that will never come back: kubectl delete node {node}"
        )),
        NodeState::Gone => Some(format!(
            "has its disk on node {node}, which Kubernetes no longer has"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{Membership, PodSeen};

    /// The sentence about a voter of three with this pod.
    fn said_of(pod: PodSeen) -> String {
        let member = |n: u32| MemberSeen {
            id: 0xa0 + u64::from(n),
            ordinal: Some(n),
            name: format!("demo-{n}"),
            is_learner: false,
        };
        let observed = Observed {
            membership: Some(Membership {
                members: (0..3).map(member).collect(),
                ..Membership::default()
            }),
            pods: [(1, pod)].into(),
            ..Observed::default()
        };
        sick_because(&observed, &member(1))
    }

    #[test]
    fn a_server_that_refuses_its_disk_is_told_with_the_way_out_of_kubernetes() {
        let down = |trouble: &str| PodSeen {
            trouble: Some(trouble.to_owned()),
            ..PodSeen::default()
        };
        let refuses = "CrashLoopBackOff: its server ended with exit code 1: 1.wal is damaged";
        let said = said_of(down(refuses));
        assert!(said.contains("kubectl delete pvc data-demo-1-0"), "{said}");
        let said = said_of(down("ErrImagePull: no such image"));
        assert!(!said.contains("delete"), "{said}");
    }

    #[test]
    fn a_pod_that_a_finalizer_holds_is_not_called_one_on_a_dead_node() {
        let said = said_of(PodSeen {
            deleting_since: Some(1),
            stuck: true,
            finalizer: Some("x.y/z".to_owned()),
            ..PodSeen::default()
        });
        assert!(
            said.contains("finalizer x.y/z") && !said.contains("node"),
            "{said}"
        );
    }

    #[test]
    fn no_two_rows_have_one_name() {
        let member = |id, ordinal| MemberSeen {
            id,
            ordinal,
            name: "demo-1".to_owned(),
            is_learner: false,
        };
        let observed = Observed {
            membership: Some(Membership {
                members: vec![member(0xa1, Some(1)), member(0xf1, None)],
                ..Membership::default()
            }),
            ..Observed::default()
        };
        let input = StatusInput {
            name: "demo",
            generation: None,
            observed: &observed,
            outcome: Outcome::Invalid(&[]),
        };
        let names: Vec<String> = rows(&input).into_iter().map(|row| row.name).collect();
        assert_eq!(names, ["demo-1", "demo-1 (f1)"]);
    }
}
