//! What members leave behind: StatefulSet first, then its pod goes, then the disk.
//!
//! Only with a member list that a quorum confirmed; a number that is in the list is never touched here.

use super::leftover::{Leftover, joiners, leftover};
use super::{Case, Step, Verdict};
use crate::observe::Ordinal;
use std::collections::BTreeSet;

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
        .copied()
        .collect();
    let mut waiting = Verdict::Pass;
    for n in numbers.into_iter().filter(|n| membership.at(*n).is_none()) {
        if leftover(case, membership, n) == Leftover::Usable && joiners.contains(&n) {
            continue;
        }
        let name = case.name(n);
        if let Some(set) = observed.sets.get(&n).filter(|set| !set.deleting) {
            let step = Step::DeleteSet {
                ordinal: n,
                uid: set.uid.clone(),
            };
            return Verdict::Act(step, format!("{name} is not a member"));
        }
        if observed.sets.contains_key(&n) || observed.pods.contains_key(&n) {
            waiting = Verdict::Later(format!(
                "waiting for the pod of {name}, which was removed, to end"
            ));
            continue;
        }
        match observed.volumes.get(&n) {
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
