//! Reads of the API server: consistent lists, never a watch cache. A decision to delete must not rest on old news.

use super::{Observed, PodSeen, Record, SetSeen, StartMode, StorageClassSeen, VolumeSeen};
use crate::build::{labels, names};
use crate::crd::{Bootstrap, CoordCluster, quantity};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, Client, Error, ResourceExt};
use std::collections::BTreeMap;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// Reads all objects of `cluster`.
pub(super) async fn read(client: &Client, cluster: &CoordCluster) -> Result<Observed, Error> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let list = ListParams::default().labels(&labels::selector_text(&name));
    let sets: Api<StatefulSet> = Api::namespaced(client.clone(), &namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let volumes: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &namespace);
    let (sets, pods, volumes, storage_class) = futures::join!(
        sets.list(&list),
        pods.list(&list),
        volumes.list(&list),
        storage_class(client, cluster)
    );
    let uid = cluster.uid().unwrap_or_default();
    let mut observed = Observed {
        record: record(cluster),
        storage_class: storage_class?,
        ..Observed::default()
    };
    for set in sets? {
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
        observed.sets.insert(n, set_seen(&set));
    }
    for pod in pods? {
        let Some(n) = names::ordinal_of_pod(&name, &pod.name_any()) else {
            continue;
        };
        observed.pods.insert(n, pod_seen(&pod));
    }
    for volume in volumes? {
        let Some(n) = names::ordinal_of_volume(&name, &volume.name_any()) else {
            continue;
        };
        observed.volumes.insert(n, volume_seen(&volume, &uid));
    }
    Ok(observed)
}

fn record(cluster: &CoordCluster) -> Record {
    let status = cluster.status.as_ref();
    Record {
        cluster_id: status.and_then(|s| s.cluster_id.as_deref()).and_then(id),
        bootstrap: status.and_then(|s| s.bootstrap.clone()),
        server_image: status.and_then(|s| s.server_image.clone()),
    }
}

fn id(hexadecimal: &str) -> Option<u64> {
    u64::from_str_radix(hexadecimal, 16).ok()
}

fn annotation<'a>(annotations: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    annotations.get(key).map(String::as_str)
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
        mode: match annotation(set.annotations(), labels::START_MODE) {
            Some(labels::SEED) => StartMode::Seed,
            _ => StartMode::Join,
        },
        template_hash: annotation(set.annotations(), labels::TEMPLATE_HASH)
            .unwrap_or_default()
            .to_owned(),
        image: containers
            .and_then(|c| c.first()?.image.clone())
            .unwrap_or_default(),
        deleting: set.metadata.deletion_timestamp.is_some(),
    }
}

fn pod_seen(pod: &Pod) -> PodSeen {
    let status = pod.status.as_ref();
    let container = status.and_then(|s| s.container_statuses.as_ref()?.first());
    let state = container.and_then(|c| c.state.as_ref());
    PodSeen {
        uid: pod.uid().unwrap_or_default(),
        resource_version: pod.resource_version().unwrap_or_default(),
        ip: status.and_then(|s| s.pod_ip.clone()),
        node: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
        running: state.is_some_and(|s| s.running.is_some()),
        // Not the container's own word: of a node that is lost that stays as it was, and only this turns.
        ready: is_ready(pod),
        deleting_since: pod
            .metadata
            .deletion_timestamp
            .as_ref()
            .map(|t| t.0.as_second()),
        template_hash: annotation(pod.annotations(), labels::TEMPLATE_HASH)
            .unwrap_or_default()
            .to_owned(),
        labelled_voter: pod.labels().get(labels::ROLE).map(String::as_str) == Some(labels::VOTER),
        trouble: trouble(pod),
    }
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Why a pod does not run: the kubelet's word, else the scheduler's.
fn trouble(pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let state = status
        .container_statuses
        .as_ref()
        .and_then(|c| c.first()?.state.as_ref());
    if let Some(waiting) = state.and_then(|s| s.waiting.as_ref()) {
        let reason = waiting.reason.clone().unwrap_or_default();
        // Every container waits in these two states for a moment; they are no trouble.
        if !matches!(reason.as_str(), "ContainerCreating" | "PodInitializing") {
            return Some(match &waiting.message {
                Some(message) => format!("{reason}: {message}"),
                None => reason,
            });
        }
    }
    if let Some(ended) = state.and_then(|s| s.terminated.as_ref()) {
        return Some(format!(
            "its server ended with exit code {}",
            ended.exit_code
        ));
    }
    let scheduled = status
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")?;
    let message = scheduled.message.clone().unwrap_or_default();
    Some(format!(
        "{}: {message}",
        scheduled.reason.clone().unwrap_or_default()
    ))
}

fn volume_seen(volume: &PersistentVolumeClaim, owner: &str) -> VolumeSeen {
    let annotations = volume.annotations();
    let requests = volume
        .spec
        .as_ref()
        .and_then(|s| s.resources.as_ref()?.requests.as_ref());
    let bootstrap =
        annotation(annotations, labels::TOKEN).zip(annotation(annotations, labels::BOOTSTRAP_SEED));
    VolumeSeen {
        uid: volume.uid().unwrap_or_default(),
        resource_version: volume.resource_version().unwrap_or_default(),
        cluster_id: annotation(annotations, labels::CLUSTER_ID).and_then(id),
        member_id: annotation(annotations, labels::MEMBER_ID).and_then(id),
        bootstrap: bootstrap.and_then(|(token, seed)| {
            Some(Bootstrap {
                token: token.to_owned(),
                seed: seed.parse().ok()?,
            })
        }),
        requested_bytes: requests
            .and_then(|r| quantity::parse(&r.get("storage")?.0))
            .unwrap_or(0),
        volume_name: volume.spec.as_ref().and_then(|s| s.volume_name.clone()),
        home: None,
        lost: volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost"),
        deleting: volume.metadata.deletion_timestamp.is_some(),
        owned: volume.owner_references().iter().any(|o| o.uid == owner),
    }
}

/// The class that new disks get. Who may not read classes finds out from the disks.
async fn storage_class(client: &Client, cluster: &CoordCluster) -> Result<StorageClassSeen, Error> {
    let classes: Api<StorageClass> = Api::all(client.clone());
    let found = |class: &StorageClass| StorageClassSeen::Found {
        expands: class.allow_volume_expansion == Some(true),
    };
    let seen = match &cluster.spec.storage.storage_class_name {
        Some(name) => classes
            .get_opt(name)
            .await
            .map(|c| c.as_ref().map_or(StorageClassSeen::Missing, found)),
        // Without a default class a claim may still be bound to a volume that was made by hand.
        None => classes.list(&ListParams::default()).await.map(|classes| {
            let default = classes
                .iter()
                .find(|c| annotation(c.annotations(), DEFAULT_CLASS) == Some("true"));
            default.map_or(StorageClassSeen::Unknown, found)
        }),
    };
    match seen {
        Ok(seen) => Ok(seen),
        Err(Error::Api(status)) if status.is_forbidden() => Ok(StorageClassSeen::Unknown),
        Err(error) => Err(error),
    }
}
