//! The one node that a disk is tied to, whether Kubernetes still has that node, and which others would do.
//!
//! The node that a volume is tied to never changes and is asked once. Nodes are asked for only where a pod is not ready
//! or disks share a node: in a healthy cluster this costs nothing.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, PersistentVolume};
use kube::api::ListParams;
use kube::{Api, Client, Error, ResourceExt};
use serde::Serialize;

use super::{BoundNode, Memory, NodeState, Observed};
use crate::crd::Scheduling;
use crate::model::Ordinal;

/// Nodes that are looked through for a free one.
const NODES_MAX: u32 = 500;
const HOSTNAME: &str = "kubernetes.io/hostname";

/// The node affinity of a volume, if it names exactly one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) enum NodeAffinity {
    Hostname(String),
    Name(String),
}

impl NodeAffinity {
    fn node(&self) -> &str {
        match self {
            Self::Hostname(name) | Self::Name(name) => name,
        }
    }
}

/// Fills in where disks can be used, and which nodes are free if some share one.
pub(super) async fn find(
    client: &Client,
    memory: &mut Memory,
    scheduling: &Scheduling,
    observed: &mut Observed,
) -> Result<(), Error> {
    let bound: Vec<(Ordinal, String)> = observed
        .volumes
        .iter()
        .filter_map(|(n, volume)| Some((*n, volume.volume_name.clone()?)))
        .collect();
    for (n, name) in bound {
        let affinity = match memory.affinity(&name) {
            Some(affinity) => affinity,
            None => {
                let Some(affinity) = allowed(affinity_of(client, &name).await)? else {
                    continue;
                };
                memory.remember_affinity(&name, affinity.clone());
                affinity
            }
        };
        let Some(affinity) = affinity else { continue };
        let is_ready = observed.pods.get(&n).is_some_and(|pod| pod.ready);
        let home = match is_ready {
            true => None,
            false => allowed(home(client, &affinity).await)?,
        };
        if let Some(volume) = observed.volumes.get_mut(&n) {
            volume.tied_to = Some(affinity.node().to_owned());
            volume.home = home;
        }
    }
    if !observed
        .shared_nodes(observed.volumes.keys().copied())
        .is_empty()
    {
        observed.free_nodes =
            allowed(free(client, scheduling, observed).await)?.unwrap_or_default();
    }
    Ok(())
}

/// The nodes that would take another member and hold none. None where the spec says by more than labels where members
/// may run: only the scheduler can tell then.
async fn free(
    client: &Client,
    scheduling: &Scheduling,
    observed: &Observed,
) -> Result<BTreeSet<String>, Error> {
    let is_simple = scheduling.affinity.is_none();
    if !is_simple || !scheduling.topology_spread_constraints.is_empty() {
        return Ok(BTreeSet::new());
    }
    let nodes: Api<Node> = Api::all(client.clone());
    let nodes = nodes.list(&ListParams::default().limit(NODES_MAX)).await?;
    let takes = nodes.iter().filter(|node| takes_members(node, scheduling));
    let names = takes.map(|node| {
        let hostname = node.labels().get(HOSTNAME).cloned();
        hostname.unwrap_or_else(|| node.name_any())
    });
    let is_held = |name: &String| {
        let mut volumes = observed.volumes.values();
        volumes.any(|volume| volume.tied_to.as_ref() == Some(name))
    };
    Ok(names.filter(|name| !is_held(name)).collect())
}

/// True if nothing that is known of the node keeps members off. A taint counts even if it is tolerated.
fn takes_members(node: &Node, scheduling: &Scheduling) -> bool {
    let labels = node.labels();
    let is_selected = scheduling
        .node_selector
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value));
    let spec = node.spec.as_ref();
    let is_cordoned = spec.is_some_and(|spec| spec.unschedulable == Some(true));
    let mut taints = spec.and_then(|s| s.taints.as_ref()).into_iter().flatten();
    let is_tainted = taints.any(|taint| taint.effect != "PreferNoSchedule");
    is_selected && is_ready(node) && !is_cordoned && !is_tainted
}

/// An operator that may not read nodes or volumes knows of no affinities.
fn allowed<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Error::Api(status)) if status.is_forbidden() || status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn affinity_of(client: &Client, name: &str) -> Result<Option<NodeAffinity>, Error> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    Ok(affinity(&volumes.get(name).await?))
}

/// Some only if exactly one node will do.
fn affinity(volume: &PersistentVolume) -> Option<NodeAffinity> {
    let terms = &volume
        .spec
        .as_ref()?
        .node_affinity
        .as_ref()?
        .required
        .as_ref()?
        .node_selector_terms;
    let [term] = terms.as_slice() else {
        return None;
    };
    let one = |requirements: &Option<Vec<NodeSelectorRequirement>>, key: &str| {
        let found = requirements.iter().flatten().find(|r| r.key == key)?;
        match (found.operator.as_str(), found.values.as_deref()) {
            ("In", Some([only])) => Some(only.clone()),
            _ => None,
        }
    };
    one(&term.match_expressions, HOSTNAME)
        .map(NodeAffinity::Hostname)
        .or_else(|| one(&term.match_fields, "metadata.name").map(NodeAffinity::Name))
}

async fn home(client: &Client, affinity: &NodeAffinity) -> Result<BoundNode, Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let (name, list) = match affinity {
        NodeAffinity::Hostname(name) => (
            name,
            ListParams::default().labels(&format!("{HOSTNAME}={name}")),
        ),
        NodeAffinity::Name(name) => (
            name,
            ListParams::default().fields(&format!("metadata.name={name}")),
        ),
    };
    let found = nodes.list(&list).await?;
    Ok(match found.items.first() {
        None => BoundNode {
            node: name.clone(),
            state: NodeState::Gone,
        },
        Some(node) => BoundNode {
            node: node.name_any(),
            state: if is_ready(node) {
                NodeState::Ready
            } else {
                NodeState::NotReady
            },
        },
    })
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::{NodeAffinity, affinity, takes_members};
    use crate::crd::Scheduling;
    use k8s_openapi::api::core::v1::{Node, PersistentVolume};
    use serde_json::json;

    fn volume(terms: serde_json::Value) -> PersistentVolume {
        serde_json::from_value(json!({
            "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": terms } } }
        }))
        .expect("a volume")
    }

    #[test]
    fn a_node_takes_members_if_it_is_ready_open_and_selected() {
        let node = |ready: &str, spec: serde_json::Value| -> Node {
            serde_json::from_value(json!({
                "metadata": { "labels": { "disk": "ssd" } },
                "spec": spec,
                "status": { "conditions": [{ "type": "Ready", "status": ready }] },
            }))
            .expect("a node")
        };
        let selects = |value: &str| Scheduling {
            node_selector: [("disk".to_owned(), value.to_owned())].into(),
            ..Scheduling::default()
        };
        let taint = |effect: &str| json!({ "taints": [{ "key": "k", "effect": effect }] });
        assert!(takes_members(&node("True", json!({})), &selects("ssd")));
        assert!(takes_members(
            &node("True", taint("PreferNoSchedule")),
            &selects("ssd")
        ));
        assert!(!takes_members(&node("True", json!({})), &selects("hdd")));
        assert!(!takes_members(&node("Unknown", json!({})), &selects("ssd")));
        assert!(!takes_members(
            &node("True", json!({ "unschedulable": true })),
            &selects("ssd")
        ));
        assert!(!takes_members(
            &node("True", taint("NoSchedule")),
            &selects("ssd")
        ));
        assert!(!takes_members(
            &node("True", taint("NoExecute")),
            &selects("ssd")
        ));
    }

    #[test]
    fn a_disk_is_tied_only_if_exactly_one_node_will_do() {
        let on = |key: &str, values: serde_json::Value| json!({ "key": key, "operator": "In", "values": values });
        let local =
            volume(json!([{ "matchExpressions": [on("kubernetes.io/hostname", json!(["n1"]))] }]));
        assert_eq!(
            affinity(&local),
            Some(NodeAffinity::Hostname("n1".to_owned()))
        );
        let by_name = volume(json!([{ "matchFields": [on("metadata.name", json!(["n1"]))] }]));
        assert_eq!(
            affinity(&by_name),
            Some(NodeAffinity::Name("n1".to_owned()))
        );
        let zonal = volume(
            json!([{ "matchExpressions": [on("topology.kubernetes.io/zone", json!(["a"]))] }]),
        );
        assert_eq!(affinity(&zonal), None);
        let two = volume(
            json!([{ "matchExpressions": [on("kubernetes.io/hostname", json!(["n1", "n2"]))] }]),
        );
        assert_eq!(affinity(&two), None);
        let either = volume(json!([
            { "matchExpressions": [on("kubernetes.io/hostname", json!(["n1"]))] },
            { "matchExpressions": [on("kubernetes.io/hostname", json!(["n2"]))] },
        ]));
        assert_eq!(affinity(&either), None);
        assert_eq!(affinity(&PersistentVolume::default()), None);
    }
}
