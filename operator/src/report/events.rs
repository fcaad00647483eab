use crate::plan::{Plan, Step};
use kube::runtime::events::{Event, EventType};

/// The event for a step that was carried out; `None` for what nobody needs to read.
pub fn event(plan: &Plan) -> Option<Event> {
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
        secondary: None,
    })
}
