//! A member that cannot come back with its data is replaced: removed under its old id, then added again under a new one.

use super::safety::{Loss, may_lose};
use super::{Case, DEAD_SECONDS, Verdict};
use crate::model::names;
use crate::observe::{MemberSeen, NodeState, WaitReason, WaitingSeen};

/// Seconds for which a disk must have been empty.
const EMPTIED_SECONDS: i64 = 60;

/// Has a member lost what it had written, or will it never reach it again?
pub(super) fn has_a_member_lost_its_disk(case: &Case) -> Verdict {
    let Some(membership) = case.membership() else {
        return Verdict::Pass;
    };
    let mut waiting = Verdict::Pass;
    for member in &membership.members {
        let because = match loss(case, member) {
            None => continue,
            Some(Disk::Waited(because)) => {
                waiting = Verdict::Later(because);
                continue;
            }
            // Of three that are to become one it goes together with another: alone it would leave two.
            Some(Disk::Lost(_)) if !member.is_learner && case.shrinks_to_one(membership) => {
                continue;
            }
            Some(Disk::Lost(because)) => because,
        };
        match may_lose(case, membership, member, Loss::Removed) {
            Ok(()) => {
                return case.remove(
                    member,
                    format!("{because}; it will join again as a new member"),
                );
            }
            Err(why) => waiting = Verdict::Later(format!("{because}, but {why}")),
        }
    }
    waiting
}

/// A disk that a member misses, lost or waited for. The sentences name the member.
enum Disk {
    /// Its data is nowhere any more, or nobody will wait for it.
    Lost(String),
    /// It may come back, or somebody must decide.
    Waited(String),
}

fn loss(case: &Case, member: &MemberSeen) -> Option<Disk> {
    let n = member.ordinal?;
    let observed = case.observed;
    // A member that answers has its data open, whatever Kubernetes says about claim and node.
    if observed.answer_of(member).is_some() {
        return None;
    }
    // A member that is far behind has answered; only silence counts.
    let unheard = observed
        .unheard_since
        .get(&member.id)
        .map_or(0, |since| case.now - since);
    let gone = || Some(Disk::Lost(format!("the disk of {} is gone", member.name)));
    let volume = match observed.volumes.get(&n) {
        None => return gone(),
        Some(volume) => volume,
    };
    // A disk without a mark may be a new one, or somebody took the mark off: the server that starts on it will tell.
    let is_anothers = volume.member_id.is_some_and(|id| id != member.id);
    if volume.lost || is_anothers {
        return gone();
    }
    // Somebody deletes the claim of a member that is down: that is how a person says that it will not come back.
    // Kubernetes keeps the claim for as long as there is a pod, which may be for ever if its node is dead.
    if volume.deleting && unheard >= DEAD_SECONDS {
        return Some(Disk::Lost(format!(
            "the claim of {} was deleted, and it does not answer",
            member.name
        )));
    }
    let claim = names::volume(&case.desired.name, n);
    if observed.is_emptied(n) {
        // A disk that was not mounted looks like this, too; it may be back after a restart.
        return Some(if unheard >= EMPTIED_SECONDS {
            Disk::Lost(format!("the disk of {} is empty", member.name))
        } else {
            Disk::Waited(format!(
                "the disk of {} is empty where a member lived; it is replaced if that lasts for {EMPTIED_SECONDS} s",
                member.name
            ))
        });
    }
    let found = observed
        .waiting
        .get(&n)
        .filter(|waiting| waiting.reason == WaitReason::Foreign);
    if let Some(WaitingSeen { why, .. }) = found {
        return Some(Disk::Waited(format!(
            "the disk of {} is not its own: {why}. Put its own back, or have it replaced: kubectl delete pvc {claim}",
            member.name
        )));
    }
    if let Some(other) = observed.answers.get(&n) {
        return Some(Disk::Waited(format!(
            "{} answers as member {:x} of cluster {:x}; to have its disk replaced: kubectl delete pvc {claim}",
            member.name, other.member_id, other.cluster_id
        )));
    }
    let home = volume
        .home
        .as_ref()
        .filter(|home| home.state == NodeState::Gone)?;
    let since = observed.home_gone_since.get(&n)?;
    let patience = case.desired.spec.repair.lost_node_patience()?;
    Some(if case.now - since >= patience {
        Disk::Lost(format!(
            "the disk of {} is on node {}, which is gone",
            member.name, home.node
        ))
    } else {
        Disk::Waited(format!(
            "the disk of {} is on node {}, which is gone; it is replaced if that lasts for {patience} s",
            member.name, home.node
        ))
    })
}
