//! A plan keeps its promises whatever the operator sees, reachable or not.
//!
//! `plan_properties` walks through histories of a model; here every value of [`Observed`] is made up, but for what
//! `observe` itself guarantees: a member list comes from a leader that answers. `PROPTEST_CASES=1000000` looks longer.

use std::collections::BTreeSet;

use coord_operator::model::{Ordinal, quorum};
use coord_operator::observe::{MemberSeen, Membership, Observed, WaitReason};
use coord_operator::plan::{Plan, Step, plan};
use coord_operator::validate::Desired;
use proptest::prelude::*;
use proptest::sample::select;

#[path = "plan_any_state/states.rs"]
mod states;

use states::{NOW, desired, observed};

/// Demands on any plan. Said again in other words than the planner's.
fn check(desired: &Desired, observed: &Observed, plan: &Plan) -> Result<(), TestCaseError> {
    if desired.paused || !observed.in_the_way.is_empty() {
        prop_assert_eq!(&plan.step, &Step::Wait);
        prop_assert!(plan.children.is_none());
        return Ok(());
    }
    let recorded = observed.record.cluster_id;
    let list = observed
        .membership
        .as_ref()
        .filter(|m| recorded == Some(m.cluster_id));
    check_children(observed, list, plan)?;
    check_growth(desired, observed, plan)?;
    if plan.step.is_destructive() {
        prop_assert!(
            observed.contests_the_list().is_none(),
            "something is taken on the word of a list that is contested"
        );
    }
    let healthy_but = |id: u64| {
        let voters = list.into_iter().flat_map(Membership::voters);
        voters
            .filter(|m| m.id != id && observed.is_healthy(m))
            .count()
    };
    let voters = list.map_or(0, |m| m.voters().count());
    let in_list = |n: Ordinal| list.and_then(|m| m.at(n));
    match &plan.step {
        Step::Done | Step::Wait | Step::Stall => {}
        Step::Bootstrap { ordinal, start } => {
            prop_assert!(recorded.is_none(), "a second cluster is formed");
            prop_assert!(observed.volumes.values().all(|v| v.cluster_id.is_none()));
            let waiting = &observed.waiting[ordinal];
            prop_assert_eq!(waiting.start.as_ref(), Some(start));
        }
        Step::MarkRemoved {
            ordinal, member_id, ..
        } => {
            let list = list.expect("only with a confirmed list");
            let member = list.at(*ordinal).expect("in the list");
            let volume = &observed.volumes[ordinal];
            prop_assert!(!volume.deleting);
            match member_id {
                Some(id) => prop_assert_eq!(*id, member.id),
                None => prop_assert_eq!(volume.removed_id, Some(member.id)),
            }
        }
        Step::RecordBootstrap { .. } => {
            prop_assert!(recorded.is_none() && observed.record.bootstrap.is_none());
            prop_assert!(
                observed.volumes.values().all(|v| v.cluster_id.is_none()),
                "a second bootstrap"
            );
        }
        Step::RecordCluster { cluster_id } => {
            prop_assert!(recorded.is_none());
            prop_assert!(
                observed
                    .volumes
                    .values()
                    .all(|v| v.cluster_id.is_none_or(|id| id == *cluster_id))
            );
        }
        Step::MarkVolume {
            ordinal,
            cluster_id,
            ..
        } => {
            prop_assert!(recorded.is_none_or(|id| id == *cluster_id));
            let volume = &observed.volumes[ordinal];
            prop_assert!(
                volume.cluster_id.is_none_or(|id| id == *cluster_id),
                "one cluster's disk became another's"
            );
        }
        Step::AddLearner { ordinal } => {
            let list = list.expect("only with a confirmed list");
            let learners = list.members.iter().filter(|m| m.is_learner).count();
            let max = if voters == 1 { 2 } else { 1 };
            prop_assert!(learners < max && list.at(*ordinal).is_none());
            prop_assert!(healthy_but(0) >= quorum(voters));
            let numbers = list.members.iter().filter_map(|m| m.ordinal);
            let is_shared = !observed.shared_nodes(numbers.clone()).is_empty();
            let is_replaced = list.voters().filter_map(|m| m.ordinal).any(|n| {
                let pod = observed.pods.get(&n).map(|pod| &pod.template_hash);
                let set = observed.sets.get(&n).map(|set| &set.template_hash);
                let is_outdated = pod.or(set).is_some_and(|h| *h != desired.template_hash);
                is_outdated && observed.volumes.get(&n).is_some_and(|v| v.deleting)
            });
            let wanted = desired.replicas as usize + usize::from(is_shared || is_replaced);
            prop_assert!(numbers.count() < wanted, "one more than anybody needs");
            let volume = &observed.volumes[ordinal];
            prop_assert_eq!(volume.cluster_id, recorded);
            prop_assert!(
                volume.member_id.is_none_or(|id| list.holds(id)),
                "a removed member's disk joins"
            );
        }
        Step::Promote { id, ordinal, with } => {
            prop_assert!(in_list(*ordinal).is_some_and(|m| m.is_learner && m.id == *id));
            for id in std::iter::once(id).chain(with) {
                let list = list.expect("only with a confirmed list");
                prop_assert!(list.members.iter().any(|m| m.is_learner && m.id == *id));
                prop_assert!(observed.caught_up[id] >= 2);
            }
            prop_assert!(voters + 1 + with.len() != 2, "just two voters");
        }
        Step::MoveLeader { from, to } => {
            let list = list.expect("only with a confirmed list");
            prop_assert_eq!(list.leader, *from);
            prop_assert!(
                list.voters()
                    .any(|m| m.id == *to && m.id != *from && observed.is_healthy(m))
            );
        }
        Step::RemoveMember { id, with, .. } => {
            let list = list.expect("only with a confirmed list");
            let goes = |m: &&MemberSeen| m.id == *id || with.contains(&m.id);
            let leaving: Vec<&MemberSeen> = list.members.iter().filter(goes).collect();
            prop_assert_eq!(leaving.len(), 1 + with.len(), "all are in the list");
            let stay = || list.voters().filter(|m| !goes(m));
            let left = stay().count();
            let healthy = stay().filter(|m| observed.is_healthy(m)).count();
            let to_one = desired.replicas == 1 && voters == 3;
            prop_assert!(
                !to_one || left != 2,
                "by way of two, of which neither may be lost"
            );
            prop_assert!(
                with.is_empty() || (to_one && left == 1),
                "more than one goes"
            );
            for member in leaving.into_iter().filter(|m| !m.is_learner) {
                prop_assert_ne!(list.leader, member.id);
                prop_assert!(healthy >= quorum(left), "below quorum by a removal");
                prop_assert!(
                    !observed.is_healthy(member) || healthy == left,
                    "the dead go first"
                );
                prop_assert!(
                    !observed.is_healthy(member) || voters > desired.replicas as usize,
                    "a healthy voter goes before another has taken its place"
                );
            }
        }
        Step::RestartPod { ordinal, .. } => {
            let is_going = observed
                .volumes
                .get(ordinal)
                .is_some_and(|v| v.deleting && (recorded.is_some() || v.member_id.is_some()));
            let is_nobodys = list.is_some() && in_list(*ordinal).is_none();
            prop_assert!(!is_going || is_nobodys, "a disk goes with the pod");
            if is_nobodys {
                not_of_a_member(observed, *ordinal)?;
            }
            if let Some(member) =
                in_list(*ordinal).filter(|m| !m.is_learner && observed.is_healthy(m))
            {
                prop_assert!(
                    voters == 1 || healthy_but(member.id) == voters - 1,
                    "two down at once"
                );
                prop_assert!(
                    voters == 1 || healthy_but(member.id) >= quorum(voters),
                    "below quorum by a restart"
                );
                prop_assert!(
                    voters == 1 || list.is_some_and(|m| m.leader != member.id),
                    "the leader restarted"
                );
            } else if list.is_none() {
                // A claim on which nobody lived, and that is being deleted, goes with the pod whose server waits on it.
                let waits_on_nothing = observed.waiting.get(ordinal).is_some_and(|waiting| {
                    matches!(waiting.reason, WaitReason::NotAdded | WaitReason::Wiped)
                }) && observed
                    .volumes
                    .get(ordinal)
                    .is_some_and(|volume| volume.deleting && volume.member_id.is_none());
                prop_assert!(
                    !observed.pods[ordinal].running || waits_on_nothing,
                    "restarted on a guess"
                );
            }
        }
        Step::DeleteSet { ordinal, .. } => {
            prop_assert!(list.is_some() && in_list(*ordinal).is_none());
            not_of_a_member(observed, *ordinal)?;
        }
        Step::DeleteVolume { ordinal, .. } => {
            prop_assert!(list.is_some() && in_list(*ordinal).is_none());
            not_of_a_member(observed, *ordinal)?;
            let volume = &observed.volumes[ordinal];
            let is_ours = volume.cluster_id == recorded
                || volume.bootstrap.as_ref().map(|b| &b.token)
                    == observed.record.bootstrap.as_ref().map(|b| &b.token);
            prop_assert!(volume.removed_id.is_some() || volume.lost || is_ours);
            prop_assert!(
                !observed.sets.contains_key(ordinal) && !observed.pods.contains_key(ordinal)
            );
        }
    }
    Ok(())
}

/// A disk of this cluster that is too small is asked to grow, with a quorum and without, whatever else waits.
fn check_growth(desired: &Desired, observed: &Observed, plan: &Plan) -> Result<(), TestCaseError> {
    for (n, volume) in &observed.volumes {
        let is_ours =
            volume.cluster_id.is_some() && volume.cluster_id == observed.record.cluster_id;
        let is_there = !volume.deleting && !volume.lost;
        let is_small = volume.requested_bytes < desired.storage_bytes;
        if is_ours && is_there && is_small && volume.expands != Some(false) {
            prop_assert!(plan.grow.contains_key(n), "a small disk that does not grow");
        }
        if !is_there
            || volume
                .capacity_bytes
                .is_some_and(|has| has > desired.storage_bytes)
        {
            prop_assert!(
                !plan.grow.contains_key(n),
                "a disk that cannot be asked for less"
            );
        }
    }
    Ok(())
}

/// Nothing is taken of a number whose pod answers as a member, or whose member left without the operator.
fn not_of_a_member(observed: &Observed, n: Ordinal) -> Result<(), TestCaseError> {
    let answers = observed.answers.get(&n);
    prop_assert!(answers.is_none_or(|a| Some(a.cluster_id) != observed.record.cluster_id));
    if let Some(volume) = observed.volumes.get(&n).filter(|v| !v.deleting && !v.lost) {
        prop_assert!(volume.member_id.is_none() || volume.removed_id == volume.member_id);
    }
    Ok(())
}

fn check_children(
    observed: &Observed,
    list: Option<&Membership>,
    plan: &Plan,
) -> Result<(), TestCaseError> {
    let record = &observed.record;
    let Some(children) = &plan.children else {
        let is_record = matches!(plan.step, Step::RecordCluster { .. });
        prop_assert!(is_record || record.cluster_id.is_none() && record.bootstrap.is_none());
        return Ok(());
    };
    let Some(list) = list else {
        // Without a list nobody's pod loses the label that keeps it from eviction.
        for (n, child) in &children.members {
            let labelled = observed.pods.get(n).is_some_and(|pod| pod.labelled_voter);
            prop_assert_eq!(child.is_voter, labelled);
        }
        if record.cluster_id.is_some() {
            prop_assert!(children.members.values().all(|c| !c.may_create_volume));
        }
        return Ok(());
    };
    let voters = list.voters().count();
    for member in &list.members {
        let child = member.ordinal.and_then(|n| children.members.get(&n));
        prop_assert!(
            child.is_some_and(|c| !c.may_create_volume),
            "an empty disk for a member"
        );
    }
    let keeps = children.min_available.map_or(0, |min| min as usize);
    let promoted = plan.step.promotes();
    let learners = list
        .members
        .iter()
        .filter(|m| m.is_learner && observed.is_healthy(m));
    let joins = learners.count().max(promoted);
    // A learner that waits for company has no vote yet.
    let joins = if voters == 1 && joins == 1 { 0 } else { joins };
    prop_assert!(voters + joins <= 1 || keeps == quorum(voters + joins));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_for_any_state_is_safe_and_the_same_when_made_twice(
        observed in observed(),
        replicas in select(vec![1, 3, 5, 7]),
        (wait, paused) in (any::<bool>(), prop_oneof![19 => Just(false), 1 => Just(true)]),
    ) {
        let desired = desired(replicas, wait, paused);
        let first = plan(&desired, &observed, NOW);
        prop_assert_eq!(&first, &plan(&desired, &observed, NOW));
        check(&desired, &observed, &first)?;
    }
}

/// The generator reaches every step: a check that never runs shows nothing.
#[test]
fn the_states_made_up_here_ask_for_every_step() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let mut unseen: BTreeSet<&str> = [
        "Wait",
        "Stall",
        "RecordBootstrap",
        "RecordCluster",
        "MarkVolume",
        "MarkRemoved",
        "Bootstrap",
        "AddLearner",
        "Promote",
        "MoveLeader",
        "RemoveMember",
        "DeleteSet",
        "DeleteVolume",
        "RestartPod",
    ]
    .into();
    let states = observed();
    for round in 0..30_000 {
        let observed = states.new_tree(&mut runner).expect("a state").current();
        let desired = desired([1, 3, 5, 7][round % 4], false, false);
        unseen.remove(plan(&desired, &observed, NOW).step.name());
        if unseen.is_empty() {
            return;
        }
    }
    panic!("never asked for: {unseen:?}");
}
