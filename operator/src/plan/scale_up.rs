//! More voters: one waiting pod at a time is added as a learner, whichever runs; two beside a single voter.

use super::{Case, Step, Verdict, aside, leftover, replacement, spread};
use crate::model::{Ordinal, names, quorum};
use crate::observe::{Membership, VolumeSeen, WaitReason};

/// The next member to add.
pub(super) fn next(case: &Case, membership: &Membership) -> Verdict {
    let joiners = leftover::joiners(case, membership);
    let Some(&first) = joiners.first() else {
        return Verdict::Pass;
    };
    let voters = membership.voters().count();
    let healthy = membership.voters().filter(|m| case.is_healthy(m)).count();
    if healthy < quorum(voters) {
        return Verdict::Hold(format!(
            "only {healthy} voters are healthy; {} is added once a quorum is",
            case.name(first)
        ));
    }
    if let Some(why) = no_room(case, membership) {
        return Verdict::Later(format!("{} cannot be added yet: {why}", case.name(first)));
    }
    let (n, volume) = match ready(case, &joiners) {
        Ok(ready) => ready,
        Err(why) => return Verdict::Later(why),
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
    let managed = membership.voters().filter(|m| m.ordinal.is_some()).count();
    let why = replacement::why(case, membership).or_else(|| spread::why(case, membership));
    let because = match why.filter(|_| managed == case.replicas()) {
        Some(why) => format!("{why}; {name} joins as a learner first"),
        None => format!(
            "{managed} voters, {} wanted; {name} joins as a learner",
            case.replicas()
        ),
    };
    Verdict::Act(Step::AddLearner { ordinal: n }, because)
}

/// The obstacle that keeps the next member from being added, if there is any.
pub(super) fn what_is_missing(case: &Case, membership: &Membership) -> Option<String> {
    let joiners = leftover::joiners(case, membership);
    no_room(case, membership).or_else(|| ready(case, &joiners).err())
}

/// Why the leader would take no further learner: it takes one at a time, and two beside a single voter.
fn no_room(case: &Case, membership: &Membership) -> Option<String> {
    let max = if case.grows_from_one(membership) {
        2
    } else {
        1
    };
    let learners = membership.members.iter().filter(|m| m.is_learner);
    if learners.clone().count() < max {
        return None;
    }
    let foreign = learners.clone().find(|m| m.ordinal.is_none());
    Some(match foreign {
        Some(foreign) => format!(
            "somebody else added the learner {} ({:x}), and the leader takes no other before that one is promoted or removed",
            foreign.name, foreign.id
        ),
        None => "the leader takes no other learner now".to_owned(),
    })
}

/// The first of `joiners` that can join now. One that cannot run does not keep another from joining. Errors: what the
/// first of them waits for.
fn ready<'a>(case: &'a Case, joiners: &[Ordinal]) -> Result<(Ordinal, &'a VolumeSeen), String> {
    let mut first = None;
    for n in joiners {
        match is_ready(case, *n) {
            Ok(volume) => return Ok((*n, volume)),
            Err(why) => drop(first.get_or_insert(why)),
        }
    }
    Err(first.unwrap_or_else(|| "what an earlier member left behind is being removed".to_owned()))
}

/// Its disk, if it can join now. Errors: the thing that it waits for.
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
        // The disk that it will run on is empty: its own word, a moment ago.
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
