//! A changed pod template reaches running pods one at a time: those that take no part first, then followers, the most
//! lagged first, and the leader last, after its leadership has moved to an updated follower.

use std::cmp::Reverse;

use super::safety::{Loss, may_lose};
use super::{Case, DEAD_SECONDS, Step, Verdict, aside, leftover, replacement, scale_up};
use crate::model::{Ordinal, names};
use crate::observe::{MemberSeen, Membership};

/// True if the container of `n` does not run, so that it takes no part in anything.
pub(super) fn is_broken(case: &Case, n: Ordinal) -> bool {
    let pod = case.observed.pods.get(&n);
    let is_down = pod.is_some_and(|pod| !pod.running && pod.trouble.is_some());
    is_down && !case.observed.answers.contains_key(&n) && !case.observed.waiting.contains_key(&n)
}

/// Does a pod fail to run that would be started differently today?
///
/// Needs no member list. A pod that was made from a template that somebody else wrote may carry the right hash: only its
/// revision tells. That of a pod that runs says nothing, a newer operator makes a new one without restarting anybody; nor
/// does that of one that is down for a moment.
pub(super) fn is_a_broken_pod_outdated(case: &Case) -> Verdict {
    let mut stuck = Verdict::Pass;
    for (n, pod) in &case.observed.pods {
        let Some(set) = case.observed.sets.get(n) else {
            continue;
        };
        let is_current = set.template_hash == case.desired.template_hash;
        let revisions = pod.revision.as_ref().zip(set.update_revision.as_ref());
        let since = case.observed.down_since.get(n);
        let is_another = revisions.is_some_and(|(its, newest)| its != newest)
            && since.is_some_and(|since| case.now - since >= DEAD_SECONDS);
        let differs = case.is_outdated(*n) || is_another;
        if is_broken(case, *n) && differs && is_current && pod.deleting_since.is_none() {
            if case.is_claim_going(*n) && case.membership().is_none() {
                stuck = Verdict::Stall(going_with_its_pod(case, *n));
                continue;
            }
            if case.is_claim_going(*n) {
                // Its member is dead, and is replaced.
                continue;
            }
            return case.restart(
                *n,
                format!("{} does not run, and its pod is outdated", case.name(*n)),
            );
        }
    }
    stuck
}

/// The advice about a pod that must be restarted to run, and whose disk would go with it.
fn going_with_its_pod(case: &Case, n: Ordinal) -> String {
    let (name, claim) = (case.name(n), names::volume(&case.desired.name, n));
    let volume = case.observed.volumes.get(&n);
    let volume = volume
        .and_then(|v| v.volume_name.as_deref())
        .unwrap_or("VOLUME");
    format!(
        "{name} does not run, and its pod is outdated; but its claim {claim} is being deleted, and its disk would go with \
         the pod. Keep the disk first: set persistentVolumeReclaimPolicy of PersistentVolume {volume} to Retain, delete \
         the pod, and make a claim of that name for that volume"
    )
}

/// Does a member run something else than the spec says?
pub(super) fn is_a_pod_outdated(case: &Case) -> Verdict {
    let Some(membership) = case.membership() else {
        return Verdict::Pass;
    };
    let outdated = outdated(case, membership);
    let next = match next(case, membership, &outdated) {
        Ok(Some(next)) => next,
        Ok(None) => return Verdict::Pass,
        Err(why) => return Verdict::Later(format!("the pod template changed{why}")),
    };
    let voters = membership.voters().count();
    if next.id == membership.leader && voters > 1 {
        return move_leader(case, membership, next);
    }
    let n = next
        .ordinal
        .expect("only members with a number are outdated");
    let to_go = outdated.len() - 1;
    if case.is_claim_going(n) && case.shrinks_to_one(membership) {
        return Verdict::Later(format!(
            "the pod template changed, and the claim of {} is being deleted; first three voters become one",
            next.name
        ));
    }
    if case.is_claim_going(n) && voters > 1 {
        // Its disk goes with its pod, so that a restart is a removal: made one in order.
        let because = format!(
            "{} must restart with the new pod template, and its claim is being deleted",
            next.name
        );
        if !replacement::has_joined(case, membership) {
            let missing = scale_up::what_is_missing(case, membership);
            return Verdict::Later(format!(
                "{because}: another takes its place first{}. To have it replaced at once, with a voter less meanwhile: kubectl \
                 delete pod {}",
                aside(missing.as_deref()),
                names::pod(&case.desired.name, n)
            ));
        }
        return match may_lose(case, membership, next, Loss::Removed) {
            Ok(()) => case.remove(next, format!("{because}; another has taken its place")),
            Err(why) => Verdict::Later(format!("{because}, but {why}")),
        };
    }
    case.restart(
        n,
        format!(
            "{} restarts with the new pod template, {to_go} to go",
            next.name
        ),
    )
}

/// The one voter whose StatefulSet takes the template of today, because it restarts next. One that is replaced never
/// restarts.
pub(super) fn turn(case: &Case) -> Option<Ordinal> {
    let membership = case.membership()?;
    let outdated = outdated(case, membership);
    let next = next(case, membership, &outdated).ok()??;
    let is_alone = membership.voters().count() == 1;
    (is_alone || next.id != membership.leader)
        .then_some(next.ordinal)
        .flatten()
        .filter(|n| !case.is_claim_going(*n))
}

/// The voters that run something else, in the order in which they restart. Those that are replaced come last: another
/// must join first, and nobody waits for it.
fn outdated<'a>(case: &Case, membership: &'a Membership) -> Vec<&'a MemberSeen> {
    let mut outdated: Vec<&MemberSeen> = membership
        .voters()
        .filter(|m| m.ordinal.is_some_and(|n| case.is_outdated(n)))
        .collect();
    outdated.sort_by_key(|m| {
        (
            case.is_healthy(m),
            m.ordinal.is_some_and(|n| case.is_claim_going(n)),
            m.id == membership.leader,
            Reverse(case.observed.lag_of(m)),
            Reverse(m.ordinal),
        )
    });
    outdated
}

/// The pod that restarts next. Errors: the reason to wait, to follow "the pod template changed".
fn next<'a>(
    case: &Case,
    membership: &Membership,
    outdated: &[&'a MemberSeen],
) -> Result<Option<&'a MemberSeen>, String> {
    let Some(next) = outdated.first().copied() else {
        return Ok(None);
    };
    let voters = membership.voters().count();
    if voters == 1 && case.replicas() > 1 && is_company_on_its_way(case, membership) {
        return Err("; the only voter restarts once it has company".to_owned());
    }
    if voters == 1
        && let Some((n, trouble)) = a_failure_elsewhere(case, next)
    {
        return Err(format!(
            ", and {} does not run with it: {trouble}; the only voter is left as it is",
            case.name(n)
        ));
    }
    if voters == 1 && next.ordinal.is_some_and(|n| case.is_claim_going(n)) {
        let claim = names::volume(&case.desired.name, next.ordinal.unwrap_or_default());
        return Err(format!(
            ", but the claim {claim} is being deleted and holds the only copy of the data: {} is not restarted. Scale to \
             3, or save the data elsewhere",
            next.name
        ));
    }
    if case.is_healthy(next)
        && let Some(sick) = membership.voters().find(|m| !case.is_healthy(m))
    {
        let trouble = sick.ordinal.and_then(|n| case.observed.trouble(n));
        let stranger = case.stranger(sick);
        return Err(format!(
            "; {} restarts once {} has caught up{}",
            next.name,
            sick.name,
            aside(trouble.or(stranger.as_deref()))
        ));
    }
    if voters > 1
        && let Err(why) = may_lose(case, membership, next, Loss::Restarted)
    {
        return Err(format!(", but {why}"));
    }
    if let Some(min) = case.min_available(voters)
        && case.is_healthy(next)
        && membership.voters().filter(|m| case.is_healthy(m)).count() <= min
    {
        // Its restart would be an eviction that the budget refuses: growing comes first.
        return Err(format!(
            "; {} restarts once more than {min} voters serve",
            next.name
        ));
    }
    Ok(Some(next))
}

/// True if growing from one voter gets on: a pod that cannot run is not waited for.
fn is_company_on_its_way(case: &Case, membership: &Membership) -> bool {
    let joiners = leftover::joiners(case, membership);
    let learners = membership.members.iter().filter(|m| m.is_learner);
    let mut numbers = joiners
        .into_iter()
        .chain(learners.filter_map(|m| m.ordinal));
    numbers.any(|n| !is_broken(case, n))
}

/// A pod other than that of `voter` that was made from the template of today, has a node, and does not run there: nor would
/// the only voter. One that finds no node says nothing about the template.
fn a_failure_elsewhere<'a>(case: &Case<'a>, voter: &MemberSeen) -> Option<(Ordinal, &'a str)> {
    let others = case.observed.pods.iter();
    let mut failed = others.filter(|(n, pod)| {
        let is_todays = pod.template_hash == case.desired.template_hash && pod.node.is_some();
        Some(**n) != voter.ordinal && is_todays && is_broken(case, **n)
    });
    let (n, pod) = failed.next()?;
    Some((*n, pod.trouble.as_deref().unwrap_or_default()))
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
