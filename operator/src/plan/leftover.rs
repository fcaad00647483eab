//! Numbers that are free, and what is left on them.

use super::Case;
use crate::model::{Ordinal, names};
use crate::observe::{Membership, VolumeSeen};

/// A pod that is being deleted for longer than its grace period and this: its node does not answer.
const STUCK_SECONDS: i64 = 120;

/// The remains under a number that no member has.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Leftover {
    /// Nothing, or a pod and a disk that wait to be added.
    Usable,
    /// Something of a member that is gone; it is being cleaned up.
    Dirty,
    /// As before, but its pod does not go away.
    Stuck,
    /// A disk that is somebody's, and that the operator has no right to take away: why, and what a person can do.
    Kept(String),
}

/// The remains under `n`, which is in no member list.
pub(super) fn leftover(case: &Case, membership: &Membership, n: Ordinal) -> Leftover {
    let (set, pod, volume) = (
        case.observed.sets.get(&n),
        case.observed.pods.get(&n),
        case.observed.volumes.get(&n),
    );
    if let Some(why) = volume.and_then(|volume| kept(case, membership, n, volume)) {
        return Leftover::Kept(why);
    }
    // On a node that is gone: nobody lives there yet, so another disk will do.
    let is_out_of_reach = || {
        let since = case.observed.home_gone_since.get(&n);
        let patience = case.desired.spec.repair.lost_node_patience();
        since
            .zip(patience)
            .is_some_and(|(since, patience)| case.now - since >= patience)
    };
    // A disk on which a member lived never serves another one: its data would speak under a removed id. A pod whose
    // StatefulSet was deleted with it is about to go; one that was left behind is taken over by the next of that name.
    let is_dirty = volume.is_some_and(|v| {
        v.deleting || v.lost || v.removed_id.is_some() || v.member_id.is_some() || is_out_of_reach()
    }) || set.is_some_and(|s| s.deleting)
        || (set.is_none() && pod.is_some_and(|pod| !pod.orphan || pod.deleting_since.is_some()));
    let is_stuck = pod
        .and_then(|p| p.deleting_since)
        .is_some_and(|since| case.now - since > STUCK_SECONDS);
    match (is_dirty, is_stuck) {
        (false, _) => Leftover::Usable,
        (true, false) => Leftover::Dirty,
        (true, true) => Leftover::Stuck,
    }
}

/// Why a disk that says that a member lives on it is kept: that member left the list, and not by this operator.
fn kept(case: &Case, membership: &Membership, n: Ordinal, volume: &VolumeSeen) -> Option<String> {
    let id = volume.member_id?;
    if volume.deleting || volume.lost || volume.removed_id == Some(id) {
        return None;
    }
    let (name, claim) = (case.name(n), names::volume(&case.desired.name, n));
    Some(if membership.holds(id) {
        format!(
            "the claim {claim} says that member {id:x} lives on it, which has another number; delete or rename that claim"
        )
    } else {
        format!(
            "{name} (member {id:x}) was taken out of the member list by somebody else, and its disk is kept; if nobody \
             needs it: kubectl delete pvc {claim}"
        )
    })
}

/// True if the operator may delete that disk: nobody lived on it and it was made here, or it took its member away.
pub(super) fn may_delete(case: &Case, membership: &Membership, volume: &VolumeSeen) -> bool {
    match (volume.removed_id, volume.member_id) {
        (Some(removed), _) if membership.holds(removed) => false,
        (Some(removed), Some(lived)) => removed == lived,
        (Some(_), None) => true,
        (None, None) => case.is_ours(volume),
        // The volume behind the claim is gone; there is nothing to keep.
        (None, Some(_)) => volume.lost,
    }
}

/// The numbers whose pods should wait to be added: the lowest free ones.
///
/// A number that is being cleaned up keeps its turn, so that names stay low; one that is stuck, or holds a disk that is
/// kept, loses it.
pub(super) fn joiners(case: &Case, membership: &Membership) -> Vec<Ordinal> {
    let managed = membership
        .members
        .iter()
        .filter(|m| m.ordinal.is_some())
        .count();
    let mut missing = case.wanted(membership).saturating_sub(managed);
    let mut joiners = Vec::new();
    for n in 0.. {
        if missing == 0 {
            break;
        }
        if membership.at(n).is_some() {
            continue;
        }
        match leftover(case, membership, n) {
            Leftover::Usable => joiners.push(n),
            Leftover::Dirty => {}
            Leftover::Stuck | Leftover::Kept(_) => continue,
        }
        missing -= 1;
    }
    joiners
}
