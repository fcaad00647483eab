//! Reads of the API server: consistent lists, never a watch cache. A decision to delete must not rest on old news.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::ListParams;
use kube::{Api, Client, Error, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::pod::pod_seen;
use super::text::{annotation, id};
use super::volume::{can_grow, storage_class, volume_seen};
use super::{ChildSeen, Observed, Record, SetSeen, child_key};
use crate::crd::CoordCluster;
use crate::model::{Ordinal, labels, names};
use crate::model::{hash::content_hash, template::SERVER};

/// Seconds beyond its grace period after which a pod that does not end is called stuck.
const STUCK_SECONDS: i64 = 30;

/// Reads all objects of `cluster`. `now` is in Unix seconds.
pub(super) async fn read(
    client: &Client,
    cluster: &CoordCluster,
    now: i64,
) -> Result<Observed, Error> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let list = ListParams::default().labels(&labels::selector_text(&name));
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let volumes: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let (listed_sets, listed_pods, listed_volumes, storage_class, singles) = futures::join!(
        sets.list(&list),
        pods.list(&list),
        volumes.list(&list),
        storage_class(client, cluster),
        singles(client, cluster)
    );
    let uid = cluster.uid().unwrap_or_default();
    let mut observed = Observed {
        record: record(cluster),
        storage_class: storage_class?,
        children: singles?,
        ..Observed::default()
    };
    let (mut listed_sets, mut listed_pods, mut listed_volumes) = (
        listed_sets?.items,
        listed_pods?.items,
        listed_volumes?.items,
    );
    // A child that lost its labels is found by its name, where the others of its number are, or should be.
    let numbers = numbers(cluster, &listed_sets, &listed_pods, &listed_volumes);
    let (more_sets, more_pods, more_volumes) = futures::join!(
        by_name(&sets, &listed_sets, &numbers, |n| names::member(&name, n)),
        by_name(&pods, &listed_pods, &numbers, |n| names::pod(&name, n)),
        by_name(&volumes, &listed_volumes, &numbers, |n| names::volume(
            &name, n
        )),
    );
    listed_sets.extend(more_sets?.into_iter().filter(|set| is_owned(set, &uid)));
    listed_pods.extend(more_pods?.into_iter().filter(|pod| {
        let set = pod
            .owner_references()
            .iter()
            .find(|o| o.controller == Some(true));
        let is_of_ours = |set: &OwnerReference| {
            listed_sets
                .iter()
                .any(|s| s.uid().as_ref() == Some(&set.uid))
        };
        set.map_or(
            pod.annotations().contains_key(labels::TEMPLATE_HASH),
            is_of_ours,
        )
    }));
    let found = more_volumes?.into_iter();
    listed_volumes.extend(found.filter(|volume| {
        is_our_volume(volume, &uid, &observed.record) || is_a_members(volume, cluster)
    }));
    for set in listed_sets {
        let Some(n) = names::ordinal_of_member(&name, &set.name_any()) else {
            continue;
        };
        if let Some(other) = set
            .owner_references()
            .iter()
            .find(|o| o.controller == Some(true) && o.uid != uid)
        {
            observed.in_the_way.push(format!(
                "waiting for StatefulSet {} to be deleted: it belongs to an earlier {} {}",
                set.name_any(),
                other.kind,
                other.name
            ));
        }
        let key = child_key("StatefulSet", &set.name_any());
        observed.children.insert(key, child_seen(&set, &name, &uid));
        observed.sets.insert(n, set_seen(&set));
    }
    for pod in listed_pods {
        let Some(n) = names::ordinal_of_pod(&name, &pod.name_any()) else {
            continue;
        };
        let mut seen = pod_seen(&pod);
        seen.stripped = is_stripped(&pod, &name, n);
        seen.stuck = seen
            .deleting_since
            .is_some_and(|since| now - since > STUCK_SECONDS);
        observed.pods.insert(n, seen);
    }
    for volume in listed_volumes {
        let Some(n) = names::ordinal_of_volume(&name, &volume.name_any()) else {
            continue;
        };
        let mut seen = volume_seen(&volume, &uid);
        seen.stripped = is_stripped(&volume, &name, n);
        observed.volumes.insert(n, seen);
    }
    can_grow(client, cluster, &mut observed).await?;
    Ok(observed)
}

/// The children of which a cluster has one each, by name: what lost its labels is found, and so is what is not ours.
async fn singles(
    client: &Client,
    cluster: &CoordCluster,
) -> Result<BTreeMap<String, ChildSeen>, Error> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let uid = cluster.uid().unwrap_or_default();
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    let services: Api<Service> = Api::namespaced(client.clone(), &namespace);
    let budgets: Api<PodDisruptionBudget> = Api::namespaced(client.clone(), &namespace);
    let (peers, clients) = (names::peer_service(&name), names::client_service(&name));
    let account = names::service_account(&name);
    let (account, peers, clients, budget) = futures::try_join!(
        accounts.get_opt(&account),
        services.get_opt(&peers),
        services.get_opt(&clients),
        budgets.get_opt(&name),
    )?;
    let mut seen = BTreeMap::new();
    let mut put = |kind: &str, name: String, child: ChildSeen| {
        seen.insert(child_key(kind, &name), child);
    };
    if let Some(account) = account {
        let child = child_seen(&account, &name, &uid);
        put("ServiceAccount", account.name_any(), child);
    }
    for service in [peers, clients].into_iter().flatten() {
        let child = child_seen(&service, &name, &uid);
        put("Service", service.name_any(), child);
    }
    if let Some(budget) = budget {
        let keeps = budget.spec.as_ref().and_then(|s| s.min_available.clone());
        let child = ChildSeen {
            min_available: match keeps {
                Some(IntOrString::Int(keeps)) => u32::try_from(keeps).ok(),
                Some(IntOrString::String(_)) | None => None,
            },
            ..child_seen(&budget, &name, &uid)
        };
        put("PodDisruptionBudget", budget.name_any(), child);
    }
    Ok(seen)
}

/// The facts that a look at an object of ours, or of our names, tells.
fn child_seen<K: Resource<DynamicType = ()> + Serialize>(
    object: &K,
    cluster: &str,
    owner: &str,
) -> ChildSeen {
    let is_labelled = object.labels().get(labels::CLUSTER).map(String::as_str) == Some(cluster);
    let is_owned = object.owner_references().iter().any(|o| o.uid == owner);
    ChildSeen {
        uid: object.uid().unwrap_or_default(),
        resource_version: object.resource_version().unwrap_or_default(),
        content: content_hash(object),
        is_ours: is_labelled || is_owned,
        min_available: None,
    }
}

/// The numbers of members that are, were or will be.
fn numbers(
    cluster: &CoordCluster,
    sets: &[StatefulSet],
    pods: &[Pod],
    volumes: &[PersistentVolumeClaim],
) -> BTreeSet<Ordinal> {
    let name = cluster.name_any();
    let rows = cluster.status.iter().flat_map(|status| &status.members);
    (0..Ordinal::try_from(cluster.spec.replicas).unwrap_or(0))
        .chain(rows.filter_map(|row| names::ordinal_of_member(&name, &row.name)))
        .chain(
            sets.iter()
                .filter_map(|set| names::ordinal_of_member(&name, &set.name_any())),
        )
        .chain(
            pods.iter()
                .filter_map(|pod| names::ordinal_of_pod(&name, &pod.name_any())),
        )
        .chain(
            volumes
                .iter()
                .filter_map(|v| names::ordinal_of_volume(&name, &v.name_any())),
        )
        .collect()
}

/// Gets those of `numbers` that are not in `listed`.
async fn by_name<K>(
    api: &Api<K>,
    listed: &[K],
    numbers: &BTreeSet<Ordinal>,
    name: impl Fn(Ordinal) -> String,
) -> Result<Vec<K>, Error>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let there: BTreeSet<String> = listed.iter().map(ResourceExt::name_any).collect();
    let missing = numbers
        .iter()
        .map(|n| name(*n))
        .filter(|name| !there.contains(name));
    let found = try_join_all(missing.map(|name| async move { api.get_opt(&name).await })).await?;
    Ok(found.into_iter().flatten().collect())
}

fn is_owned<K: Resource>(object: &K, uid: &str) -> bool {
    object.owner_references().iter().any(|o| o.uid == uid)
}

/// A claim has no owner unless its disk goes with the CoordCluster. Its marks are as good: nobody else writes them.
fn is_our_volume(volume: &PersistentVolumeClaim, uid: &str, record: &Record) -> bool {
    let annotations = volume.annotations();
    let cluster_id = annotation(annotations, labels::CLUSTER_ID).and_then(id);
    let token = annotation(annotations, labels::TOKEN);
    is_owned(volume, uid)
        || cluster_id.is_some() && cluster_id == record.cluster_id
        || token.is_some() && token == record.bootstrap.as_ref().map(|b| b.token.as_str())
}

/// True if `volume` has the name of the claim of a recorded member, whose pod uses it. One that lost labels and marks alike
/// is not gone: its server says what is on it.
fn is_a_members(volume: &PersistentVolumeClaim, cluster: &CoordCluster) -> bool {
    let rows = cluster.status.iter().flat_map(|status| &status.members);
    let mut members = rows.filter(|row| row.id.is_some());
    let name = volume.name_any();
    members.any(|row| {
        let n = names::ordinal_of_member(&cluster.name_any(), &row.name);
        n.is_some_and(|n| names::volume(&cluster.name_any(), n) == name)
    })
}

fn is_stripped<K: Resource>(object: &K, cluster: &str, n: Ordinal) -> bool {
    let there = object.labels();
    labels::of_member(cluster, n)
        .iter()
        .any(|(key, value)| there.get(key) != Some(value))
}

fn record(cluster: &CoordCluster) -> Record {
    let status = cluster.status.as_ref();
    Record {
        cluster_id: status.and_then(|s| s.cluster_id.as_deref()).and_then(id),
        bootstrap: status.and_then(|s| s.bootstrap.clone()),
        server_image: status.and_then(|s| s.server_image.clone()),
        server_version: status.and_then(|s| s.server_version.clone()),
    }
}

fn set_seen(set: &StatefulSet) -> SetSeen {
    let containers = set
        .spec
        .as_ref()
        .and_then(|s| s.template.spec.as_ref())
        .map(|p| &p.containers);
    SetSeen {
        uid: set.uid().unwrap_or_default(),
        resource_version: set.resource_version().unwrap_or_default(),
        replicas: set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1),
        update_revision: set
            .status
            .as_ref()
            .filter(|status| status.observed_generation == set.metadata.generation)
            .and_then(|status| status.update_revision.clone()),
        template_hash: annotation(set.annotations(), labels::TEMPLATE_HASH)
            .unwrap_or_default()
            .to_owned(),
        image: containers
            .and_then(|c| c.iter().find(|c| c.name == SERVER)?.image.clone())
            .unwrap_or_default(),
        deleting: set.metadata.deletion_timestamp.is_some(),
        trouble: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_claim_without_labels_and_marks_is_a_members_by_its_name_and_no_other() {
        let cluster: CoordCluster = serde_json::from_value(json!({
            "apiVersion": "coord.dev/v1alpha1", "kind": "CoordCluster", "metadata": { "name": "demo" },
            "spec": { "storage": { "size": "1Gi" } },
            "status": { "members": [
                { "name": "demo-1", "id": "a1", "role": "voter", "healthy": true },
                { "name": "demo-2", "role": "joining", "healthy": false },
            ] },
        }))
        .expect("a cluster");
        let of = |name: &str| {
            let claim = json!({ "metadata": { "name": name } });
            is_a_members(&serde_json::from_value(claim).expect("a claim"), &cluster)
        };
        assert!(of("data-demo-1-0"));
        for other in ["data-demo-2-0", "data-demo-3-0", "data-other-1-0"] {
            assert!(!of(other), "{other}");
        }
    }
}
