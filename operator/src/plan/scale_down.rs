//! Fewer voters: the dead first, then one whose disk shares a node with another's that stays, then from the highest number
//! down, the leader last and after a transfer.

use super::roll::move_leader;
use super::safety::{Loss, may_lose};
use super::{Case, DEAD_SECONDS, Verdict, spread};
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
            let shares = |m: &&&MemberSeen| spread::shares(case, membership, m);
            let may_go = |m: &&&MemberSeen| m.id != membership.leader;
            // Those that were asked for last go, unless that leaves two on one node that one of them could leave.
            let parted = match leaving.iter().any(|m| shares(&m)) {
                true => None,
                false => voters.iter().filter(shares).find(may_go),
            };
            let last = || leaving.iter().find(may_go).unwrap_or(&leaving[0]);
            parted.unwrap_or_else(last)
        }
    };
    if let Err(why) = may_lose(case, membership, victim, Loss::Removed) {
        return Verdict::Hold(format!("{} voters are too many, but {why}", voters.len()));
    }
    if victim.id == membership.leader {
        // All others that leave have left, so the next leader stays.
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
