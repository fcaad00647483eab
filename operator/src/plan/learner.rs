//! Learners on their way to become voters. While there is one nothing else changes the membership, but that a single voter
//! takes a second: the two get their votes together.

use super::{Case, Step, Verdict, aside, scale_up};
use crate::model::Ordinal;
use crate::observe::{LAG_ENTRIES_MAX, MemberSeen, Membership};

/// Seconds without a word after which a learner whose pod runs is given up and tried again on a new disk. One that
/// answers is never given up: it may take longer than that to copy everything.
const GIVEN_UP_SECONDS: i64 = 300;

/// Checks in a row that must find the learner with all the leader had.
const CAUGHT_UP_CHECKS: u32 = 2;

/// Is a learner pending?
pub(super) fn is_one_pending(case: &Case) -> Verdict {
    let Some(membership) = case.membership() else {
        return Verdict::Pass;
    };
    let learners: Vec<(Ordinal, &MemberSeen)> = membership
        .members
        .iter()
        .filter(|m| m.is_learner)
        .filter_map(|m| m.ordinal.map(|n| (n, m)))
        .collect();
    let managed = membership.members.iter().filter(|m| m.ordinal.is_some());
    let is_enough = managed.count() > case.wanted(membership);
    if let Some((n, last)) = learners.last().filter(|_| is_enough) {
        let because = format!(
            "{} was still joining, and {} voters are enough",
            case.name(*n),
            case.replicas()
        );
        return case.remove(last, because);
    }
    let (mut ready, mut waits) = (Vec::new(), None);
    for (n, learner) in &learners {
        match state(case, *n, learner) {
            State::CaughtUp => ready.push((*n, *learner)),
            State::Waits(why) => drop(waits.get_or_insert(why)),
            State::Needs(verdict) => return verdict,
        }
    }
    if learners.is_empty() {
        return Verdict::Pass;
    }
    if case.grows_from_one(membership) {
        return from_one(case, membership, &learners, &ready, waits);
    }
    match ready.first() {
        Some(first) => promote(case, &[*first]),
        None => Verdict::Hold(waits.expect("one that is not ready waits")),
    }
}

/// How far a learner is.
enum State {
    /// It may vote.
    CaughtUp,
    /// It will get on by itself; the text is the thing that it waits for.
    Waits(String),
    /// Something must be done about it.
    Needs(Verdict),
}

fn state(case: &Case, n: Ordinal, learner: &MemberSeen) -> State {
    let observed = case.observed;
    let name = case.name(n);
    if case.is_claim_going(n) {
        return State::Needs(case.remove(
            learner,
            format!("the claim of {name} is being deleted, and it does not vote yet; it is tried again on a new disk"),
        ));
    }
    if case.is_outdated(n) && !case.is_healthy(learner) {
        let because = format!("{name} does not join, and its pod is outdated");
        return State::Needs(case.restart(n, because));
    }
    let silent = observed
        .unheard_since
        .get(&learner.id)
        .is_some_and(|since| case.now - since > GIVEN_UP_SECONDS);
    let runs = observed.pods.get(&n).is_some_and(|pod| pod.running);
    if silent && runs && observed.answer_of(learner).is_none() {
        return State::Needs(case.remove(
            learner,
            format!("{name} was added but never joined; it is tried again on a new disk"),
        ));
    }
    let Some(lag) = observed.lag_of(learner) else {
        let trouble = aside(observed.trouble(n));
        return State::Waits(format!("waiting for {name} to join{trouble}"));
    };
    let marked = observed.volumes.get(&n).and_then(|v| v.member_id);
    if marked != Some(learner.id) {
        return State::Waits(format!("waiting for the disk of {name}"));
    }
    let checks = observed.caught_up.get(&learner.id);
    if checks.is_none_or(|checks| *checks < CAUGHT_UP_CHECKS) {
        // A few entries come and go while it is looked at, and each sentence that differs is a write of the status.
        let far = if lag > LAG_ENTRIES_MAX {
            ", far behind still"
        } else {
            ""
        };
        return State::Waits(format!("{name} catches up{far}"));
    }
    State::CaughtUp
}

/// One voter becomes three at once: of two neither disk may be lost, and nobody could repair it.
fn from_one(
    case: &Case,
    membership: &Membership,
    learners: &[(Ordinal, &MemberSeen)],
    ready: &[(Ordinal, &MemberSeen)],
    waits: Option<String>,
) -> Verdict {
    if ready.len() >= 2 {
        return promote(case, ready);
    }
    match (waits, scale_up::what_is_missing(case, membership)) {
        (Some(why), _) if learners.len() >= 2 => Verdict::Hold(why),
        // The second is added meanwhile.
        (Some(why), _) => Verdict::Later(why),
        (None, missing) => Verdict::Later(format!(
            "{} has caught up and gets its vote together with another, so that there are never just two{}",
            case.name(learners[0].0),
            missing.map(|why| format!("; {why}")).unwrap_or_default()
        )),
    }
}

fn promote(case: &Case, ready: &[(Ordinal, &MemberSeen)]) -> Verdict {
    let (ordinal, first) = ready[0];
    let names: Vec<String> = ready.iter().map(|(n, _)| case.name(*n)).collect();
    let step = Step::Promote {
        ordinal,
        id: first.id,
        with: ready[1..].iter().map(|(_, m)| m.id).collect(),
    };
    let have = if names.len() > 1 { "have" } else { "has" };
    Verdict::Act(step, format!("{} {have} caught up", names.join(" and ")))
}
