//! Brings the objects of a cluster to what they should be. Harmless at any time: no pod ends by it, and a disk is
//! only ever created where the plan says that none can be missed.

use super::objects::{patch_volume, within};
use super::{ExecuteError, Hands};
use crate::build::{self, labels, names};
use crate::observe::Ordinal;
use crate::plan::Children;
use futures::future::try_join_all;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::fmt::Debug;

/// The field manager of everything that the operator applies.
const MANAGER: &str = "coord-operator";

/// Creates and corrects all children, StatefulSets of all members at once.
pub async fn apply_children(hands: &Hands<'_>, children: &Children) -> Result<(), ExecuteError> {
    let (desired, observed) = (hands.desired, hands.observed);
    let bootstrap = observed.record.bootstrap.as_ref();
    // Before the pods, so that none waits for its disk, its account or its name.
    let service_account = build::service_account(desired);
    let (peers, clients) = (build::peer_service(desired), build::client_service(desired));
    let volumes = children
        .members
        .iter()
        .filter(|(n, child)| child.may_create_volume && !observed.volumes.contains_key(n));
    futures::try_join!(
        apply(hands, &service_account),
        apply(hands, &peers),
        apply(hands, &clients),
        try_join_all(volumes.map(|(n, _)| create_volume(hands, *n))),
    )?;
    let sets = children
        .members
        .iter()
        .map(|(n, child)| (*n, build::stateful_set(desired, *n, child, bootstrap)));
    // A licence to bootstrap is only written over the StatefulSet that was seen: if another operator has taken it back
    // since, because the cluster exists by now, it must not return.
    let sets: Vec<_> = sets
        .map(|(n, mut set)| {
            if let Some(seen) = observed.sets.get(&n) {
                set.metadata.uid = Some(seen.uid.clone());
                if children.members[&n].is_seed {
                    set.metadata.resource_version = Some(seen.resource_version.clone());
                }
            }
            set
        })
        .collect();
    try_join_all(sets.iter().map(|set| apply(hands, set))).await?;
    match children.min_available {
        Some(min_available) => {
            apply(hands, &build::disruption_budget(desired, min_available)).await?
        }
        None => delete_budget(hands).await?,
    }
    for (n, child) in &children.members {
        label_pod(hands, *n, child.is_voter).await?;
    }
    own_volumes(hands).await
}

/// Server-side apply. The first time in a pass chain, looks whether the name is somebody else's.
async fn apply<K>(hands: &Hands<'_>, object: &K) -> Result<(), ExecuteError>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Serialize
        + Debug,
{
    let name = object.name_any();
    let kind = K::kind(&()).into_owned();
    let api: Api<K> = Api::namespaced(hands.client.clone(), &hands.desired.namespace);
    let there = within(
        format!("reading {kind} {name}"),
        api.get_metadata_opt(&name),
    )
    .await?;
    if let Some(there) = &there
        && there.labels().get(labels::CLUSTER) != Some(&hands.desired.name)
    {
        return Err(ExecuteError::NameTaken { kind, name });
    }
    let params = PatchParams::apply(MANAGER).force();
    hands.may_write()?;
    let applied = within(
        format!("applying {kind} {name}"),
        api.patch(&name, &params, &Patch::Apply(object)),
    )
    .await?;
    if there.and_then(|there| there.resource_version()) != applied.resource_version() {
        hands.writes.wrote("Apply");
    }
    Ok(())
}

/// Creates, never applies: a claim of that name that was not seen is not ours to change.
async fn create_volume(hands: &Hands<'_>, ordinal: Ordinal) -> Result<(), ExecuteError> {
    let volume = build::volume(
        hands.desired,
        ordinal,
        hands.observed.record.bootstrap.as_ref(),
    );
    let api: Api<PersistentVolumeClaim> =
        Api::namespaced(hands.client.clone(), &hands.desired.namespace);
    let name = names::volume(&hands.desired.name, ordinal);
    hands.may_write()?;
    let created = within(
        format!("creating claim {name}"),
        api.create(&PostParams::default(), &volume),
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

async fn delete_budget(hands: &Hands<'_>) -> Result<(), ExecuteError> {
    let api: Api<PodDisruptionBudget> =
        Api::namespaced(hands.client.clone(), &hands.desired.namespace);
    let name = &hands.desired.name;
    let what = || format!("deleting PodDisruptionBudget {name}");
    let Some(budget) = within(what(), api.get_metadata_opt(name)).await? else {
        return Ok(());
    };
    if budget.labels().get(labels::CLUSTER) != Some(name) {
        return Ok(());
    }
    hands.may_write()?;
    within(what(), api.delete(name, &DeleteParams::default())).await?;
    hands.writes.wrote("Delete");
    Ok(())
}

/// The template of the StatefulSet labels pods that are yet to come; this is for the one that runs.
async fn label_pod(
    hands: &Hands<'_>,
    ordinal: Ordinal,
    is_voter: bool,
) -> Result<(), ExecuteError> {
    let Some(pod) = hands.observed.pods.get(&ordinal) else {
        return Ok(());
    };
    if pod.labelled_voter == is_voter || pod.deleting_since.is_some() {
        return Ok(());
    }
    let name = names::pod(&hands.desired.name, ordinal);
    let api: Api<Pod> = Api::namespaced(hands.client.clone(), &hands.desired.namespace);
    let patch = json!({ "metadata": { "uid": pod.uid, "labels": { labels::ROLE: labels::role(is_voter) } } });
    hands.may_write()?;
    within(
        format!("labelling pod {name}"),
        api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)),
    )
    .await?;
    hands.writes.wrote("LabelPod");
    Ok(())
}

/// Ties disks to the CoordCluster, or unties them, as the reclaim policy says.
async fn own_volumes(hands: &Hands<'_>) -> Result<(), ExecuteError> {
    for (n, volume) in &hands.observed.volumes {
        if volume.owned == hands.desired.volumes_owned || volume.deleting {
            continue;
        }
        let owners = if hands.desired.volumes_owned {
            json!([build::owner(hands.desired)])
        } else {
            json!([])
        };
        let metadata = json!({ "uid": volume.uid, "resourceVersion": volume.resource_version, "ownerReferences": owners });
        patch_volume(hands, *n, &json!({ "metadata": metadata })).await?;
    }
    Ok(())
}
