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
use super::{ExecuteError, Hands, Sent};
use crate::model::{Ordinal, hash::content_hash, names};
use crate::observe::Applied;
use crate::writes::{Child, Object};

/// The field manager of everything that the operator applies.
const MANAGER: &str = "coord-operator";
/// The API server's answer to an object that its rules do not allow.
const INVALID: u16 = 422;

pub(super) async fn child(hands: &Hands<'_>, child: &Child) -> Result<Sent, ExecuteError> {
    match &child.object {
        Object::ServiceAccount(object) => apply(hands, child, object).await,
        Object::Service(object) => apply(hands, child, object).await,
        Object::StatefulSet(object) => apply(hands, child, object).await,
        Object::Budget(object) => match apply(hands, child, object).await {
            // Somebody set maxUnavailable: the two exclude each other, and an apply only adds ours.
            Err(ExecuteError::Kube {
                source: kube::Error::Api(status),
                ..
            }) if status.code == INVALID => replace_budget(hands, child, object).await,
            applied => applied,
        },
    }
}

async fn apply<K>(hands: &Hands<'_>, child: &Child, object: &K) -> Result<Sent, ExecuteError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug,
{
    let api: Api<K> = Api::namespaced(hands.client.clone(), &hands.desired.namespace);
    let params = PatchParams::apply(MANAGER).force();
    hands.may_write()?;
    let applied = within(
        format!("applying {}", child.key),
        api.patch(&object.name_any(), &params, &Patch::Apply(object)),
    )
    .await?;
    Ok(sent(hands, child, &applied))
}

async fn replace_budget(
    hands: &Hands<'_>,
    child: &Child,
    budget: &PodDisruptionBudget,
) -> Result<Sent, ExecuteError> {
    let mut budget = budget.clone();
    budget.metadata.resource_version = child.seen.as_ref().map(|s| s.resource_version.clone());
    let api: Api<PodDisruptionBudget> =
        Api::namespaced(hands.client.clone(), &hands.desired.namespace);
    let params = PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    };
    hands.may_write()?;
    let replaced = within(
        format!("replacing {}", child.key),
        api.replace(&budget.name_any(), &params, &budget),
    )
    .await?;
    Ok(sent(hands, child, &replaced))
}

fn sent<K: Resource<DynamicType = ()> + Serialize>(
    hands: &Hands<'_>,
    child: &Child,
    became: &K,
) -> Sent {
    let before = child.seen.as_ref().map(|seen| &seen.resource_version);
    if before != became.resource_version().as_ref() {
        hands.writes.wrote("Apply");
    }
    Sent::Applied(Applied {
        wanted: child.wanted.clone(),
        content: content_hash(became),
    })
}

pub(super) async fn create_volume(
    hands: &Hands<'_>,
    ordinal: Ordinal,
    volume: &PersistentVolumeClaim,
) -> Result<(), ExecuteError> {
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(hands.client.clone(), &hands.desired.namespace);
    let name = names::volume(&hands.desired.name, ordinal);
    hands.may_write()?;
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
            hands.writes.wrote("CreateVolume");
            Ok(())
        }
    }
}

pub(super) async fn delete_budget(
    hands: &Hands<'_>,
    name: &str,
    uid: &str,
) -> Result<(), ExecuteError> {
    let api: Api<PodDisruptionBudget> =
        Api::namespaced(hands.client.clone(), &hands.desired.namespace);
    let params = DeleteParams::default().preconditions(Preconditions {
        uid: Some(uid.to_owned()),
        resource_version: None,
    });
    hands.may_write()?;
    within(
        format!("deleting PodDisruptionBudget {name}"),
        api.delete(name, &params),
    )
    .await?;
    hands.writes.wrote("Delete");
    Ok(())
}

pub(super) async fn label_pod(
    hands: &Hands<'_>,
    ordinal: Ordinal,
    uid: &str,
    labels: &BTreeMap<String, String>,
) -> Result<(), ExecuteError> {
    let name = names::pod(&hands.desired.name, ordinal);
    let api: Api<Pod> = Api::namespaced(hands.client.clone(), &hands.desired.namespace);
    let patch = json!({ "metadata": { "uid": uid, "labels": labels } });
    hands.may_write()?;
    within(
        format!("labelling Pod {name}"),
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)),
    )
    .await?;
    hands.writes.wrote("LabelPod");
    Ok(())
}

pub(super) async fn tie_volume(
    hands: &Hands<'_>,
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
    patch_volume(hands, ordinal, &json!({ "metadata": metadata })).await
}
