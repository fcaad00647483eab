//! A voter that must restart, and whose claim is being deleted, would come back without its data: another takes its place.
//!
//! The cluster grows by one first. The other way round it would have a voter less until the newcomer has copied everything,
//! and for ever if the image that is asked for does not run; of three, two would be left, of which neither could be lost.
//! A voter that is down already is no such case: without it the others are as many before the newcomer votes as after
//! its removal (`plan/repair`).

use super::Case;
use crate::observe::{MemberSeen, Membership};

/// Voters beyond those that the spec asks for: one while another is to be replaced, else none.
pub(super) fn more(case: &Case, membership: &Membership) -> usize {
    let managed = membership.voters().filter(|m| m.ordinal.is_some()).count();
    let is_one_due = membership.voters().any(|m| is_due(case, m));
    usize::from(managed > 1 && managed == case.replicas() && is_one_due)
}

/// True if `member` must restart, and its disk would go with its pod.
pub(super) fn is_due(case: &Case, member: &MemberSeen) -> bool {
    let n = member.ordinal;
    n.is_some_and(|n| case.is_outdated(n) && case.is_claim_going(n))
}

/// True if another has taken the place of one that goes.
pub(super) fn has_joined(case: &Case, membership: &Membership) -> bool {
    membership.voters().filter(|m| m.ordinal.is_some()).count() > case.replicas()
}

/// Why there is one voter more than the spec asks for.
pub(super) fn why(case: &Case, membership: &Membership) -> Option<String> {
    let due = membership.voters().filter(|m| is_due(case, m));
    let names: Vec<&str> = due.map(|m| m.name.as_str()).collect();
    (!names.is_empty()).then(|| {
        format!(
            "a restart of {} is due, whose disk would go with the pod",
            names.join(", ")
        )
    })
}
