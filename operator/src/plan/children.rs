//! The objects that should exist. They are all applied at once; only membership goes one by one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Case, Children, DEAD_SECONDS, MemberChild, Step, leftover, roll};
use crate::model::Ordinal;
use crate::observe::child_key;

/// The objects of the cluster as it stands before `step`.
pub(super) fn children(case: &Case, step: &Step) -> Children {
    let observed = case.observed;
    let mut members = BTreeMap::new();
    let turn = roll::turn(case);
    let mut add = |n: Ordinal, may_create_volume: bool| {
        let is_voter = match case.membership() {
            Some(membership) => membership.at(n).is_some_and(|m| !m.is_learner),
            // Without a list the label stays as it is, so that a budget never counts less than it did.
            None => observed.pods.get(&n).is_some_and(|pod| pod.labelled_voter),
        };
        members.insert(
            n,
            MemberChild {
                is_voter,
                may_create_volume: may_create_volume && case.desired.no_new_disks.is_none(),
                takes_template: may_take_template(case, n, turn),
                is_placed: observed
                    .volumes
                    .get(&n)
                    .is_some_and(|v| v.tied_to.is_some()),
            },
        );
    };
    match (observed.record.cluster_id, case.membership()) {
        (None, _) => {
            let seed = observed
                .record
                .bootstrap
                .as_ref()
                .and_then(|b| Ordinal::try_from(b.seed).ok())
                .unwrap_or(0);
            let wanted: BTreeSet<Ordinal> = (0..case.desired.replicas).chain([seed]).collect();
            wanted.into_iter().for_each(|n| add(n, true));
        }
        (Some(recorded), None) => {
            // A member that cannot be asked is kept as it is; a member with a disk of this cluster is started, and one whose
            // disk lost its mark, or never had one: its server says whose it is.
            let with_disk = observed
                .volumes
                .iter()
                .filter(|(_, v)| v.cluster_id.is_none_or(|id| id == recorded) && !v.deleting);
            let with_set = observed.sets.iter().filter(|(_, set)| !set.deleting);
            let kept: BTreeSet<Ordinal> = with_disk
                .map(|(n, _)| *n)
                .chain(with_set.map(|(n, _)| *n))
                .collect();
            kept.into_iter().for_each(|n| add(n, false));
        }
        (Some(_), Some(membership)) => {
            membership
                .members
                .iter()
                .filter_map(|m| m.ordinal)
                .for_each(|n| add(n, false));
            leftover::joiners(case, membership)
                .into_iter()
                .for_each(|n| add(n, true));
        }
    }
    let min_available = budget(case, step).map(|n| u32::try_from(n).expect("a handful of voters"));
    Children {
        members,
        min_available,
    }
}

/// The number that the disruption budget keeps: the quorum of the voters that there are, and of a learner that is
/// about to become one. Voters that are only wanted don't count: while growth waits, nodes can be drained and pods
/// restarted.
fn budget(case: &Case, step: &Step) -> Option<usize> {
    let observed = case.observed;
    observed.record.cluster_id?;
    if let Some(membership) = case.membership() {
        // Before its vote, and not only in the pass that gives it: an operator that dies in between would take it back.
        let learners = membership.members.iter().filter(|m| m.is_learner);
        let ready = learners.filter(|m| case.is_healthy(m)).count();
        // One that waits for company gets no vote yet: the only voter's node can be drained meanwhile.
        let is_due = ready > 1 || !case.grows_from_one(membership);
        let joins = if is_due {
            ready.max(step.promotes())
        } else {
            0
        };
        return case.min_available(membership.voters().count() + joins);
    }
    // Without a list it keeps no less than it did.
    let labelled = observed.pods.values().filter(|p| p.labelled_voter).count();
    let key = child_key("PodDisruptionBudget", &case.desired.name);
    let before = observed.children.get(&key).filter(|seen| seen.is_ours);
    match before.and_then(|seen| seen.min_available) {
        Some(before) => case.min_available(labelled).max(Some(before as usize)),
        None => case.min_available(labelled.max(case.replicas())),
    }
}

/// True if the StatefulSet of `n` may take the template of today. All others keep theirs: what is wrong with it then
/// stops at the first pod, whichever pods are recreated meanwhile.
fn may_take_template(case: &Case, n: Ordinal, turn: Option<Ordinal>) -> bool {
    let observed = case.observed;
    let Some(set) = observed.sets.get(&n) else {
        return true;
    };
    let is_current = set.template_hash == case.desired.template_hash;
    // A member that is no voter takes part in nothing that could be lost.
    let is_voter = match case.membership() {
        Some(membership) => membership.at(n).is_some_and(|m| !m.is_learner),
        None => observed.record.cluster_id.is_some(),
    };
    let is_down_for_long = observed
        .podless_since
        .get(&n)
        .is_some_and(|since| case.now - since >= DEAD_SECONDS);
    is_current || !is_voter || turn == Some(n) || is_down_for_long || roll::is_broken(case, n)
}
