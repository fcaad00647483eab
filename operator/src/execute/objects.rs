//! Steps on single Kubernetes objects.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::writes::DEADLINE;
use super::{ExecuteError, Writer};
use crate::model::{Ordinal, labels, names};

pub(super) async fn mark_volume(
    writer: &Writer<'_>,
    ordinal: Ordinal,
    uid: &str,
    cluster_id: u64,
    member_id: Option<u64>,
) -> Result<(), ExecuteError> {
    let mut annotations = serde_json::Map::new();
    annotations.insert(
        labels::CLUSTER_ID.to_owned(),
        json!(format!("{cluster_id:x}")),
    );
    if let Some(id) = member_id {
        annotations.insert(labels::MEMBER_ID.to_owned(), json!(format!("{id:x}")));
    }
    let made_for = names::made_for(&writer.desired.name, &writer.desired.namespace);
    annotations.insert(labels::MADE_FOR.to_owned(), json!(made_for));
    // The disk may have been made for an earlier attempt; the member that adopts it must find the token of this
    // cluster.
    if let Some(bootstrap) = &writer.observed.record.bootstrap {
        annotations.insert(labels::TOKEN.to_owned(), json!(bootstrap.token));
        annotations.insert(
            labels::BOOTSTRAP_SEED.to_owned(),
            json!(bootstrap.seed.to_string()),
        );
    }
    let patch = json!({ "metadata": { "uid": uid, "annotations": annotations } });
    patch_volume(writer, ordinal, &patch).await
}

/// Lets a StatefulSet run its one pod; its template stays.
pub(super) async fn run_set(
    writer: &Writer<'_>,
    ordinal: Ordinal,
    uid: &str,
) -> Result<(), ExecuteError> {
    let name = names::member(&writer.desired.name, ordinal);
    let sets: Api<StatefulSet> = Api::namespaced(writer.client.clone(), &writer.desired.namespace);
    let patch = json!({ "metadata": { "uid": uid }, "spec": { "replicas": 1 } });
    writer.may_write()?;
    within(
        format!("scaling StatefulSet {name}"),
        sets.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)),
    )
    .await?;
    writer.writes.wrote("RunSet");
    Ok(())
}

/// Writes on a disk that its member is being removed, or that it is not after all.
pub(super) async fn mark_removed(
    writer: &Writer<'_>,
    ordinal: Ordinal,
    uid: &str,
    member_id: Option<u64>,
) -> Result<(), ExecuteError> {
    let mark = member_id.map(|id| format!("{id:x}"));
    let patch = json!({ "metadata": { "uid": uid, "annotations": { labels::REMOVED: mark } } });
    patch_volume(writer, ordinal, &patch).await
}

pub(super) async fn grow_volume(
    writer: &Writer<'_>,
    ordinal: Ordinal,
    uid: &str,
) -> Result<(), ExecuteError> {
    let size = &writer.desired.spec.storage.size;
    let patch = json!({ "metadata": { "uid": uid }, "spec": { "resources": { "requests": { "storage": size } } } });
    patch_volume(writer, ordinal, &patch).await
}

/// Restarts the pod of a member that serves, if the budget allows it.
pub(super) async fn evict_pod(
    writer: &Writer<'_>,
    ordinal: Ordinal,
    uid: &str,
) -> Result<(), ExecuteError> {
    let name = names::pod(&writer.desired.name, ordinal);
    let api: Api<Pod> = Api::namespaced(writer.client.clone(), &writer.desired.namespace);
    // Not Api::evict: kube 5.0 sends its options under a name that the API server does not know, and drops.
    let eviction = json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "name": name },
        "deleteOptions": { "preconditions": { "uid": uid } },
    });
    writer.may_write()?;
    let params = PostParams::default();
    let call = api.create_subresource::<_, Status>("eviction", &name, &params, &eviction);
    within(format!("evicting Pod {name}"), call).await?;
    writer.writes.wrote("Evict");
    Ok(())
}

pub(super) async fn patch_volume(
    writer: &Writer<'_>,
    ordinal: Ordinal,
    patch: &serde_json::Value,
) -> Result<(), ExecuteError> {
    let name = names::volume(&writer.desired.name, ordinal);
    let volumes: Api<PersistentVolumeClaim> =
        Api::namespaced(writer.client.clone(), &writer.desired.namespace);
    let what = format!("patching PersistentVolumeClaim {name}");
    writer.may_write()?;
    within(
        what,
        volumes.patch(&name, &PatchParams::default(), &Patch::Merge(patch)),
    )
    .await?;
    writer.writes.wrote("PatchVolume");
    Ok(())
}

/// Deletes the object of that name, if it is still the one that was decided on.
pub(super) async fn delete<K>(
    writer: &Writer<'_>,
    name: &str,
    uid: &str,
    version: Option<String>,
) -> Result<(), ExecuteError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug,
{
    let api: Api<K> = Api::namespaced(writer.client.clone(), &writer.desired.namespace);
    let preconditions = Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: version,
    };
    let params = DeleteParams::background().preconditions(preconditions);
    writer.may_write()?;
    within(
        format!("deleting {} {name}", K::kind(&())),
        api.delete(name, &params),
    )
    .await?;
    writer.writes.wrote("Delete");
    Ok(())
}

/// Waits for the API server's answer, but not for ever.
pub(super) async fn within<T>(
    what: String,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ExecuteError> {
    match tokio::time::timeout(DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ExecuteError::Kube { what, source }),
        Err(_) => Err(ExecuteError::Timeout { what }),
    }
}
