//! The StatefulSet of one member: one replica, `OnDelete`, so that the planner alone restarts pods.

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::{owner, pod_template};
use crate::crd::Bootstrap;
use crate::model::{Ordinal, labels, names};
use crate::validate::Desired;

/// The StatefulSet of one member: a stable name and a pod that comes back; the order of everything is the operator's.
///
/// `is_placed`: its disk is tied to a node.
pub fn stateful_set(
    desired: &Desired,
    ordinal: Ordinal,
    is_placed: bool,
    bootstrap: Option<&Bootstrap>,
) -> StatefulSet {
    let name = names::member(&desired.name, ordinal);
    let mut selector = labels::selector(&desired.name);
    selector.insert(labels::MEMBER.to_owned(), name.clone());
    StatefulSet {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(desired.namespace.clone()),
            labels: Some(labels::of_member(&desired.name, ordinal)),
            annotations: Some(
                [(
                    labels::TEMPLATE_HASH.to_owned(),
                    desired.template_hash.clone(),
                )]
                .into(),
            ),
            owner_references: Some(vec![owner(desired)]),
            ..ObjectMeta::default()
        },
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(names::peer_service(&desired.name)),
            pod_management_policy: Some("Parallel".to_owned()),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("OnDelete".to_owned()),
                ..StatefulSetUpdateStrategy::default()
            }),
            selector: LabelSelector {
                match_labels: Some(selector),
                ..LabelSelector::default()
            },
            template: pod_template::pod_template(desired, ordinal, is_placed, bootstrap),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}
