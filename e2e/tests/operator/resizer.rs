//! Small disks of a real size, one a node, and a resizer of our own: it makes them larger at once, late, never, or fails.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use coord_e2e::cluster::kubernetes::Kubernetes;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::objects::{delete, merge, put};
use crate::trial::Trial;

const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// How often the resizer looks.
const LOOK: Duration = Duration::from_millis(250);

/// The resizer's answer to a claim that asks for more than it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resizes {
    /// Nothing: as where none runs.
    Never,
    /// It says why it cannot.
    Fails,
    /// The disk is larger a moment later.
    Works,
}

/// A StorageClass named as the trial's namespace with one disk on each node. [`SmallDisks::remove`] takes all away.
pub(crate) struct SmallDisks {
    objects: Vec<Value>,
    folder: String,
    resizes: Arc<Mutex<Resizes>>,
    task: JoinHandle<()>,
}

impl SmallDisks {
    /// Disks of so many MiB, and a resizer that never does anything.
    pub(crate) async fn new(trial: &Trial, mebibytes: u64) -> Result<Self> {
        let class = trial.namespace.clone();
        let folder = format!("small-{class}");
        let mut objects = vec![json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": class},
            "provisioner": "coord.dev/by-hand", "volumeBindingMode": "WaitForFirstConsumer", "allowVolumeExpansion": true,
        })];
        for node in NODES {
            let path = on_node(&trial.kubernetes, node, &folder)?;
            let at = path.clone();
            let make = move |node: &coord_e2e::local_kubernetes::Node| {
                node.small_disk(&at, mebibytes << 20)
            };
            trial.kubernetes.with_node(node, make).await?;
            objects.push(json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": format!("{class}-{node}")},
                "spec": {
                    "accessModes": ["ReadWriteOnce"], "capacity": {"storage": format!("{mebibytes}Mi")},
                    "local": {"path": path}, "persistentVolumeReclaimPolicy": "Retain", "storageClassName": class,
                    "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                        {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]},
                    ]}]}},
                },
            }));
        }
        for object in &objects {
            put(&trial.kubernetes, object).await?;
        }
        let resizes = Arc::new(Mutex::new(Resizes::Never));
        let task = tokio::spawn(run(
            trial.kubernetes.clone(),
            trial.namespace.clone(),
            folder.clone(),
            Arc::clone(&resizes),
        ));
        Ok(Self {
            objects,
            folder,
            resizes,
            task,
        })
    }

    /// From now on the resizer does that.
    pub(crate) fn resizes(&self, how: Resizes) {
        *self.resizes.lock().unwrap_or_else(PoisonError::into_inner) = how;
    }

    /// Takes the disks away, once nobody uses them.
    pub(crate) async fn remove(self, kubernetes: &Kubernetes) -> Result<()> {
        self.task.abort();
        for object in &self.objects {
            delete(kubernetes, object).await?;
        }
        for node in NODES {
            let path = on_node(kubernetes, node, &self.folder)?;
            let remove = move |node: &coord_e2e::local_kubernetes::Node| node.remove_disk(&path);
            kubernetes.with_node(node, remove).await?;
        }
        Ok(())
    }
}

fn on_node(kubernetes: &Kubernetes, node: &str, folder: &str) -> Result<PathBuf> {
    let instance = kubernetes.site().local().context("the local Kubernetes")?;
    Ok(instance.node(node)?.volumes().join(folder))
}

async fn run(
    kubernetes: Kubernetes,
    namespace: String,
    folder: String,
    resizes: Arc<Mutex<Resizes>>,
) {
    loop {
        let how = *resizes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = look(&kubernetes, &namespace, &folder, how).await {
            eprintln!("resizer: {error:#}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn look(kubernetes: &Kubernetes, namespace: &str, folder: &str, how: Resizes) -> Result<()> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(kubernetes.client(), namespace);
    for claim in claims.list(&ListParams::default()).await? {
        let claim = serde_json::to_value(claim)?;
        let text = |path: &str| claim.pointer(path).and_then(Value::as_str);
        let wants = text("/spec/resources/requests/storage").context("a claim asks for room")?;
        let (Some(has), Some(volume)) =
            (text("/status/capacity/storage"), text("/spec/volumeName"))
        else {
            continue;
        };
        if wants == has {
            continue;
        }
        let status = match how {
            Resizes::Never => continue,
            Resizes::Fails => json!({"conditions": [{
                "type": "ControllerResizeError", "status": "True", "message": "the pool has no room left",
            }]}),
            Resizes::Works => {
                let (_, node) = volume.rsplit_once('-').context("named by its node")?;
                let path = on_node(kubernetes, node, folder)?;
                let mebibytes = wants.strip_suffix("Mi").context("in MiB")?.parse::<u64>()?;
                let grow = move |node: &coord_e2e::local_kubernetes::Node| {
                    node.grow_disk(&path, mebibytes << 20)
                };
                kubernetes.with_node(node, grow).await?;
                json!({"capacity": {"storage": wants}, "conditions": []})
            }
        };
        let object = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim["metadata"]["name"], "namespace": namespace}, "status": status,
        });
        merge(kubernetes, &object, Some("status")).await?;
    }
    Ok(())
}
