//! Kubernetes events: one for a step that was taken, one for a turn for the worse.

use super::conditions::NODE_LOST;
use crate::build::names;
use crate::crd::CoordClusterStatus;
use crate::crd::conditions::DEGRADED;
use crate::plan::{Plan, Step};
use crate::validate::Desired;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::runtime::events::{Event, EventType};

/// The event for a step that was carried out; `None` for what nobody needs to read.
///
/// It names the member's StatefulSet beside the cluster: the API folds events that differ only in their words.
pub fn event(desired: &Desired, plan: &Plan) -> Option<Event> {
    let reason = match &plan.step {
        Step::Done | Step::Wait | Step::Stall | Step::MarkVolume { .. } => return None,
        Step::RecordBootstrap { .. } => "BootstrapStarted",
        Step::RecordCluster { .. } => "ClusterKnown",
        Step::AddLearner { .. } => "MemberAdded",
        Step::Promote { .. } => "MemberPromoted",
        Step::MoveLeader { .. } => "LeaderMoved",
        Step::RemoveMember { .. } => "MemberRemoved",
        Step::DeleteSet { .. } => "StatefulSetDeleted",
        Step::DeleteVolume { .. } => "DiskDeleted",
        Step::RestartPod { .. } => "PodRestarted",
        Step::GrowVolume { .. } => "DiskGrown",
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

/// The event for what turned bad between two statuses and needs somebody's eye.
pub fn warning(before: &CoordClusterStatus, after: &CoordClusterStatus) -> Option<Event> {
    let lost = |status: &CoordClusterStatus| {
        let degraded = status.conditions.iter().find(|c| c.type_ == DEGRADED)?;
        (degraded.reason == NODE_LOST).then(|| degraded.message.clone())
    };
    let note = lost(after).filter(|_| lost(before).is_none())?;
    Some(Event {
        type_: EventType::Warning,
        reason: NODE_LOST.to_owned(),
        note: Some(note.chars().take(1000).collect()),
        action: "Wait".to_owned(),
        secondary: None,
    })
}

/// The member that a step is about.
fn member(desired: &Desired, step: &Step) -> Option<String> {
    match step {
        Step::RecordBootstrap { seed: ordinal, .. }
        | Step::MarkVolume { ordinal, .. }
        | Step::AddLearner { ordinal }
        | Step::Promote { ordinal, .. }
        | Step::DeleteSet { ordinal, .. }
        | Step::DeleteVolume { ordinal, .. }
        | Step::RestartPod { ordinal, .. }
        | Step::GrowVolume { ordinal, .. } => Some(names::member(&desired.name, *ordinal)),
        Step::RemoveMember { name, .. } => Some(name.clone()),
        Step::Done
        | Step::Wait
        | Step::Stall
        | Step::RecordCluster { .. }
        | Step::MoveLeader { .. } => None,
    }
}
