//! Fewer voters: the dead first, then from the highest number down, the leader last and after a transfer.

use super::roll::move_leader;
use super::safety::{Loss, may_lose};
use super::{Case, DEAD_SECONDS, Verdict};
use crate::observe::{MemberSeen, Membership};
use std::cmp::Reverse;

/// The next voter to go.
pub(super) fn next(case: &Case, membership: &Membership) -> Verdict {
    let mut voters: Vec<&MemberSeen> = membership
        .voters()
        .filter(|m| m.ordinal.is_some())
        .collect();
    voters.sort_by_key(|m| Reverse(m.ordinal));
    let excess = voters.len() - case.replicas();

    let victim = match voters.iter().find(|m| !case.is_healthy(m)) {
        Some(sick) if is_dead(case, sick) => sick,
        Some(sick) => {
            return Verdict::Hold(format!(
                "waiting to see whether {} comes back before a voter is removed",
                sick.name
            ));
        }
        None => {
            let leaving = &voters[..excess];
            leaving
                .iter()
                .find(|m| m.id != membership.leader)
                .unwrap_or(&leaving[0])
        }
    };
    if let Err(why) = may_lose(case, membership, victim, Loss::Removed) {
        return Verdict::Hold(format!("{} voters are too many, but {why}", voters.len()));
    }
    if victim.id == membership.leader {
        // All others that leave have left, so whoever takes over stays.
        return move_leader(case, membership, victim);
    }
    case.remove(
        victim,
        format!(
            "{} voters, {} wanted; {} goes",
            voters.len(),
            case.replicas(),
            victim.name
        ),
    )
}

fn is_dead(case: &Case, member: &MemberSeen) -> bool {
    case.observed
        .sick_since
        .get(&member.id)
        .is_some_and(|since| case.now - since >= DEAD_SECONDS)
}
