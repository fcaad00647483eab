//! Writes what a pass came to: the status of the CoordCluster, and events. Their sentences are `report`'s.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::events::Event;
use kube::{Api, Resource, ResourceExt};
use serde_json::json;

use super::PassError;
use crate::context::Context;
use crate::crd::{CoordCluster, conditions};
use crate::observe::Observed;
use crate::plan::Plan;
use crate::report::{self, Outcome, StatusInput};
use crate::validate::Desired;

/// A status that is not written by then may still be; the next pass fails on its resource version, and looks again.
pub(super) const TIMEOUT: Duration = Duration::from_secs(8);

/// Writes the status if it says something new, or always if `is_intent`. Returns the cluster as it is afterwards.
pub(super) async fn status(
    context: &Context,
    cluster: &CoordCluster,
    observed: &Observed,
    outcome: Outcome<'_>,
    is_intent: bool,
) -> Result<Option<CoordCluster>, PassError> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let before = cluster.status.clone().unwrap_or_default();
    let input = StatusInput {
        name: &name,
        generation: cluster.metadata.generation,
        observed,
        outcome,
    };
    let after = report::status(&input, &before, Timestamp::now(), || {
        format!("{:032x}", rand::random::<u128>())
    });
    let is_ready = after
        .conditions
        .iter()
        .any(|c| c.type_ == conditions::READY && c.status == "True");
    context
        .metrics
        .cluster_ready
        .with_label_values(&[&namespace, &name])
        .set(i64::from(is_ready));
    let is_news = report::is_worth_writing(&before, &after);
    if !is_intent && !is_news {
        return Ok(None);
    }
    let warnings = report::warnings(&before, &after);
    // An intent that is written down already is sent as it stands: the API server compares the resource version and
    // stores nothing, so that nobody is woken by it.
    let status = if is_news { &after } else { &before };
    let patch = Patch::Merge(json!({
        "metadata": { "uid": cluster.metadata.uid, "resourceVersion": cluster.metadata.resource_version },
        "status": report::status_patch(&before, status),
    }));
    let clusters: Api<CoordCluster> = Api::namespaced(context.client.clone(), &namespace);
    let params = PatchParams::default();
    let call = clusters.patch_status(&name, &params, &patch);
    let written = match tokio::time::timeout(TIMEOUT, call).await {
        Ok(written) => written.map_err(PassError::Report)?,
        Err(_) => return Err(PassError::Timeout("the status was not written")),
    };
    if written.resource_version() != cluster.resource_version() {
        context.writes.wrote("Status");
    }
    for warning in &warnings {
        publish(context, cluster, warning).await;
    }
    Ok(Some(written))
}

/// Tells of a step that was done.
pub(super) async fn step(
    context: &Context,
    cluster: &CoordCluster,
    desired: &Desired,
    plan: &Plan,
) {
    tracing::info!(
        cluster = desired.name,
        namespace = desired.namespace,
        step = ?plan.step,
        because = plan.because,
        "step done"
    );
    context
        .metrics
        .steps
        .with_label_values(&[plan.step.name()])
        .inc();
    if let Some(event) = report::event(desired, plan) {
        publish(context, cluster, &event).await;
    }
}

/// An event that cannot be written is not worth failing for.
pub(super) async fn publish<K>(context: &Context, cluster: &K, event: &Event)
where
    K: Resource<DynamicType = ()>,
{
    let reference = cluster.object_ref(&());
    let call = context.recorder.publish(event, &reference);
    match tokio::time::timeout(Duration::from_secs(2), call).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "event not written"),
        Err(_) => tracing::debug!("event not written in time"),
    }
}
