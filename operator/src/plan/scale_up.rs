//! More voters: one waiting pod at a time is added as a learner.

use super::{Case, Step, Verdict, leftover};
use crate::observe::{Membership, Ordinal, StartMode, quorum};

/// The next member to add.
pub(super) fn next(case: &Case, membership: &Membership) -> Verdict {
    let observed = case.observed;
    let joiners = leftover::joiners(case, membership);
    let Some(&first) = joiners.first() else {
        return Verdict::Pass;
    };
    // The one that runs, if another cannot: a quota or a node may have room for one of two.
    let runs = |n: &Ordinal| {
        let pod = observed.pods.get(n);
        observed.volumes.contains_key(n)
            && pod.is_some_and(|pod| pod.running && pod.deleting_since.is_none())
    };
    let n = joiners.iter().copied().find(runs).unwrap_or(first);
    let name = case.name(n);
    // Until the seed's template has lost its licence to bootstrap, nobody joins: if its disk vanished just then, an
    // empty seed would start a second cluster beside the one that was joined.
    if let Some((seed, _)) = observed
        .sets
        .iter()
        .find(|(_, set)| set.mode == StartMode::Seed)
    {
        return Verdict::Hold(format!(
            "waiting for the StatefulSet of {} to take the joining template",
            case.name(*seed)
        ));
    }
    let healthy = membership.voters().filter(|m| case.is_healthy(m)).count();
    if healthy < quorum(membership.voters().count()) {
        return Verdict::Hold(format!(
            "only {healthy} voters are healthy; {name} is added once a quorum is"
        ));
    }
    let Some(volume) = observed.volumes.get(&n) else {
        return Verdict::Hold(format!("waiting for the disk of {name}"));
    };
    let pod = observed.pods.get(&n);
    if !pod.is_some_and(|pod| pod.running && pod.deleting_since.is_none()) {
        let trouble = observed
            .trouble(n)
            .map(|t| format!(" ({t})"))
            .unwrap_or_default();
        return Verdict::Hold(format!("waiting for the pod of {name} to run{trouble}"));
    }
    // The mark comes first: whatever happens after the member has been added, its disk is known to matter.
    if volume.cluster_id != Some(membership.cluster_id) {
        let step = Step::MarkVolume {
            ordinal: n,
            uid: volume.uid.clone(),
            cluster_id: membership.cluster_id,
            member_id: None,
        };
        return Verdict::Act(step, format!("{name} is about to join"));
    }
    let voters = membership.voters().filter(|m| m.ordinal.is_some()).count();
    Verdict::Act(
        Step::AddLearner { ordinal: n },
        format!(
            "{voters} voters, {} wanted; {name} joins as a learner",
            case.replicas()
        ),
    )
}
