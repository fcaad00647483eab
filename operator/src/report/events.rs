use crate::build::names;
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
