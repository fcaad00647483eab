//! Children, disks and labels. Harmless at any time: no pod ends by it.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::objects::{patch_volume, within};
use super::{ExecuteError, Sent, Writer};
use crate::model::{Ordinal, hash::content_hash, names};
use crate::observe::Applied;
use crate::writes::{Child, Object};

/// The field manager of everything that the operator applies.
const MANAGER: &str = "coord-operator";
/// The API server's answer to an object that its rules do not allow.
const INVALID: u16 = 422;

pub(super) async fn child(writer: &Writer<'_>, child: &Child) -> Result<Sent, ExecuteError> {
    match &child.object {
        Object::ServiceAccount(object) => apply(writer, child, object).await,
        Object::Service(object) => apply(writer, child, object).await,
        Object::StatefulSet(object) => apply(writer, child, object).await,
        Object::Budget(object) => match apply(writer, child, object).await {
            // Somebody set maxUnavailable: the two exclude each other, and an apply only adds ours.
            Err(ExecuteError::Kube {
                source: kube::Error::Api(status),
                ..
            }) if status.code == INVALID => replace_budget(writer, child, object).await,
            applied => applied,
        },
    }
}

async fn apply<K>(writer: &Writer<'_>, child: &Child, object: &K) -> Result<Sent, ExecuteError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug,
{
    let api: Api<K> = Api::namespaced(writer.client.clone(), &writer.desired.namespace);
    let params = PatchParams::apply(MANAGER).force();
    writer.may_write()?;
    let applied = within(
        format!("applying {}", child.key),
        api.patch(&object.name_any(), &params, &Patch::Apply(object)),
    )
    .await?;
    Ok(sent(writer, child, &applied))
}

async fn replace_budget(
    writer: &Writer<'_>,
    child: &Child,
    budget: &PodDisruptionBudget,
) -> Result<Sent, ExecuteError> {
    let mut budget = budget.clone();
    budget.metadata.resource_version = child.seen.as_ref().map(|s| s.resource_version.clone());
    let api: Api<PodDisruptionBudget> =
        Api::namespaced(writer.client.clone(), &writer.desired.namespace);
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    writer.may_write()?;
    let replaced = within(
        format!("replacing {}", child.key),
        api.replace(&budget.name_any(), &params, &budget),
    )
    .await?;
    Ok(sent(writer, child, &replaced))
}

fn sent<K: Resource<DynamicType = ()> + Serialize>(
    writer: &Writer<'_>,
    child: &Child,
    became: &K,
) -> Sent {
    let before = child.seen.as_ref().map(|seen| &seen.resource_version);
    if before != became.resource_version().as_ref() {
        writer.writes.wrote("Apply");
    }
    Sent::Applied(Applied {
        wanted: child.wanted.clone(),
        content: content_hash(became),
    })
}

pub(super) async fn create_volume(
    writer: &Writer<'_>,
    ordinal: Ordinal,
    volume: &PersistentVolumeClaim,
) -> Result<(), ExecuteError> {
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(writer.client.clone(), &writer.desired.namespace);
    let name = names::volume(&writer.desired.name, ordinal);
    writer.may_write()?;
    let created = within(
        format!("creating PersistentVolumeClaim {name}"),
        api.create(&PostParams::default(), volume),
    )
    .await;
    match created {
        Err(ExecuteError::Kube {
            source: kube::Error::Api(status),
            ..
        }) if status.is_already_exists() => Err(ExecuteError::NameTaken {
            kind: "PersistentVolumeClaim".to_owned(),
            name,
        }),
        created => {
            created?;
            writer.writes.wrote("CreateVolume");
            Ok(())
        }
    }
}

pub(super) async fn delete_budget(
    writer: &Writer<'_>,
    name: &str,
    uid: &str,
) -> Result<(), ExecuteError> {
    let api: Api<PodDisruptionBudget> =
        Api::namespaced(writer.client.clone(), &writer.desired.namespace);
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    });
    writer.may_write()?;
    within(
        format!("deleting PodDisruptionBudget {name}"),
        api.delete(name, &params),
    )
    .await?;
    writer.writes.wrote("Delete");
    Ok(())
}

pub(super) async fn label_pod(
    writer: &Writer<'_>,
    ordinal: Ordinal,
    uid: &str,
    labels: &BTreeMap<String, String>,
) -> Result<(), ExecuteError> {
    let name = names::pod(&writer.desired.name, ordinal);
    let api: Api<Pod> = Api::namespaced(writer.client.clone(), &writer.desired.namespace);
    let patch = json!({ "metadata": { "uid": uid, "labels": labels } });
    writer.may_write()?;
    within(
        format!("labelling Pod {name}"),
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)),
    )
    .await?;
    writer.writes.wrote("LabelPod");
    Ok(())
}

pub(super) async fn tie_volume(
    writer: &Writer<'_>,
    ordinal: Ordinal,
    uid: &str,
    version: &str,
    labels: &BTreeMap<String, String>,
    owners: &[OwnerReference],
) -> Result<(), ExecuteError> {
    let metadata = json!({
        "uid": uid,
        "resourceVersion": version,
        "labels": labels,
        "ownerReferences": owners,
    });
    patch_volume(writer, ordinal, &json!({ "metadata": metadata })).await
}
