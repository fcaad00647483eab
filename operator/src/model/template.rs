//! The fields that a pod is made from.
//!
//! A field whose change restarts a running pod goes into `template_hash`, computed from the spec's fields and not
//! from the objects that are built: a newer operator may build a better pod, but it restarts none for it.

use k8s_openapi::api::core::v1::LocalObjectReference;
use serde::Serialize;

use super::hash::wanted_hash;
use crate::crd::{CoordClusterSpec, PullPolicy, Resources, Scheduling, ServerOptions};

/// The name of the server's container: a mesh may add others beside it.
pub const SERVER: &str = "server";

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
    wanted_hash(&inputs)
}
