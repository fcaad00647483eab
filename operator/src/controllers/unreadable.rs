//! A CoordCluster that this build cannot read: a newer CRD's value after a rollback, or one that was stored before a
//! rule existed. It is left alone and says so; all others are looked after.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::error_boundary::InvalidObject;
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::context::Context;
use crate::crd::{CoordCluster, conditions};

/// Writes into the status, which else stays as it is, that the object cannot be read, once.
pub(super) async fn tell(
    context: &Context,
    name: &str,
    namespace: &str,
    why: &InvalidObject,
) -> Result<(), kube::Error> {
    let kind = ApiResource::erase::<CoordCluster>(&());
    let clusters: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), namespace, &kind);
    let mut cluster = clusters.get(name).await?;
    let message = format!(
        "this version of the operator cannot read the CoordCluster ({}); nothing is touched. Upgrade the operator, or \
         change what it does not know",
        why.error.chars().take(300).collect::<String>()
    );
    tracing::warn!(cluster = name, namespace, why = why.error, "cannot be read");
    let generation = cluster.metadata.generation;
    let claim = |type_: &str, status: &str| Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: "Unreadable".to_owned(),
        message: message.clone(),
        observed_generation: generation,
        last_transition_time: Time(Timestamp::now()),
    };
    let told = cluster.data["status"]["conditions"].to_string();
    if told.contains(&json!(message).to_string()) {
        return Ok(());
    }
    let new = [
        claim(conditions::READY, "False"),
        claim(conditions::STALLED, "True"),
    ];
    if !cluster.data["status"].is_object() {
        cluster.data["status"] = json!({ "members": [], "conditions": [] });
    }
    let before = cluster.data["status"]["conditions"].take();
    let kept = before
        .as_array()
        .into_iter()
        .flatten()
        .filter(|old| new.iter().all(|new| old["type"] != json!(new.type_)));
    let all: Vec<Value> = kept
        .cloned()
        .chain(new.iter().map(|new| json!(new)))
        .collect();
    cluster.data["status"]["conditions"] = json!(all);
    let version = cluster.resource_version();
    let written = clusters
        .replace_status(name, &PostParams::default(), &cluster)
        .await?;
    if written.resource_version() != version {
        context.writes.wrote("Status");
    }
    Ok(())
}
