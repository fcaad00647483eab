//! Kubernetes events: one for a step that was taken, one for a turn for the worse.

use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};

use super::conditions::{MEMBERS_UNHEALTHY, NO_QUORUM};
use crate::crd::CoordClusterStatus;
use crate::crd::conditions::{DEGRADED, QUORATE, STALLED};
use crate::model::names;
use crate::plan::{Plan, Step};
use crate::validate::Desired;

/// The event for a step that was carried out; `None` for what nobody needs to read.
///
/// It names the member's StatefulSet beside the cluster: the API folds events that differ only in their words.
pub fn event(desired: &Desired, plan: &Plan) -> Option<Event> {
    let reason = match &plan.step {
        Step::Done
        | Step::Wait
        | Step::Stall
        | Step::MarkVolume { .. }
        | Step::MarkRemoved { .. } => return None,
        Step::Bootstrap { .. } => "ClusterFormed",
        Step::RecordBootstrap { .. } => "BootstrapStarted",
        Step::RecordCluster { .. } => "ClusterKnown",
        Step::AddLearner { .. } => "MemberAdded",
        Step::Promote { .. } => "MemberPromoted",
        Step::MoveLeader { .. } => "LeaderMoved",
        Step::RemoveMember { .. } => "MemberRemoved",
        Step::DeleteSet { .. } => "StatefulSetDeleted",
        Step::DeleteVolume { .. } => "DiskDeleted",
        Step::RestartPod { .. } => "PodRestarted",
    };
    Some(Event {
        type_: EventType::Normal,
        reason: reason.to_owned(),
        note: Some(plan.because.clone()),
        action: plan.step.name().to_owned(),
        secondary: member(desired, &plan.step).map(|name| ObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: Some("StatefulSet".to_owned()),
            name: Some(name),
            namespace: Some(desired.namespace.clone()),
            ..ObjectReference::default()
        }),
    })
}

/// The events for what turned bad between two statuses and needs somebody's eye: a quorum that is lost, a node that is
/// missed, a cluster that waits for help. A member that restarts is none of these.
pub fn warnings(before: &CoordClusterStatus, after: &CoordClusterStatus) -> Vec<Event> {
    let reasons = [
        bad(after, QUORATE, "False").filter(|_| bad(before, QUORATE, "True").is_some()),
        bad(after, STALLED, "True").filter(|(reason, _)| {
            bad(before, STALLED, "True").is_none_or(|(before, _)| before != *reason)
        }),
        bad(after, DEGRADED, "True").filter(|(reason, _)| {
            is_serious(reason)
                && bad(before, DEGRADED, "True").is_none_or(|(before, _)| before != *reason)
        }),
    ];
    let warning = |(reason, message): (&str, &str)| Event {
        type_: EventType::Warning,
        reason: reason.to_owned(),
        note: Some(message.chars().take(1000).collect()),
        action: "Wait".to_owned(),
        secondary: None,
    };
    reasons.into_iter().flatten().map(warning).collect()
}

/// Reason and message of the condition, if it has that status.
fn bad<'a>(status: &'a CoordClusterStatus, type_: &str, value: &str) -> Option<(&'a str, &'a str)> {
    let found = status.conditions.iter().find(|c| c.type_ == type_)?;
    (found.status == value).then_some((found.reason.as_str(), found.message.as_str()))
}

/// A voter that is not healthy may be one that restarts, and one without quorum is told of by Quorate.
fn is_serious(reason: &str) -> bool {
    reason != MEMBERS_UNHEALTHY && reason != NO_QUORUM
}

/// The member that a step is about.
fn member(desired: &Desired, step: &Step) -> Option<String> {
    match step {
        Step::RecordBootstrap { seed: ordinal, .. }
        | Step::MarkVolume { ordinal, .. }
        | Step::Bootstrap { ordinal, .. }
        | Step::MarkRemoved { ordinal, .. }
        | Step::AddLearner { ordinal }
        | Step::Promote { ordinal, .. }
        | Step::DeleteSet { ordinal, .. }
        | Step::DeleteVolume { ordinal, .. }
        | Step::RestartPod { ordinal, .. } => Some(names::member(&desired.name, *ordinal)),
        Step::RemoveMember { name, .. } => Some(name.clone()),
        Step::Done
        | Step::Wait
        | Step::Stall
        | Step::RecordCluster { .. }
        | Step::MoveLeader { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::conditions::READY;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
    use k8s_openapi::jiff::Timestamp;

    fn status(claims: &[(&str, &str, &str)]) -> CoordClusterStatus {
        let condition = |(type_, status, reason): &(&str, &str, &str)| Condition {
            type_: (*type_).to_owned(),
            status: (*status).to_owned(),
            reason: (*reason).to_owned(),
            message: "why".to_owned(),
            observed_generation: None,
            last_transition_time: Time(Timestamp::UNIX_EPOCH),
        };
        CoordClusterStatus {
            conditions: claims.iter().map(condition).collect(),
            ..CoordClusterStatus::default()
        }
    }

    #[test]
    fn what_turns_bad_warns_once_and_a_restart_does_not() {
        let fine = status(&[(QUORATE, "True", "Led"), (DEGRADED, "False", "AllHealthy")]);
        let reasons = |before: &CoordClusterStatus, after: &CoordClusterStatus| -> Vec<String> {
            warnings(before, after)
                .into_iter()
                .map(|w| w.reason)
                .collect()
        };
        let restarts = status(&[
            (QUORATE, "True", "Led"),
            (DEGRADED, "True", MEMBERS_UNHEALTHY),
        ]);
        assert!(reasons(&fine, &restarts).is_empty());
        let lost = status(&[
            (QUORATE, "False", "NoLeader"),
            (DEGRADED, "True", NO_QUORUM),
        ]);
        assert_eq!(reasons(&fine, &lost), ["NoLeader"]);
        assert!(reasons(&lost, &lost).is_empty());
        assert!(
            reasons(&CoordClusterStatus::default(), &lost).is_empty(),
            "at birth"
        );
        let stalled = status(&[
            (STALLED, "True", "WriteFailed"),
            (READY, "False", "WriteFailed"),
        ]);
        assert_eq!(reasons(&fine, &stalled), ["WriteFailed"]);
        let missed = status(&[(DEGRADED, "True", "NodeLost")]);
        assert_eq!(reasons(&restarts, &missed), ["NodeLost"]);
    }
}
