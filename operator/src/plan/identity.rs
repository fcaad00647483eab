//! Who lives on which disk.
//!
//! A member id goes on a disk only on the word of the member that runs there, never because a member of that name is
//! in the list: the disk may be a new one whose predecessor was lost.

use super::{Case, Step, Verdict};

/// Do all disks, and all who answer, belong to the recorded cluster?
pub(super) fn is_one_cluster(case: &Case) -> Verdict {
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
    match &case.observed.membership {
        Some(membership) if membership.cluster_id != recorded => Verdict::Stall(format!(
            "the members say they are cluster {:x}, but {recorded:x} is recorded; somebody bootstrapped by hand",
            membership.cluster_id
        )),
        _ => Verdict::Pass,
    }
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
        let is_marked =
            volume.member_id == Some(member.id) && volume.cluster_id == Some(membership.cluster_id);
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
