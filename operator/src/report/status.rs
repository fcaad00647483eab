//! The status that a pass publishes, member rows included, and whether it is worth a write.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::{Outcome, StatusInput, conditions, members, record, storage};
use crate::crd::{CoordClusterStatus, Operation};
use crate::model::{labels, version::Version};
use crate::observe::MemberSeen;

/// The new status, from the old one and this pass.
///
/// `new_token` is used if this pass records a bootstrap for which no disk has one.
pub fn status(
    input: &StatusInput,
    before: &CoordClusterStatus,
    now: Timestamp,
    new_token: impl FnOnce() -> String,
) -> CoordClusterStatus {
    let observed = input.observed;
    let membership = observed.membership.as_ref();
    let mut status = CoordClusterStatus {
        observed_generation: input.generation,
        replicas: 0,
        healthy_replicas: 0,
        selector: labels::selector_text(input.name),
        cluster_id: before.cluster_id.clone(),
        bootstrap: before.bootstrap.clone(),
        server_image: before.server_image.clone(),
        server_version: before.server_version.clone(),
        storage: storage::row(observed),
        leader: membership
            .and_then(|m| m.members.iter().find(|member| member.id == m.leader))
            .map(|m| m.name.clone()),
        version: observed
            .answers
            .values()
            .map(|a| &a.version)
            .filter(|version| !version.is_empty())
            .min_by_key(|version| Version::parse(version))
            .cloned(),
        members: members::rows(input),
        operation: None,
        conditions: conditions::conditions(input, &before.conditions, now),
    };
    if let Some(membership) = membership {
        let voters: Vec<&MemberSeen> = membership.voters().collect();
        status.replicas = i32::try_from(voters.len()).unwrap_or(i32::MAX);
        status.healthy_replicas =
            i32::try_from(voters.iter().filter(|m| observed.is_healthy(m)).count())
                .unwrap_or(i32::MAX);
    }
    if let Outcome::Planned {
        desired,
        plan,
        refusals: _,
    } = &input.outcome
    {
        record::write(&mut status, observed, desired, &plan.step, new_token);
        if plan.step.acts() {
            let same = before
                .operation
                .as_ref()
                .filter(|o| o.step == plan.step.name() && o.because == plan.because);
            status.operation = Some(Operation {
                step: plan.step.name().to_owned(),
                because: plan.because.clone(),
                started_at: same.map_or(Time(now), |o| o.started_at.clone()),
            });
        }
    }
    status
}

/// True if somebody would miss the difference. Lag alone changes all the time, and each write wakes the operator
/// again; it is taken along with the next real change.
pub fn is_worth_writing(before: &CoordClusterStatus, after: &CoordClusterStatus) -> bool {
    let without_lag = |status: &CoordClusterStatus| {
        let mut status = status.clone();
        status.members.iter_mut().for_each(|row| row.lag = None);
        status
    };
    without_lag(before) != without_lag(after)
}

/// The merge patch that makes `after` of `before`. Fields that a newer operator has recorded, and that this build does not
/// know, stay as they are.
pub fn status_patch(before: &CoordClusterStatus, after: &CoordClusterStatus) -> Value {
    let fields = |status: &CoordClusterStatus| match serde_json::to_value(status) {
        Ok(Value::Object(fields)) => fields,
        Ok(_) | Err(_) => unreachable!("a status is an object of plain fields"),
    };
    let (before, mut patch) = (fields(before), fields(after));
    for name in before.into_iter().map(|(name, _)| name) {
        patch.entry(name).or_insert(Value::Null);
    }
    Value::Object(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patch_of_the_status_takes_back_what_is_over_and_names_nothing_it_does_not_know() {
        let before = CoordClusterStatus {
            leader: Some("demo-0".to_owned()),
            cluster_id: Some("c1".to_owned()),
            ..CoordClusterStatus::default()
        };
        let after = CoordClusterStatus {
            leader: None,
            replicas: 3,
            ..before.clone()
        };
        let patch = status_patch(&before, &after);
        assert_eq!(patch["leader"], Value::Null);
        assert_eq!(
            (&patch["replicas"], &patch["clusterId"]),
            (&3.into(), &"c1".into())
        );
        assert!(
            patch.get("leader").is_some() && patch.get("operation").is_none(),
            "{patch}"
        );
    }
}
