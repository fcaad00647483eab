//! From a spec to Kubernetes objects: pure functions, one file per kind.
//!
//! What a running pod must be restarted for goes into [`template_hash`], computed from the spec's fields and not from
//! the objects built here: a newer operator may build a better pod, but it restarts none for it.

/// Labels, annotations and selectors.
pub mod labels;
/// Names and URLs, and the way back from them to a member.
pub mod names;
mod pdb;
mod pod_template;
mod service_account;
mod services;
mod stateful_set;
mod volume;

pub use pdb::disruption_budget;
pub use pod_template::SERVER;
pub use service_account::service_account;
pub use services::{client_service, peer_service};
pub use stateful_set::stateful_set;
pub use volume::{made_for, volume};

use crate::crd::{CoordClusterSpec, PullPolicy, Resources, Scheduling, ServerOptions};
use crate::validate::Desired;
use k8s_openapi::api::core::v1::LocalObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde::Serialize;

/// The hash of everything that a running pod must be restarted for.
///
/// Stable across operator versions: fields that are absent are left out, so that a new field changes no hash.
pub fn template_hash(spec: &CoordClusterSpec, image: &str) -> String {
    #[derive(Serialize)]
    struct Inputs<'a> {
        image: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        pull_policy: Option<PullPolicy>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        pull_secrets: &'a [LocalObjectReference],
        #[serde(skip_serializing_if = "Option::is_none")]
        resources: Option<&'a Resources>,
        scheduling: &'a Scheduling,
        server: &'a ServerOptions,
    }
    let inputs = Inputs {
        image,
        pull_policy: spec.image_pull_policy,
        pull_secrets: &spec.image_pull_secrets,
        resources: spec.resources.as_ref(),
        scheduling: &spec.scheduling,
        server: &spec.server,
    };
    let bytes = serde_json::to_vec(&inputs).expect("plain data always serialises");
    format!("{:016x}", fnv1a(&bytes))
}

/// A hash of an object as it was answered: of all but its status and what the API server counts.
///
/// Two hashes are compared that this process made, so that it may change with any version.
pub fn content_hash(object: &impl Serialize) -> String {
    let mut value = serde_json::to_value(object).expect("plain data always serialises");
    if let Some(object) = value.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(|m| m.as_object_mut()) {
        for counted in ["resourceVersion", "generation", "managedFields", "uid"] {
            metadata.remove(counted);
        }
    }
    format!("{:016x}", fnv1a(value.to_string().as_bytes()))
}

/// A hash of an object that is about to be sent.
pub fn wanted_hash(object: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(object).expect("plain data always serialises");
    format!("{:016x}", fnv1a(&bytes))
}

/// FNV-1a, 64 bits: stable for ever, unlike the standard library's hasher. It tells templates apart, nothing else.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

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
