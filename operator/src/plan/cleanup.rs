//! The remains of members: StatefulSet first, then its pod goes, then the disk. A pod that stays behind, because somebody
//! deleted its StatefulSet alone, is deleted.
//!
//! Only with a member list that a quorum confirmed; a number that is in the list is never touched here. Nor is one whose
//! pod answers as a member of this cluster, whatever the list says, or whose member left the list without this operator.

use std::collections::BTreeSet;

use super::leftover::{Leftover, joiners, leftover, may_delete};
use super::{Case, Step, Verdict};
use crate::model::Ordinal;

/// Is there anything of members that are gone, or of joiners nobody wants any more?
pub(super) fn is_anything_left_over(case: &Case) -> Verdict {
    let Some(membership) = case.membership() else {
        return Verdict::Pass;
    };
    let observed = case.observed;
    let joiners = joiners(case, membership);
    let numbers: BTreeSet<Ordinal> = observed
        .sets
        .keys()
        .chain(observed.volumes.keys())
        .chain(observed.pods.keys())
        .copied()
        .collect();
    let mut waiting = Verdict::Pass;
    for n in numbers.into_iter().filter(|n| membership.at(*n).is_none()) {
        let name = case.name(n);
        match leftover(case, membership, n) {
            Leftover::Usable if joiners.contains(&n) => continue,
            Leftover::Usable | Leftover::Dirty | Leftover::Stuck => {}
            Leftover::Kept(why) => {
                waiting = Verdict::Later(why);
                continue;
            }
        }
        let answer = observed.answers.get(&n);
        if answer.is_some_and(|a| a.cluster_id == membership.cluster_id) {
            waiting = Verdict::Later(format!(
                "waiting for {name}, which is not in the member list, to stop serving"
            ));
            continue;
        }
        if let Some(set) = observed.sets.get(&n).filter(|set| !set.deleting) {
            let step = Step::DeleteSet {
                ordinal: n,
                uid: set.uid.clone(),
            };
            return Verdict::Act(step, format!("{name} is not a member"));
        }
        let pod = observed.pods.get(&n);
        if let (false, Some(pod)) = (observed.sets.contains_key(&n), pod)
            && pod.orphan
            && pod.deleting_since.is_none()
        {
            let step = Step::RestartPod {
                ordinal: n,
                uid: pod.uid.clone(),
            };
            return Verdict::Act(
                step,
                format!("{name} is not a member, and its pod has no StatefulSet"),
            );
        }
        if observed.sets.contains_key(&n) || pod.is_some() {
            waiting = Verdict::Later(format!(
                "waiting for the pod of {name}, which was removed, to end"
            ));
            continue;
        }
        match observed.volumes.get(&n) {
            // A claim that somebody else made for a number that nobody needs.
            Some(volume) if !volume.deleting && !may_delete(case, membership, volume) => {}
            Some(volume) if !volume.deleting => {
                let step = Step::DeleteVolume {
                    ordinal: n,
                    uid: volume.uid.clone(),
                };
                return Verdict::Act(
                    step,
                    format!("{name} is not a member; its data must never come back under its name"),
                );
            }
            _ => {
                waiting = Verdict::Later(format!(
                    "waiting for the disk of {name}, which was removed, to be deleted"
                ))
            }
        }
    }
    waiting
}
