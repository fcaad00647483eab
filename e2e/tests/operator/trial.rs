//! One cluster under trial: its namespace, its operator process, a writer, and what must hold of it at the end.

#![allow(dead_code, reason = "each test program uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_e2e::cluster::kubernetes::Kubernetes;
use coord_e2e::cluster::operator::{Operator, Operators};
use serde_json::{Value, json};

use crate::writer::Writer;

/// Several tests run beside each other on two cores.
pub(crate) const READY: Duration = Duration::from_secs(300);
/// The CoordCluster of every trial: the same name, so that end states can be compared.
pub(crate) const NAME: &str = "trial";

/// A cluster, and everything a test needs to break it.
pub(crate) struct Trial {
    pub(crate) kubernetes: Kubernetes,
    pub(crate) namespace: String,
    pub(crate) operators: Operators,
}

/// Held by a test that breaks or measures something that all share.
pub(crate) async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static KUBERNETES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    KUBERNETES.lock().await
}

pub(crate) fn spec(replicas: i32) -> Value {
    json!({"replicas": replicas, "storage": {"size": "64Mi"}})
}

/// Three members, and something more.
pub(crate) fn with(field: &str, value: Value) -> Value {
    let mut spec = spec(3);
    spec[field] = value;
    spec
}

impl Trial {
    /// A namespace whose name begins with `prefix`, and no cluster yet.
    pub(crate) async fn new(prefix: &str) -> Result<Self> {
        let kubernetes = Kubernetes::without_operator().await?;
        let namespace = kubernetes.new_namespace(prefix).await?;
        let operators = kubernetes.operators(&namespace).await?;
        Ok(Self {
            kubernetes,
            namespace,
            operators,
        })
    }

    /// As [`Trial::new`], with a cluster that is Ready, its operator and a writer.
    pub(crate) async fn running(prefix: &str, spec: Value) -> Result<(Self, Operator, Writer)> {
        let trial = Self::new(prefix).await?;
        let operator = trial.operators.start("operator", &[])?;
        trial.apply(&spec).await?;
        trial.ready().await?;
        let writer = trial.writer(prefix).await?;
        Ok((trial, operator, writer))
    }

    pub(crate) async fn apply(&self, spec: &Value) -> Result<()> {
        self.kubernetes.apply(&self.namespace, NAME, spec).await?;
        Ok(())
    }

    pub(crate) async fn scale(&self, replicas: i32) -> Result<()> {
        self.kubernetes.scale(&self.namespace, NAME, replicas).await
    }

    pub(crate) async fn get(&self) -> Result<Value> {
        self.kubernetes.get(&self.namespace, NAME).await
    }

    pub(crate) async fn writer(&self, prefix: &str) -> Result<Writer> {
        let endpoint = self.kubernetes.endpoint(&self.namespace, NAME).await?;
        Ok(Writer::start(endpoint.url(), prefix))
    }

    pub(crate) async fn kubectl(&self, words: &str) -> Result<String> {
        let line = format!("kubectl {words} --namespace={}", self.namespace);
        self.kubernetes.run(line).await
    }

    /// Waits until the cluster is Ready for its spec, with nothing left to do.
    pub(crate) async fn ready(&self) -> Result<Value> {
        self.until(is_at_rest).await
    }

    /// Waits until the member `lost`, a row of the status, was replaced by another and nothing is left to do.
    pub(crate) async fn until_replaced(&self, lost: &Value) -> Result<Value> {
        self.until(|cluster| {
            if members(cluster).values().any(|id| lost["id"] == json!(id)) {
                return Err("the lost member is still there".to_owned());
            }
            is_at_rest(cluster)
        })
        .await
    }

    /// Waits until the CoordCluster is as `wanted` says; it returns what is missing.
    pub(crate) async fn until(
        &self,
        wanted: impl Fn(&Value) -> Result<(), String>,
    ) -> Result<Value> {
        self.kubernetes
            .wait_for(&self.namespace, READY, || async {
                Ok(wanted(&self.get().await?))
            })
            .await?;
        self.get().await
    }

    /// The end of every trial: no acknowledged write is lost, and there was one bootstrap.
    pub(crate) async fn finish(&self, writer: Writer, min: usize) -> Result<()> {
        let written = writer.finish(min).await?;
        eprintln!(
            "{}: {written} acknowledged writes, all there",
            self.namespace
        );
        self.is_one_cluster().await?;
        self.end().await
    }

    /// Gives the namespace and all in it back.
    pub(crate) async fn end(&self) -> Result<()> {
        self.kubernetes.delete_namespace(&self.namespace).await
    }

    /// Waits until the message of a condition holds all of `words`; returns how long that took.
    pub(crate) async fn until_told(&self, kind: &str, words: &[&str]) -> Result<Duration> {
        let began = tokio::time::Instant::now();
        self.until(|cluster| {
            let (_, reason, message) = condition(cluster, kind);
            let is_told = words.iter().all(|w| message.contains(w) || reason == **w);
            is_told
                .then_some(())
                .ok_or_else(|| format!("{kind}: {reason}: {message}"))
        })
        .await?;
        Ok(began.elapsed())
    }

    /// Waits until what kubectl says to `words` is as `wanted`.
    pub(crate) async fn until_kubectl(
        &self,
        words: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<()> {
        self.kubernetes
            .wait_for(&self.namespace, READY, || async {
                let said = self.kubectl(words).await?;
                Ok(if wanted(&said) { Ok(()) } else { Err(said) })
            })
            .await
    }

    /// The recorded cluster is the one that the disks and every member say they belong to.
    pub(crate) async fn is_one_cluster(&self) -> Result<()> {
        let cluster = self.get().await?;
        let recorded = cluster["status"]["clusterId"]
            .as_str()
            .context("a recorded cluster")?;
        let claims: Value = serde_json::from_str(&self.kubectl("get pvc --output=json").await?)?;
        for claim in claims["items"].as_array().context("a list")? {
            let annotations = &claim["metadata"]["annotations"];
            ensure!(
                annotations["coord.dev/cluster-id"] == recorded,
                "a disk of another cluster: {claim}"
            );
        }
        let pods = members(&cluster)
            .into_keys()
            .map(|name| format!("{name}-0"));
        for pod in pods {
            let url = self.kubernetes.member_url(&self.namespace, &pod).await?;
            let said = self
                .kubernetes
                .etcdctl(&url, "endpoint status --write-out=json")
                .await?;
            let said: Value = serde_json::from_str(&said)?;
            let id = said[0]["Status"]["header"]["cluster_id"]
                .as_u64()
                .context("a cluster id")?;
            ensure!(
                format!("{id:x}") == recorded,
                "{pod} is of cluster {id:x}, not {recorded}"
            );
        }
        Ok(())
    }
}

/// Names and ids of the members.
pub(crate) fn members(cluster: &Value) -> BTreeMap<String, String> {
    let rows = cluster["status"]["members"].as_array();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.into_iter()
        .flatten()
        .map(|row| (text(row, "name"), text(row, "id")))
        .collect()
}

/// The row of the leader.
pub(crate) fn leader(cluster: &Value) -> Result<Value> {
    let rows = cluster["status"]["members"].as_array();
    let mut rows = rows.into_iter().flatten();
    rows.find(|row| row["role"] == "leader")
        .cloned()
        .context("a leader")
}

/// The condition of that type: whether it holds, its reason and its message.
pub(crate) fn condition(cluster: &Value, kind: &str) -> (bool, String, String) {
    let all = cluster["status"]["conditions"].as_array();
    let found = all
        .into_iter()
        .flatten()
        .find(|c| c["type"] == kind)
        .cloned()
        .unwrap_or_default();
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    (found["status"] == "True", text("reason"), text("message"))
}

/// Ready for the spec of now, with as many members as wanted and nothing going on.
pub(crate) fn is_at_rest(cluster: &Value) -> Result<(), String> {
    let status = &cluster["status"];
    let wanted = &cluster["spec"]["replicas"];
    let is_current = status["observedGeneration"] == cluster["metadata"]["generation"];
    let count = status["members"].as_array().map_or(0, Vec::len);
    let (is_ready, _, message) = condition(cluster, "Ready");
    let (is_busy, _, doing) = condition(cluster, "Progressing");
    let is_full = status["healthyReplicas"] == *wanted && json!(count) == *wanted;
    if is_current && is_ready && !is_busy && is_full {
        return Ok(());
    }
    Err(format!("{count} members of {wanted}; {message}; {doing}"))
}

/// Every object of the cluster, with what differs from run to run masked: uids, times, ids, addresses, the namespace.
pub(crate) async fn masked_state(trial: &Trial) -> Result<Value> {
    let cluster = trial.get().await?;
    let mut words = vec![(trial.namespace.clone(), "NAMESPACE".to_owned())];
    let status = &cluster["status"];
    for (path, mask) in [("/clusterId", "CLUSTER"), ("/bootstrap/token", "TOKEN")] {
        let word = status
            .pointer(path)
            .and_then(Value::as_str)
            .context("a recorded cluster")?;
        words.push((word.to_owned(), mask.to_owned()));
    }
    for (name, id) in members(&cluster) {
        words.push((id, format!("ID-OF-{name}")));
    }
    let kinds =
        "statefulsets,services,poddisruptionbudgets,persistentvolumeclaims,serviceaccounts,pods";
    let line = format!("get {kinds} --selector=coord.dev/cluster={NAME} --output=json");
    let objects: Value = serde_json::from_str(&trial.kubectl(&line).await?)?;
    let mut state = BTreeMap::new();
    for object in objects["items"].as_array().context("a list")? {
        let key = format!("{} {}", object["kind"], object["metadata"]["name"]);
        let metadata = &object["metadata"];
        // Where a pod landed is the scheduler's choice, also in labels.
        let mut labels = metadata["labels"].clone();
        if let Some(labels) = labels.as_object_mut() {
            labels.retain(|name, _| !name.starts_with("topology.kubernetes.io/"));
        }
        let mut kept = json!({
            "labels": labels,
            "annotations": metadata["annotations"],
            "owned": metadata["ownerReferences"].as_array().map(Vec::len),
            "deleting": metadata["deletionTimestamp"].is_string(),
        });
        // A pod's spec is its StatefulSet's, and more of the scheduler and the kubelet.
        if object["kind"] != "Pod" {
            kept["spec"] = object["spec"].clone();
        }
        mask(&mut kept, &words);
        state.insert(key, kept);
    }
    let rows = status["members"].as_array().map_or(0, Vec::len);
    state.insert(
        "members".to_owned(),
        json!([rows, status["replicas"], status["healthyReplicas"]]),
    );
    Ok(json!(state))
}

fn mask(value: &mut Value, words: &[(String, String)]) {
    const CHANGES: [&str; 7] = [
        "clusterIP",
        "clusterIPs",
        "volumeName",
        "controller-revision-hash",
        "volume.kubernetes.io/selected-node",
        "pv.kubernetes.io/bind-completed",
        "pv.kubernetes.io/bound-by-controller",
    ];
    match value {
        Value::Object(map) => {
            map.retain(|key, _| !CHANGES.contains(&key.as_str()));
            map.values_mut().for_each(|value| mask(value, words));
        }
        Value::Array(list) => list.iter_mut().for_each(|value| mask(value, words)),
        Value::String(text) => {
            for (word, mask) in words {
                *text = text.replace(word, mask);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The differences of two states, key by key.
pub(crate) fn difference(a: &Value, b: &Value) -> String {
    let empty = serde_json::Map::new();
    let (a, b) = (
        a.as_object().unwrap_or(&empty),
        b.as_object().unwrap_or(&empty),
    );
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let differ = keys.into_iter().filter(|key| a.get(*key) != b.get(*key));
    differ
        .map(|key| format!("{key}:\n  {}\n  {}", json!(a.get(key)), json!(b.get(key))))
        .collect::<Vec<_>>()
        .join("\n")
}
