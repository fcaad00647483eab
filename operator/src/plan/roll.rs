//! A changed pod template reaches running pods one at a time: who takes no part first, then followers, the most
//! lagged first, and the leader last, after its leadership has moved to an updated follower.

use super::safety::{Loss, may_lose};
use super::{Case, Step, Verdict};
use crate::observe::{MemberSeen, Membership};
use std::cmp::Reverse;

/// Does a pod fail to run that would be started differently today?
///
/// Needs no member list: a container that the kubelet does not run takes no part in anything.
pub(super) fn is_a_broken_pod_outdated(case: &Case) -> Verdict {
    for (n, pod) in &case.observed.pods {
        let is_broken =
            !pod.running && pod.trouble.is_some() && !case.observed.answers.contains_key(n);
        let is_current = case
            .observed
            .sets
            .get(n)
            .is_some_and(|set| set.template_hash == case.desired.template_hash);
        if is_broken && case.is_outdated(*n) && is_current && pod.deleting_since.is_none() {
            return case.restart(
                *n,
                format!("{} does not run, and its pod is outdated", case.name(*n)),
            );
        }
    }
    Verdict::Pass
}

/// Does a member run something else than the spec says?
pub(super) fn is_a_pod_outdated(case: &Case) -> Verdict {
    let Some(membership) = case.membership() else {
        return Verdict::Pass;
    };
    let mut outdated: Vec<&MemberSeen> = membership
        .voters()
        .filter(|m| m.ordinal.is_some_and(|n| case.is_outdated(n)))
        .collect();
    if outdated.is_empty() {
        return Verdict::Pass;
    }
    let voters = membership.voters().count();
    if voters == 1 && case.replicas() > 1 {
        return Verdict::Later(
            "the pod template changed; the only voter restarts once it has company".to_owned(),
        );
    }
    outdated.sort_by_key(|m| {
        (
            m.id == membership.leader,
            case.is_healthy(m),
            Reverse(case.observed.lag_of(m)),
            Reverse(m.ordinal),
        )
    });
    let next = outdated
        .iter()
        .find(|m| !case.is_healthy(m))
        .unwrap_or(&outdated[0]);

    if case.is_healthy(next)
        && let Some(sick) = membership.voters().find(|m| !case.is_healthy(m))
    {
        let trouble = sick
            .ordinal
            .and_then(|n| case.observed.trouble(n))
            .map(|t| format!(" ({t})"))
            .unwrap_or_default();
        return Verdict::Later(format!(
            "the pod template changed; {} restarts once {} has caught up{trouble}",
            next.name, sick.name
        ));
    }
    if voters > 1
        && let Err(why) = may_lose(case, membership, next, Loss::Restarted)
    {
        return Verdict::Later(format!("the pod template changed, but {why}"));
    }
    if let Some(min) = case.min_available(voters)
        && case.is_healthy(next)
        && membership.voters().filter(|m| case.is_healthy(m)).count() <= min
    {
        // Its restart would be an eviction that the budget refuses: growing comes first.
        return Verdict::Later(format!(
            "the pod template changed; {} restarts once more than {min} voters serve",
            next.name
        ));
    }
    if next.id == membership.leader && voters > 1 {
        return move_leader(case, membership, next);
    }
    let n = next
        .ordinal
        .expect("only members with a number are outdated");
    case.restart(
        n,
        format!(
            "{} restarts with the new pod template, {} to go",
            next.name,
            outdated.len() - 1
        ),
    )
}

/// Gives the leadership of `leader` to the best of the voters that stay.
pub(super) fn move_leader(case: &Case, membership: &Membership, leader: &MemberSeen) -> Verdict {
    let successor = membership
        .voters()
        .filter(|m| m.id != leader.id && case.is_healthy(m))
        .min_by_key(|m| {
            (
                m.ordinal.is_some_and(|n| case.is_outdated(n)),
                case.observed.lag_of(m),
                m.ordinal,
            )
        });
    match successor {
        Some(to) => Verdict::Act(
            Step::MoveLeader {
                from: leader.id,
                to: to.id,
            },
            format!(
                "{} leads and goes next, so {} takes over",
                leader.name, to.name
            ),
        ),
        None => Verdict::Later(format!("{} leads and nobody can take over", leader.name)),
    }
}
