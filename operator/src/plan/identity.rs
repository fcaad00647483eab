//! The member that lives on each disk.
//!
//! A member id goes on a disk only on the word of the member that runs there, never because a member of that name is
//! in the list: the disk may be a new one whose predecessor was lost.

use super::{Case, Step, Verdict};
use crate::model::names;

/// Do all disks belong to the recorded cluster, and to this CoordCluster?
///
/// A server that answers as another cluster's member is no witness: the list is never taken from it.
pub(super) fn is_one_cluster(case: &Case) -> Verdict {
    if let Some(why) = is_copied(case) {
        return Verdict::Stall(why);
    }
    let Some(recorded) = case.observed.record.cluster_id else {
        return Verdict::Pass;
    };
    for (n, volume) in &case.observed.volumes {
        if let Some(other) = volume.cluster_id.filter(|id| *id != recorded) {
            return Verdict::Stall(format!(
                "the disk of {} belongs to cluster {other:x}, not to {recorded:x}; delete that claim",
                case.name(*n)
            ));
        }
    }
    Verdict::Pass
}

/// Why the disks are not taken over: they were made for another CoordCluster. Members on them would be that one's.
pub(super) fn is_copied(case: &Case) -> Option<String> {
    let own = names::made_for(&case.desired.name, &case.desired.namespace);
    case.observed.volumes.iter().find_map(|(n, volume)| {
        let other = volume.made_for.as_ref().filter(|other| **other != own)?;
        Some(format!(
            "the claim {} was made for CoordCluster {other}: a copy of its members must not run beside them. Delete \
             that claim",
            names::volume(&case.desired.name, *n)
        ))
    })
}

/// Is each mark of a removal of a member that is to go? Asked when nobody is: then the removal was thought better of.
/// One that is not healthy keeps its mark: evidence against it may only show over time, and this may be a new process.
pub(super) fn are_marks_of_removal_true(case: &Case) -> Verdict {
    let Some(membership) = case.membership() else {
        return Verdict::Pass;
    };
    for member in &membership.members {
        let Some(n) = member.ordinal else { continue };
        let Some(volume) = case.observed.volumes.get(&n) else {
            continue;
        };
        if volume.removed_id == Some(member.id) && !volume.deleting && case.is_healthy(member) {
            let step = Step::MarkRemoved {
                ordinal: n,
                uid: volume.uid.clone(),
                member_id: None,
            };
            return Verdict::Act(step, format!("{} stays a member", member.name));
        }
    }
    Verdict::Pass
}

/// Does each disk say who lives on it?
pub(super) fn are_volumes_marked(case: &Case) -> Verdict {
    let Some(membership) = case.membership() else {
        return Verdict::Pass;
    };
    for member in &membership.members {
        let Some(n) = member.ordinal else { continue };
        let (Some(volume), Some(answer)) = (
            case.observed.volumes.get(&n),
            case.observed.answer_of(member),
        ) else {
            continue;
        };
        // One that was made before disks said for whom gets that mark, too: by it a copy is told from the original.
        let is_marked = volume.member_id == Some(member.id)
            && volume.cluster_id == Some(membership.cluster_id)
            && volume.made_for.is_some();
        if is_marked || volume.deleting || answer.cluster_id != membership.cluster_id {
            continue;
        }
        let step = Step::MarkVolume {
            ordinal: n,
            uid: volume.uid.clone(),
            cluster_id: membership.cluster_id,
            member_id: Some(member.id),
        };
        return Verdict::Act(
            step,
            format!("{} says that it is member {:x}", case.name(n), member.id),
        );
    }
    Verdict::Pass
}
