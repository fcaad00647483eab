//! A member that cannot come back with its data is replaced: removed under its old id, then added again under a new one.

use super::safety::{Loss, may_lose};
use super::{Case, DEAD_SECONDS, Step, Verdict};
use crate::observe::{HomeState, MemberSeen};

/// Has a member lost what it had written, or will it never reach it again?
pub(super) fn has_a_member_lost_its_disk(case: &Case) -> Verdict {
    let Some(membership) = case.membership() else {
        return Verdict::Pass;
    };
    let mut waiting = Verdict::Pass;
    for member in &membership.members {
        let because = match loss(case, member) {
            None => continue,
            Some(Disk::Unreachable(because)) => {
                waiting = Verdict::Later(because);
                continue;
            }
            Some(Disk::Lost(because)) => because,
        };
        match may_lose(case, membership, member, Loss::Removed) {
            Ok(()) => {
                let step = Step::RemoveMember {
                    name: member.name.clone(),
                    id: member.id,
                };
                return Verdict::Act(
                    step,
                    format!("{because}; it will join again as a new member"),
                );
            }
            Err(why) => waiting = Verdict::Later(format!("{because}, but {why}")),
        }
    }
    waiting
}

/// What has become of a disk. The sentences name the member.
enum Disk {
    /// Its data is nowhere any more, or nobody will wait for it.
    Lost(String),
    /// Its node is gone, but not for long enough.
    Unreachable(String),
}

fn loss(case: &Case, member: &MemberSeen) -> Option<Disk> {
    let n = member.ordinal?;
    // Who answers has its data open, whatever Kubernetes says about claim and node.
    if case.observed.answer_of(member).is_some() {
        return None;
    }
    let gone = || Some(Disk::Lost(format!("the disk of {} is gone", member.name)));
    let volume = match case.observed.volumes.get(&n) {
        None => return gone(),
        Some(volume) => volume,
    };
    // A learner's disk is marked only after it has joined. A voter's was marked before it became one, so an unmarked
    // disk is a new one.
    let is_anothers = match volume.member_id {
        None => !member.is_learner,
        Some(id) => id != member.id,
    };
    if volume.lost || is_anothers {
        return gone();
    }
    // Somebody deletes the claim of a member that is down: that is how a person says that it will not come back.
    // Kubernetes keeps the claim for as long as there is a pod, which may be for ever if its node is dead.
    let is_dead = case
        .observed
        .sick_since
        .get(&member.id)
        .is_some_and(|since| case.now - since >= DEAD_SECONDS);
    if volume.deleting && is_dead {
        return Some(Disk::Lost(format!(
            "the claim of {} was deleted, and it does not answer",
            member.name
        )));
    }
    let home = volume
        .home
        .as_ref()
        .filter(|home| home.state == HomeState::Gone)?;
    let since = case.observed.home_gone_since.get(&n)?;
    let patience = case.desired.spec.repair.lost_node_patience()?;
    Some(if case.now - since >= patience {
        Disk::Lost(format!(
            "the disk of {} is on node {}, which is gone",
            member.name, home.node
        ))
    } else {
        Disk::Unreachable(format!(
            "the disk of {} is on node {}, which is gone; it is replaced if that lasts for {patience} s",
            member.name, home.node
        ))
    })
}
