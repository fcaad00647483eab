//! Fewer voters: the dead first, then those whose claims are being deleted, then one whose disk shares a node with another's
//! that stays, then from the highest number down, the leader last and after a transfer. From three to one in one change: of
//! two voters neither disk could be lost.

use std::cmp::Reverse;

use super::roll::move_leader;
use super::safety::{Loss, may_lose};
use super::{Case, DEAD_SECONDS, Step, Verdict, spread};
use crate::observe::{MemberSeen, Membership};

/// The next voter to go.
pub(super) fn next(case: &Case, membership: &Membership) -> Verdict {
    let mut voters: Vec<&MemberSeen> = membership
        .voters()
        .filter(|m| m.ordinal.is_some())
        .collect();
    let is_going = |m: &&MemberSeen| m.ordinal.is_some_and(|n| case.is_claim_going(n));
    voters.sort_by_key(|m| (Reverse(is_going(m)), Reverse(m.ordinal)));
    let excess = voters.len() - case.replicas();
    if case.shrinks_to_one(membership) {
        return to_one(case, membership, &voters);
    }

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
            let parted = match leaving.iter().any(|m| is_going(m) || shares(&m)) {
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

/// Three voters become one at once. The lowest number stays that is healthy, and whose disk stays with it.
fn to_one(case: &Case, membership: &Membership, voters: &[&MemberSeen]) -> Verdict {
    if let Some(foreign) = membership.voters().find(|m| m.ordinal.is_none()) {
        return Verdict::Later(format!(
            "3 voters, 1 wanted, but without one of ours just two would be left, of which neither could be lost; {}",
            case.stranger(foreign).unwrap_or_default()
        ));
    }
    let pending = |m: &&&MemberSeen| !case.is_healthy(m) && !is_dead(case, m);
    if let Some(sick) = voters.iter().find(pending) {
        return Verdict::Hold(format!(
            "waiting to see whether {} comes back before voters are removed",
            sick.name
        ));
    }
    let healthy = voters.iter().filter(|m| case.is_healthy(m));
    let Some(stays) =
        healthy.min_by_key(|m| (m.ordinal.is_some_and(|n| case.is_claim_going(n)), m.ordinal))
    else {
        return Verdict::Hold("3 voters are too many, but none of them is healthy".to_owned());
    };
    let leaving: Vec<&MemberSeen> = voters
        .iter()
        .filter(|m| m.id != stays.id)
        .copied()
        .collect();
    if membership.leader != stays.id {
        let step = Step::MoveLeader {
            from: membership.leader,
            to: stays.id,
        };
        return Verdict::Act(
            step,
            format!("{} stays, so it takes over the leadership", stays.name),
        );
    }
    let because = format!(
        "3 voters, 1 wanted; {} and {} go together, so that there are never just two",
        leaving[0].name, leaving[1].name
    );
    case.remove_together(leaving[0], &leaving[1..], because)
}

fn is_dead(case: &Case, member: &MemberSeen) -> bool {
    case.observed
        .sick_since
        .get(&member.id)
        .is_some_and(|since| case.now - since >= DEAD_SECONDS)
}
