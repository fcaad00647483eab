//! From a spec to Kubernetes objects: pure functions, one file per kind.
//!
//! In: the checked spec ([`Desired`]) and the number of a member. Out: objects to send. This room knows nothing of
//! what is there. A newer operator may build a better pod here and restarts none for it: see
//! [`crate::model::template`].

mod flags;
mod pdb;
mod pod_template;
mod service_account;
mod services;
mod stateful_set;
mod volume;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::validate::Desired;

pub use pdb::disruption_budget;
pub use service_account::service_account;
pub use services::{client_service, peer_service};
pub use stateful_set::stateful_set;
pub use volume::volume;

/// The reference by which a child goes when its CoordCluster goes.
pub fn owner(desired: &Desired) -> OwnerReference {
    OwnerReference {
        api_version: "coord.dev/v1alpha1".to_owned(),
        kind: "CoordCluster".to_owned(),
        name: desired.name.clone(),
        uid: desired.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(test)]
mod tests;
