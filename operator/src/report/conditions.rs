//! The conditions, one function each; their sentences come from the plan.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::{Outcome, StatusInput, spread, storage};
use crate::crd::conditions as names;
use crate::observe::{Membership, Refusal};
use crate::plan::Step;

/// The reason of Degraded while a member's disk is tied to a node that is not there.
const NODE_LOST: &str = "NodeLost";
/// The reason of Degraded while a voter is not healthy.
pub(super) const MEMBERS_UNHEALTHY: &str = "MembersUnhealthy";
/// The reason of Degraded while no leader is confirmed.
pub(super) const NO_QUORUM: &str = "NoQuorum";

/// The reason of what nobody can know while the members ask for a user.
const NOT_ASKED: &str = "AuthenticationEnabled";

/// A condition without its times.
struct ConditionDraft {
    type_: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

/// All conditions, in the order in which they are shown. Times are kept from `before` where nothing turned.
pub(super) fn conditions(
    input: &StatusInput,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    [
        ready(input),
        quorate(input),
        progressing(input),
        degraded(input),
        storage_healthy(input),
        spread(input),
        stalled(input),
        paused(input),
    ]
    .into_iter()
    .map(|draft| {
        let status = match (draft.reason, draft.holds) {
            (NOT_ASKED, _) => "Unknown",
            (_, true) => "True",
            (_, false) => "False",
        };
        let same = before
            .iter()
            .find(|c| c.type_ == draft.type_ && c.status == status);
        Condition {
            type_: draft.type_.to_owned(),
            status: status.to_owned(),
            reason: draft.reason.to_owned(),
            message: draft.message,
            observed_generation: input.generation,
            last_transition_time: same.map_or(Time(now), |c| c.last_transition_time.clone()),
        }
    })
    .collect()
}

fn ready(input: &StatusInput) -> ConditionDraft {
    let draft = |holds, reason, message| ConditionDraft {
        type_: names::READY,
        holds,
        reason,
        message,
    };
    let (desired, plan) = match &input.outcome {
        Outcome::Invalid(problems) => return draft(false, "InvalidSpec", sentences(problems)),
        Outcome::Planned {
            desired,
            plan,
            refusals: _,
        } => (desired, plan),
    };
    if !desired.volumes_owned && input.observed.volumes.values().any(|v| v.owned) {
        let message =
            "spec.storage.reclaimPolicy is Retain, and disks would still go with this CoordCluster";
        return draft(false, "DisksNotRetained", message.to_owned());
    }
    let Some(membership) = &input.observed.membership else {
        let reason = if input.observed.locked.is_empty() {
            "NotQuorate"
        } else {
            NOT_ASKED
        };
        return draft(false, reason, because(input));
    };
    let voters = membership.voters().count();
    let healthy = membership
        .voters()
        .filter(|m| input.observed.is_healthy(m))
        .count();
    let outdated = input
        .observed
        .pods
        .values()
        .any(|pod| pod.template_hash != desired.template_hash);
    if plan.step == Step::Stall {
        draft(false, "Stalled", because(input))
    } else if !refusals(input).is_empty() {
        draft(false, "WriteFailed", because(input))
    } else if voters != desired.replicas as usize || membership.members.len() != voters || outdated
    {
        draft(false, "Progressing", because(input))
    } else if healthy < voters {
        draft(
            false,
            "MembersUnhealthy",
            format!("{healthy} of {voters} voters are healthy: {}", sick(input)),
        )
    } else if let Some((reason, message)) = storage::trouble(input.observed, desired) {
        draft(false, reason, message)
    } else if let Some(name) = input.observed.voter_without_ready_pod() {
        let message = format!("{name} serves, but its pod is not marked ready yet");
        draft(false, "PodsNotReady", message)
    } else {
        draft(
            true,
            "Serving",
            format!("{healthy} of {voters} voters serve"),
        )
    }
}

fn quorate(input: &StatusInput) -> ConditionDraft {
    let (holds, reason, message) = match &input.observed.membership {
        Some(membership) => {
            let healthy = membership
                .voters()
                .filter(|m| input.observed.is_healthy(m))
                .count();
            (
                true,
                "LeaderConfirmed",
                format!(
                    "a leader answers; {healthy} of {} voters are healthy",
                    membership.voters().count()
                ),
            )
        }
        None if input.observed.record.cluster_id.is_none() => (
            false,
            "NotStarted",
            "the cluster has not started yet".to_owned(),
        ),
        None if !input.observed.locked.is_empty() => (false, NOT_ASKED, because(input)),
        None => (false, "NoQuorum", because(input)),
    };
    ConditionDraft {
        type_: names::QUORATE,
        holds,
        reason,
        message,
    }
}

fn progressing(input: &StatusInput) -> ConditionDraft {
    let (holds, reason) = match &input.outcome {
        Outcome::Invalid(_) => (false, "InvalidSpec"),
        Outcome::Planned { desired, .. } if desired.paused => (false, "Paused"),
        Outcome::Planned { plan, .. } => match plan.step {
            Step::Done => (false, "Done"),
            Step::Stall => (false, "Stalled"),
            Step::Wait => (true, "Waiting"),
            Step::RecordBootstrap { .. }
            | Step::RecordCluster { .. }
            | Step::MarkVolume { .. }
            | Step::Bootstrap { .. }
            | Step::MarkRemoved { .. }
            | Step::AddLearner { .. }
            | Step::Promote { .. }
            | Step::MoveLeader { .. }
            | Step::RemoveMember { .. }
            | Step::DeleteSet { .. }
            | Step::DeleteVolume { .. }
            | Step::RestartPod { .. } => (true, "Acting"),
        },
    };
    ConditionDraft {
        type_: names::PROGRESSING,
        holds,
        reason,
        message: because(input),
    }
}

fn degraded(input: &StatusInput) -> ConditionDraft {
    let draft = |holds, reason, message| ConditionDraft {
        type_: names::DEGRADED,
        holds,
        reason,
        message,
    };
    match &input.observed.membership {
        None if !input.observed.locked.is_empty() => draft(false, NOT_ASKED, because(input)),
        None if input.observed.record.cluster_id.is_some() => {
            draft(true, NO_QUORUM, because(input))
        }
        None => draft(
            false,
            "NotStarted",
            "the cluster has not started yet".to_owned(),
        ),
        Some(membership) if membership.voters().any(|m| !input.observed.is_healthy(m)) => {
            let lost = membership
                .voters()
                .filter(|m| !input.observed.is_healthy(m))
                .filter_map(|m| super::members::lost_home(input.observed, m.ordinal?))
                .count();
            let reason = if lost > 0 {
                NODE_LOST
            } else {
                MEMBERS_UNHEALTHY
            };
            draft(true, reason, sick(input))
        }
        Some(membership) => match going(input, membership) {
            Some(message) => draft(true, "ClaimDeleted", message),
            None => draft(false, "AllHealthy", "every voter is healthy".to_owned()),
        },
    }
}

fn storage_healthy(input: &StatusInput) -> ConditionDraft {
    let trouble = match &input.outcome {
        Outcome::Invalid(problems) => Some(("InvalidSpec", sentences(problems))),
        Outcome::Planned { desired, .. } => storage::trouble(input.observed, desired),
    };
    let (holds, (reason, message)) = match trouble {
        Some(trouble) => (false, trouble),
        None => (
            true,
            (
                "Healthy",
                "every disk is as large as asked for, and has room".to_owned(),
            ),
        ),
    };
    ConditionDraft {
        type_: names::STORAGE_HEALTHY,
        holds,
        reason,
        message,
    }
}

fn spread(input: &StatusInput) -> ConditionDraft {
    let (holds, reason, message) = match spread::trouble(input) {
        Some(message) => (false, "SharedNode", message),
        None => (true, "OwnNodes", "no two voters share a node".to_owned()),
    };
    ConditionDraft {
        type_: names::SPREAD,
        holds,
        reason,
        message,
    }
}

/// A warning about voters whose claims somebody has deleted.
fn going(input: &StatusInput, membership: &Membership) -> Option<String> {
    let volumes = &input.observed.volumes;
    let claims: Vec<String> = membership
        .voters()
        .filter_map(|m| m.ordinal)
        .filter(|n| volumes.get(n).is_some_and(|v| v.deleting))
        .map(|n| crate::model::names::volume(input.name, n))
        .collect();
    if claims.is_empty() {
        return None;
    }
    let rest = if claims.len() == membership.voters().count() {
        "and with the last of them all data: scale up, or save the data elsewhere, before a pod ends"
    } else {
        "and its member is replaced then"
    };
    Some(format!(
        "somebody deleted the claim of {}: Kubernetes deletes the disk when its pod ends, {rest}",
        claims.join(", ")
    ))
}

fn stalled(input: &StatusInput) -> ConditionDraft {
    let (holds, reason, message) = match &input.outcome {
        Outcome::Invalid(problems) => (true, "InvalidSpec", sentences(problems)),
        Outcome::Planned { .. } if refusals(input).iter().any(|r| r.needs_help) => {
            let told = refusals(input).iter().filter(|r| r.needs_help);
            let told: Vec<&str> = told.map(|r| r.message.as_str()).collect();
            (true, "WriteFailed", shortened(told.join("; ")))
        }
        Outcome::Planned { plan, .. } if plan.step == Step::Stall => {
            (true, "NeedsHelp", because(input))
        }
        Outcome::Planned { desired, .. } => match storage::trouble(input.observed, desired) {
            Some((reason, message)) if reason == storage::CANNOT_EXPAND => (true, reason, message),
            Some(_) | None => (false, "NotStalled", "nobody needs to help".to_owned()),
        },
    };
    ConditionDraft {
        type_: names::STALLED,
        holds,
        reason,
        message,
    }
}

fn paused(input: &StatusInput) -> ConditionDraft {
    let holds = matches!(&input.outcome, Outcome::Planned { desired, .. } if desired.paused);
    let (reason, message) = if holds {
        ("Paused", "spec.paused is true: nothing is touched")
    } else {
        ("NotPaused", "changes are carried out")
    };
    ConditionDraft {
        type_: names::PAUSED,
        holds,
        reason,
        message: message.to_owned(),
    }
}

fn because(input: &StatusInput) -> String {
    match &input.outcome {
        Outcome::Invalid(problems) => sentences(problems),
        Outcome::Planned { plan, refusals, .. } => {
            let mut sentences = vec![plan.because.as_str()];
            sentences.extend(refusals.iter().map(|r| r.message.as_str()));
            shortened(sentences.join("; "))
        }
    }
}

fn refusals<'a>(input: &StatusInput<'a>) -> &'a [Refusal] {
    match &input.outcome {
        Outcome::Invalid(_) => &[],
        Outcome::Planned { refusals, .. } => refusals,
    }
}

/// A condition's message may have 32 KiB; a person reads the beginning.
fn shortened(text: String) -> String {
    const CHARACTERS_MAX: usize = 1500;
    if text.chars().count() <= CHARACTERS_MAX {
        return text;
    }
    text.chars()
        .take(CHARACTERS_MAX)
        .chain("...".chars())
        .collect()
}

fn sentences(problems: &[crate::validate::Problem]) -> String {
    problems
        .iter()
        .map(|p| format!("{}: {}", p.field, p.message))
        .collect::<Vec<_>>()
        .join("; ")
}

fn sick(input: &StatusInput) -> String {
    let rows = super::members::rows(input);
    let sick = rows
        .iter()
        .filter(|row| !row.healthy && row.role != "learner" && row.role != "joining");
    sick.map(|row| {
        format!(
            "{} {}",
            row.name,
            row.message.as_deref().unwrap_or("is not healthy")
        )
    })
    .collect::<Vec<_>>()
    .join(", ")
}
