//! A learner on its way to become a voter. While there is one, nothing else changes the membership.

use super::{Case, Step, Verdict, aside};
use crate::observe::LAG_ENTRIES_MAX;

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
    let Some((n, learner)) = membership
        .members
        .iter()
        .filter(|m| m.is_learner)
        .find_map(|m| m.ordinal.map(|n| (n, m)))
    else {
        return Verdict::Pass;
    };
    let managed = membership
        .members
        .iter()
        .filter(|m| m.ordinal.is_some())
        .count();
    let name = case.name(n);
    if managed > case.replicas() {
        return case.remove(
            learner,
            format!(
                "{name} was still joining, and {} voters are enough",
                case.replicas()
            ),
        );
    }
    if case.is_claim_going(n) {
        return case.remove(
            learner,
            format!("the claim of {name} is being deleted, and it does not vote yet; it is tried again on a new disk"),
        );
    }
    if case.is_outdated(n) && !case.is_healthy(learner) {
        return case.restart(n, format!("{name} does not join, and its pod is outdated"));
    }
    let silent = case
        .observed
        .unheard_since
        .get(&learner.id)
        .is_some_and(|since| case.now - since > GIVEN_UP_SECONDS);
    let runs = case.observed.pods.get(&n).is_some_and(|pod| pod.running);
    if silent && runs && case.observed.answer_of(learner).is_none() {
        return case.remove(
            learner,
            format!("{name} was added but never joined; it is tried again on a new disk"),
        );
    }
    let Some(lag) = case.observed.lag_of(learner) else {
        let trouble = aside(case.observed.trouble(n));
        return Verdict::Hold(format!("waiting for {name} to join{trouble}"));
    };
    let marked = case.observed.volumes.get(&n).and_then(|v| v.member_id);
    if marked != Some(learner.id) {
        return Verdict::Hold(format!("waiting for the disk of {name}"));
    }
    if case
        .observed
        .caught_up
        .get(&learner.id)
        .is_none_or(|checks| *checks < CAUGHT_UP_CHECKS)
    {
        // A few entries come and go while it is looked at, and each sentence that differs is a write of the status.
        let far = if lag > LAG_ENTRIES_MAX {
            ", far behind still"
        } else {
            ""
        };
        return Verdict::Hold(format!("{name} catches up{far}"));
    }
    Verdict::Act(
        Step::Promote {
            ordinal: n,
            id: learner.id,
        },
        format!("{name} has caught up"),
    )
}
