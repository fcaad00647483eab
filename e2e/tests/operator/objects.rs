//! Any Kubernetes object as JSON: policies, quotas, webhooks and classes that stand in the operator's way.

#![allow(dead_code, reason = "each test program uses its part")]

use anyhow::{Context, Result};
use coord_e2e::cluster::kubernetes::Kubernetes;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::Value;

fn api(kubernetes: &Kubernetes, object: &Value) -> Result<(Api<DynamicObject>, String)> {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let version = text("/apiVersion").context("an apiVersion")?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let kind = text("/kind").context("a kind")?;
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api = match text("/metadata/namespace") {
        Some(namespace) => Api::namespaced_with(kubernetes.client(), namespace, &resource),
        None => Api::all_with(kubernetes.client(), &resource),
    };
    Ok((api, text("/metadata/name").context("a name")?.to_owned()))
}

/// Creates or changes the object.
pub(crate) async fn put(kubernetes: &Kubernetes, object: &Value) -> Result<()> {
    let (api, name) = api(kubernetes, object)?;
    let params = PatchParams::apply("coord-e2e").force();
    api.patch(&name, &params, &Patch::Apply(object)).await?;
    Ok(())
}

/// Changes some of its fields, or its status with `subresource`.
pub(crate) async fn merge(
    kubernetes: &Kubernetes,
    object: &Value,
    subresource: Option<&str>,
) -> Result<()> {
    let (api, name) = api(kubernetes, object)?;
    let (params, patch) = (PatchParams::default(), Patch::Merge(object));
    match subresource {
        None => api.patch(&name, &params, &patch).await?,
        Some(part) => api.patch_subresource(part, &name, &params, &patch).await?,
    };
    Ok(())
}

/// Deletes the object.
pub(crate) async fn delete(kubernetes: &Kubernetes, object: &Value) -> Result<()> {
    let (api, name) = api(kubernetes, object)?;
    api.delete(&name, &DeleteParams::background()).await?;
    Ok(())
}
