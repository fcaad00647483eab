//! The one node that a disk is tied to, and whether Kubernetes still has that node.
//!
//! Asked only for members whose pod is not ready: in a healthy cluster it costs nothing.

use super::{Home, HomeState, Memory, Observed};
use crate::model::Ordinal;
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, PersistentVolume};
use kube::api::ListParams;
use kube::{Api, Client, Error, ResourceExt};
use serde::Serialize;

const HOSTNAME: &str = "kubernetes.io/hostname";

/// What a volume's node affinity says, if it names exactly one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) enum Tie {
    Hostname(String),
    Name(String),
}

/// Fills in where the disks of members without a ready pod can be used.
pub(super) async fn find(
    client: &Client,
    memory: &mut Memory,
    observed: &mut Observed,
) -> Result<(), Error> {
    let absent: Vec<(Ordinal, String)> = observed
        .volumes
        .iter()
        .filter(|(n, _)| !observed.pods.get(n).is_some_and(|pod| pod.ready))
        .filter_map(|(n, volume)| Some((*n, volume.volume_name.clone()?)))
        .collect();
    for (n, name) in absent {
        let tie = match memory.tie(&name) {
            Some(tie) => tie,
            None => {
                let Some(tie) = allowed(tie_of(client, &name).await)? else {
                    continue;
                };
                memory.remember_tie(&name, tie.clone());
                tie
            }
        };
        let Some(tie) = tie else { continue };
        let home = allowed(home(client, &tie).await)?;
        if let Some(volume) = observed.volumes.get_mut(&n) {
            volume.home = home;
        }
    }
    Ok(())
}

/// An operator that may not read nodes or volumes knows of no ties.
fn allowed<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(value) => Ok(Some(value)),
        Err(Error::Api(status)) if status.is_forbidden() || status.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn tie_of(client: &Client, name: &str) -> Result<Option<Tie>, Error> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    Ok(tie(&volumes.get(name).await?))
}

/// Some only if exactly one node will do.
fn tie(volume: &PersistentVolume) -> Option<Tie> {
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
        .map(Tie::Hostname)
        .or_else(|| one(&term.match_fields, "metadata.name").map(Tie::Name))
}

async fn home(client: &Client, tie: &Tie) -> Result<Home, Error> {
    let nodes: Api<Node> = Api::all(client.clone());
    let (name, list) = match tie {
        Tie::Hostname(name) => (
            name,
            ListParams::default().labels(&format!("{HOSTNAME}={name}")),
        ),
        Tie::Name(name) => (
            name,
            ListParams::default().fields(&format!("metadata.name={name}")),
        ),
    };
    let found = nodes.list(&list).await?;
    Ok(match found.items.first() {
        None => Home {
            node: name.clone(),
            state: HomeState::Gone,
        },
        Some(node) => Home {
            node: node.name_any(),
            state: if is_ready(node) {
                HomeState::Ready
            } else {
                HomeState::NotReady
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
    use super::{Tie, tie};
    use k8s_openapi::api::core::v1::PersistentVolume;
    use serde_json::json;

    fn volume(terms: serde_json::Value) -> PersistentVolume {
        serde_json::from_value(json!({
            "spec": { "nodeAffinity": { "required": { "nodeSelectorTerms": terms } } }
        }))
        .expect("a volume")
    }

    #[test]
    fn a_disk_is_tied_only_if_exactly_one_node_will_do() {
        let on = |key: &str, values: serde_json::Value| json!({ "key": key, "operator": "In", "values": values });
        let local =
            volume(json!([{ "matchExpressions": [on("kubernetes.io/hostname", json!(["n1"]))] }]));
        assert_eq!(tie(&local), Some(Tie::Hostname("n1".to_owned())));
        let by_name = volume(json!([{ "matchFields": [on("metadata.name", json!(["n1"]))] }]));
        assert_eq!(tie(&by_name), Some(Tie::Name("n1".to_owned())));
        let zonal = volume(
            json!([{ "matchExpressions": [on("topology.kubernetes.io/zone", json!(["a"]))] }]),
        );
        assert_eq!(tie(&zonal), None);
        let two = volume(
            json!([{ "matchExpressions": [on("kubernetes.io/hostname", json!(["n1", "n2"]))] }]),
        );
        assert_eq!(tie(&two), None);
        let either = volume(json!([
            { "matchExpressions": [on("kubernetes.io/hostname", json!(["n1"]))] },
            { "matchExpressions": [on("kubernetes.io/hostname", json!(["n2"]))] },
        ]));
        assert_eq!(tie(&either), None);
        assert_eq!(tie(&PersistentVolume::default()), None);
    }
}
