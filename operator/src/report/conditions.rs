//! The conditions, one function each; their sentences come from the plan.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::{Account, Outcome, spread, storage};
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
struct Claim {
    type_: &'static str,
    holds: bool,
    reason: &'static str,
    message: String,
}

/// All conditions, in the order in which they are shown. Times are kept from `before` where nothing turned.
pub(super) fn conditions(
    account: &Account,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    [
        ready(account),
        quorate(account),
        progressing(account),
        degraded(account),
        storage_healthy(account),
        spread(account),
        stalled(account),
        paused(account),
    ]
    .into_iter()
    .map(|claim| {
        let status = match (claim.reason, claim.holds) {
            (NOT_ASKED, _) => "Unknown",
            (_, true) => "True",
            (_, false) => "False",
        };
        let same = before
            .iter()
            .find(|c| c.type_ == claim.type_ && c.status == status);
        Condition {
            type_: claim.type_.to_owned(),
            status: status.to_owned(),
            reason: claim.reason.to_owned(),
            message: claim.message,
            observed_generation: account.generation,
            last_transition_time: same.map_or(Time(now), |c| c.last_transition_time.clone()),
        }
    })
    .collect()
}

fn ready(account: &Account) -> Claim {
    let claim = |holds, reason, message| Claim {
        type_: names::READY,
        holds,
        reason,
        message,
    };
    let (desired, plan) = match &account.outcome {
        Outcome::Invalid(problems) => return claim(false, "InvalidSpec", sentences(problems)),
        Outcome::Planned {
            desired,
            plan,
            refusals: _,
        } => (desired, plan),
    };
    if !desired.volumes_owned && account.observed.volumes.values().any(|v| v.owned) {
        let message =
            "spec.storage.reclaimPolicy is Retain, and disks would still go with this CoordCluster";
        return claim(false, "DisksNotRetained", message.to_owned());
    }
    let Some(membership) = &account.observed.membership else {
        let reason = if account.observed.locked.is_empty() {
            "NotQuorate"
        } else {
            NOT_ASKED
        };
        return claim(false, reason, because(account));
    };
    let voters = membership.voters().count();
    let healthy = membership
        .voters()
        .filter(|m| account.observed.is_healthy(m))
        .count();
    let outdated = account
        .observed
        .pods
        .values()
        .any(|pod| pod.template_hash != desired.template_hash);
    if plan.step == Step::Stall {
        claim(false, "Stalled", because(account))
    } else if !refusals(account).is_empty() {
        claim(false, "WriteFailed", because(account))
    } else if voters != desired.replicas as usize || membership.members.len() != voters || outdated
    {
        claim(false, "Progressing", because(account))
    } else if healthy < voters {
        claim(
            false,
            "MembersUnhealthy",
            format!(
                "{healthy} of {voters} voters are healthy: {}",
                sick(account)
            ),
        )
    } else if let Some((reason, message)) = storage::trouble(account.observed, desired) {
        claim(false, reason, message)
    } else if let Some(name) = account.observed.voter_without_ready_pod() {
        let message = format!("{name} serves, but its pod is not marked ready yet");
        claim(false, "PodsNotReady", message)
    } else {
        claim(
            true,
            "Serving",
            format!("{healthy} of {voters} voters serve"),
        )
    }
}

fn quorate(account: &Account) -> Claim {
    let (holds, reason, message) = match &account.observed.membership {
        Some(membership) => {
            let healthy = membership
                .voters()
                .filter(|m| account.observed.is_healthy(m))
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
        None if account.observed.record.cluster_id.is_none() => (
            false,
            "NotStarted",
            "the cluster has not started yet".to_owned(),
        ),
        None if !account.observed.locked.is_empty() => (false, NOT_ASKED, because(account)),
        None => (false, "NoQuorum", because(account)),
    };
    Claim {
        type_: names::QUORATE,
        holds,
        reason,
        message,
    }
}

fn progressing(account: &Account) -> Claim {
    let (holds, reason) = match &account.outcome {
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
    Claim {
        type_: names::PROGRESSING,
        holds,
        reason,
        message: because(account),
    }
}

fn degraded(account: &Account) -> Claim {
    let claim = |holds, reason, message| Claim {
        type_: names::DEGRADED,
        holds,
        reason,
        message,
    };
    match &account.observed.membership {
        None if !account.observed.locked.is_empty() => claim(false, NOT_ASKED, because(account)),
        None if account.observed.record.cluster_id.is_some() => {
            claim(true, NO_QUORUM, because(account))
        }
        None => claim(
            false,
            "NotStarted",
            "the cluster has not started yet".to_owned(),
        ),
        Some(membership) if membership.voters().any(|m| !account.observed.is_healthy(m)) => {
            let lost = membership
                .voters()
                .filter(|m| !account.observed.is_healthy(m))
                .filter_map(|m| super::status::lost_home(account.observed, m.ordinal?))
                .count();
            let reason = if lost > 0 {
                NODE_LOST
            } else {
                MEMBERS_UNHEALTHY
            };
            claim(true, reason, sick(account))
        }
        Some(membership) => match going(account, membership) {
            Some(message) => claim(true, "ClaimDeleted", message),
            None => claim(false, "AllHealthy", "every voter is healthy".to_owned()),
        },
    }
}

fn storage_healthy(account: &Account) -> Claim {
    let trouble = match &account.outcome {
        Outcome::Invalid(problems) => Some(("InvalidSpec", sentences(problems))),
        Outcome::Planned { desired, .. } => storage::trouble(account.observed, desired),
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
    Claim {
        type_: names::STORAGE_HEALTHY,
        holds,
        reason,
        message,
    }
}

fn spread(account: &Account) -> Claim {
    let (holds, reason, message) = match spread::trouble(account) {
        Some(message) => (false, "SharedNode", message),
        None => (true, "OwnNodes", "no two voters share a node".to_owned()),
    };
    Claim {
        type_: names::SPREAD,
        holds,
        reason,
        message,
    }
}

/// A warning about voters whose claims somebody has deleted.
fn going(account: &Account, membership: &Membership) -> Option<String> {
    let volumes = &account.observed.volumes;
    let claims: Vec<String> = membership
        .voters()
        .filter_map(|m| m.ordinal)
        .filter(|n| volumes.get(n).is_some_and(|v| v.deleting))
        .map(|n| crate::model::names::volume(account.name, n))
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

fn stalled(account: &Account) -> Claim {
    let (holds, reason, message) = match &account.outcome {
        Outcome::Invalid(problems) => (true, "InvalidSpec", sentences(problems)),
        Outcome::Planned { .. } if refusals(account).iter().any(|r| r.needs_help) => {
            let told = refusals(account).iter().filter(|r| r.needs_help);
            let told: Vec<&str> = told.map(|r| r.message.as_str()).collect();
            (true, "WriteFailed", shortened(told.join("; ")))
        }
        Outcome::Planned { plan, .. } if plan.step == Step::Stall => {
            (true, "NeedsHelp", because(account))
        }
        Outcome::Planned { desired, .. } => match storage::trouble(account.observed, desired) {
            Some((reason, message)) if reason == storage::CANNOT_EXPAND => (true, reason, message),
            Some(_) | None => (false, "NotStalled", "nobody needs to help".to_owned()),
        },
    };
    Claim {
        type_: names::STALLED,
        holds,
        reason,
        message,
    }
}

fn paused(account: &Account) -> Claim {
    let holds = matches!(&account.outcome, Outcome::Planned { desired, .. } if desired.paused);
    let (reason, message) = if holds {
        ("Paused", "spec.paused is true: nothing is touched")
    } else {
        ("NotPaused", "changes are carried out")
    };
    Claim {
        type_: names::PAUSED,
        holds,
        reason,
        message: message.to_owned(),
    }
}

fn because(account: &Account) -> String {
    match &account.outcome {
        Outcome::Invalid(problems) => sentences(problems),
        Outcome::Planned { plan, refusals, .. } => {
            let mut sentences = vec![plan.because.as_str()];
            sentences.extend(refusals.iter().map(|r| r.message.as_str()));
            shortened(sentences.join("; "))
        }
    }
}

fn refusals<'a>(account: &Account<'a>) -> &'a [Refusal] {
    match &account.outcome {
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

fn sick(account: &Account) -> String {
    let rows = super::status::members(account);
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
