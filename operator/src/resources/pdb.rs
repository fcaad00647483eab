//! The PodDisruptionBudget over the voters.

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::owner;
use crate::model::labels;
use crate::validate::Desired;

/// Keeps evictions from taking the quorum.
///
/// An absolute number over a label that only voters carry: `maxUnavailable` counts only pods that exist, and would
/// allow another eviction while a member is missing. A pod that is not ready takes no part, so it may always go.
pub fn disruption_budget(desired: &Desired, min_available: u32) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: ObjectMeta {
            name: Some(desired.name.clone()),
            namespace: Some(desired.namespace.clone()),
            labels: Some(labels::of_cluster(&desired.name)),
            owner_references: Some(vec![owner(desired)]),
            ..ObjectMeta::default()
        },
        spec: Some(PodDisruptionBudgetSpec {
            min_available: Some(IntOrString::Int(
                i32::try_from(min_available).expect("a handful of voters"),
            )),
            selector: Some(labels::voters(&desired.name)),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}
