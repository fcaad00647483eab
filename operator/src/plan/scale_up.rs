//! More voters: one waiting pod at a time is added as a learner, whichever runs.

use super::{Case, Step, Verdict, aside, leftover};
use crate::model::{Ordinal, names, quorum};
use crate::observe::{Membership, VolumeSeen, WaitReason};

/// The next member to add.
pub(super) fn next(case: &Case, membership: &Membership) -> Verdict {
    let joiners = leftover::joiners(case, membership);
    let Some(&first) = joiners.first() else {
        return Verdict::Pass;
    };
    let healthy = membership.voters().filter(|m| case.is_healthy(m)).count();
    if healthy < quorum(membership.voters().count()) {
        return Verdict::Hold(format!(
            "only {healthy} voters are healthy; {} is added once a quorum is",
            case.name(first)
        ));
    }
    // One that cannot run does not keep another from joining.
    let ready: Vec<(Ordinal, Result<&VolumeSeen, String>)> =
        joiners.iter().map(|n| (*n, is_ready(case, *n))).collect();
    let Some((n, volume)) = ready
        .iter()
        .find_map(|(n, ready)| ready.as_ref().ok().map(|volume| (*n, *volume)))
    else {
        let why = ready.into_iter().find_map(|(_, ready)| ready.err());
        return Verdict::Later(why.expect("none is ready"));
    };
    let name = case.name(n);
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

/// Its disk, if it can join now. Errors: what it waits for.
fn is_ready<'a>(case: &'a Case, n: Ordinal) -> Result<&'a VolumeSeen, String> {
    let observed = case.observed;
    let name = case.name(n);
    let Some(volume) = observed.volumes.get(&n) else {
        let why = case.desired.no_new_disks.as_ref();
        let why = why.map(|why| format!(": {why}")).unwrap_or_default();
        return Err(format!("waiting for the disk of {name}{why}"));
    };
    let pod = observed.pods.get(&n);
    if !pod.is_some_and(|pod| pod.running && pod.deleting_since.is_none()) {
        let trouble = aside(observed.trouble(n));
        return Err(format!("waiting for the pod of {name} to run{trouble}"));
    }
    let claim = names::volume(&case.desired.name, n);
    match observed.waiting.get(&n) {
        // What it will run on is empty: its own word, a moment ago.
        Some(waiting) if matches!(waiting.reason, WaitReason::NotAdded | WaitReason::Wiped) => {}
        Some(other) => {
            return Err(format!(
                "{name} cannot join: {}. To have its disk replaced: kubectl delete pvc {claim}",
                other.why
            ));
        }
        None => {
            return Err(match observed.answers.get(&n) {
                Some(answer) => format!(
                    "{name} cannot join: it answers as member {:x} of cluster {:x}",
                    answer.member_id, answer.cluster_id
                ),
                None => format!(
                    "waiting for {name} to say that its disk is empty; if a member lived on it: kubectl delete pvc {claim}"
                ),
            });
        }
    }
    Ok(volume)
}
