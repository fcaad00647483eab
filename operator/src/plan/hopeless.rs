//! Why no quorum comes back by itself: what is lost, who is missing, who leads from outside. Each says what a person can do.

use std::collections::BTreeSet;

use super::Case;
use crate::model::{Ordinal, quorum};
use crate::observe::{Answer, WaitReason};

/// Seconds without a confirmed list after which members that all run, and see no leader of ours, will not find one. An
/// election takes a few.
const GIVEN_UP_SECONDS: i64 = 60;

/// Why the members cannot come back to a quorum without help, as far as anybody can know; `None` if they still may.
pub(super) fn why(case: &Case) -> Option<String> {
    is_locked(case)
        .or_else(|| too_much_is_lost(case))
        .or_else(|| led_by_a_stranger(case))
        .or_else(|| others_are_missing(case))
}

/// The members tell the operator nothing: authentication is enabled, and it has no user.
fn is_locked(case: &Case) -> Option<String> {
    (!case.observed.locked.is_empty()).then(|| {
        "authentication is enabled, and the operator has no user: the members serve on, but they tell it nothing, and nothing \
         is changed. For a change: etcdctl auth disable, and enable it again afterwards"
            .to_owned()
    })
}

fn is_given_up(case: &Case) -> bool {
    let since = case.observed.leaderless_since;
    since.is_some_and(|since| case.now - since >= GIVEN_UP_SECONDS)
}

/// The numbers whose servers answer as members of the recorded cluster.
fn answers<'a>(case: &'a Case) -> impl Iterator<Item = (Ordinal, &'a Answer)> {
    let recorded = case.observed.record.cluster_id;
    let answers = case.observed.answers.iter();
    answers
        .filter(move |(_, answer)| Some(answer.cluster_id) == recorded)
        .map(|(n, answer)| (*n, answer))
}

/// All of ours follow a member that is on none of our disks: the operator asks none but its own pods.
fn led_by_a_stranger(case: &Case) -> Option<String> {
    let leader = answers(case)
        .map(|(_, answer)| answer.leader)
        .find(|id| *id != 0)?;
    let is_one_of_ours = answers(case).any(|(_, answer)| answer.member_id == leader)
        || case
            .observed
            .volumes
            .values()
            .any(|v| v.member_id == Some(leader));
    if is_one_of_ours || !is_given_up(case) {
        return None;
    }
    Some(format!(
        "the members follow {leader:x}, which somebody else added and which runs elsewhere: the operator asks none but its own \
         pods. Move the leadership to one of them (etcdctl move-leader), and take it out: etcdctl member remove {leader:x}"
    ))
}

/// Every member that has a disk here runs, and together they are no quorum.
fn others_are_missing(case: &Case) -> Option<String> {
    let recorded = case.observed.record.cluster_id;
    let volumes = case.observed.volumes.iter();
    let with_data: BTreeSet<Ordinal> = volumes
        .filter(|(_, v)| v.cluster_id == recorded && v.member_id.is_some() && !v.lost)
        .map(|(n, _)| *n)
        .collect();
    let alone = answers(case).filter(|(_, answer)| answer.leader == 0);
    let alone: BTreeSet<Ordinal> = alone.map(|(n, _)| n).collect();
    if with_data.is_empty() || !with_data.is_subset(&alone) || !is_given_up(case) {
        return None;
    }
    let names: Vec<String> = with_data.into_iter().map(|n| case.name(n)).collect();
    Some(format!(
        "all members that have a disk here ({}) run and see no leader: they cannot reach each other, or the disks of \
         others are missing. Put those back. To begin with an empty cluster, delete this CoordCluster, delete the claims, and \
         create it again",
        names.join(", ")
    ))
}

/// Too many of those that are known to vote have no data any more.
///
/// That a pod votes is known by its label, or by the mark on its disk; without a list there is no better word.
fn too_much_is_lost(case: &Case) -> Option<String> {
    let observed = case.observed;
    let labelled = observed.pods.iter().filter(|(_, pod)| pod.labelled_voter);
    let marked = observed
        .volumes
        .iter()
        .filter(|(_, v)| v.member_id.is_some());
    let known: BTreeSet<Ordinal> = labelled
        .map(|(n, _)| *n)
        .chain(marked.map(|(n, _)| *n))
        .collect();
    let foreign = |n: &Ordinal| {
        let waiting = observed.waiting.get(n);
        waiting.filter(|waiting| waiting.reason == WaitReason::Foreign)
    };
    // Somebody may have taken the marks off a disk: only the server that starts on it knows that it is a new one.
    let is_new = |n: &Ordinal| {
        let waiting = observed.waiting.get(n);
        waiting.is_some_and(|waiting| waiting.reason == WaitReason::NotAdded)
    };
    let has_data = |n: &Ordinal| {
        let volume = observed.volumes.get(n).filter(|v| !v.lost);
        let is_there = volume.is_some_and(|v| v.member_id.is_some() || !is_new(n));
        is_there && !observed.is_emptied(*n) && foreign(n).is_none()
    };
    let (left, lost): (Vec<Ordinal>, Vec<Ordinal>) = known.into_iter().partition(has_data);
    if lost.is_empty() || left.len() >= quorum(left.len() + lost.len()) {
        return None;
    }
    let names = |numbers: &[Ordinal]| {
        let names: Vec<String> = numbers.iter().map(|n| case.name(*n)).collect();
        names.join(", ")
    };
    let rest = match left.is_empty() {
        true => "no disk with data is left".to_owned(),
        false => format!("only {} still has it", names(&left)),
    };
    let found = match lost.iter().find_map(foreign) {
        Some(foreign) => format!(
            "the disks of {} are not their own ({})",
            names(&lost),
            foreign.why
        ),
        None => format!("the data of {} is gone", names(&lost)),
    };
    Some(format!(
        "{found} and {rest}, which is no quorum. Put their disks back if there are copies. To begin with an empty \
         cluster, delete this CoordCluster, delete the claims, and create it again"
    ))
}
