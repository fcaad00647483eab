//! The ServiceAccount of the members, which mounts no token.

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::owner;
use crate::model::{labels, names};
use crate::validate::Desired;

/// An identity without rights and without a token: members never talk to the API server.
pub fn service_account(desired: &Desired) -> ServiceAccount {
    ServiceAccount {
        metadata: ObjectMeta {
            name: Some(names::service_account(&desired.name)),
            namespace: Some(desired.namespace.clone()),
            labels: Some(labels::of_cluster(&desired.name)),
            owner_references: Some(vec![owner(desired)]),
            ..ObjectMeta::default()
        },
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
