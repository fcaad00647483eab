//! A member whose disk is gone is replaced: removed under its old id, then added again under a new one.

use super::safety::{Loss, may_lose};
use super::{Case, Step, Verdict};
use crate::observe::MemberSeen;

/// Has a member lost what it had written?
pub(super) fn has_a_member_lost_its_disk(case: &Case) -> Verdict {
    let Some(membership) = case.membership() else {
        return Verdict::Pass;
    };
    let mut waiting = Verdict::Pass;
    for member in &membership.members {
        if !has_lost_its_disk(case, member) {
            continue;
        }
        match may_lose(case, membership, member, Loss::Removed) {
            Ok(()) => {
                let step = Step::RemoveMember {
                    name: member.name.clone(),
                    id: member.id,
                };
                return Verdict::Act(
                    step,
                    format!(
                        "the disk of {} is gone; it will join again as a new member",
                        member.name
                    ),
                );
            }
            Err(why) => {
                waiting = Verdict::Later(format!("the disk of {} is gone, but {why}", member.name))
            }
        }
    }
    waiting
}

/// True if the data of `member` is nowhere any more.
fn has_lost_its_disk(case: &Case, member: &MemberSeen) -> bool {
    let Some(n) = member.ordinal else {
        return false;
    };
    // Who answers has its data open, whatever Kubernetes says about the claim.
    if case.observed.answer_of(member).is_some() {
        return false;
    }
    match case.observed.volumes.get(&n) {
        None => true,
        Some(volume) if volume.lost => true,
        // A learner's disk is marked only after it has joined. A voter's was marked before it became one, so an
        // unmarked disk is a new one.
        Some(volume) => match volume.member_id {
            None => !member.is_learner,
            Some(id) => id != member.id,
        },
    }
}
