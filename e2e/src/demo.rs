//! The demonstration of `make up`: Kubernetes, the operator, a cluster of three members, a write and a read, and
//! lines to try next.
//!
//! Runs on the local Kubernetes, or on the one that `KUBECONFIG` names. Every step asks what is there first: a second
//! run changes nothing.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::local_kubernetes::Instance;
use crate::local_kubernetes::run::{run, tail};
use crate::local_kubernetes::steps::{Notes, Outcome, Steps, wait_until};
use crate::local_kubernetes::tools::workspace;
use crate::site::Site;

/// The cluster of the example, in namespace `default`.
const CLUSTER: &str = "demo";

/// The instance that `make` means if it is not told otherwise.
pub const DEFAULT_INSTANCE: &str = "coord";

/// Brings everything up with binaries of cargo's `profile`, and prints the steps and what to try next.
pub fn up(instance: Instance, profile: &str) -> Result<()> {
    let mut steps = Steps::new(Site::steps(&instance)? + 2);
    let site = Site::open(instance, &mut steps)?;
    let images = site.load_images(profile, &mut steps)?;
    site.install_operator(&images, &mut steps)?;
    let image = &images.server.reference;
    steps.step("cluster demo", |notes| create_cluster(&site, image, notes))?;
    steps.step("write and read", |notes| write_and_read(&site, notes))?;
    let changed = match steps.changed() {
        0 => "nothing had to change".to_owned(),
        1 => "one step had something to do".to_owned(),
        changed => format!("{changed} steps had something to do"),
    };
    eprintln!(
        "\nReady after {} s; {changed}.\n",
        steps.elapsed().as_secs()
    );
    println!("{}", next(&site)?);
    Ok(())
}

/// The example, with the server that was just built: a cluster that runs another is rolled to it, member by member.
fn create_cluster(site: &Site, image: &str, notes: &mut Notes) -> Result<Outcome> {
    let example = workspace().join("docs/examples/cluster.yaml");
    let patch = json!({"spec": {"image": image}}).to_string();
    let manifest = run(site
        .program("kubectl")?
        .args(["patch", "--local", "--type=merge", "--output=json"])
        .args(["--patch", &patch, "--filename"])
        .arg(&example))?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("cluster.json");
    std::fs::write(&file, manifest)?;
    let applied = run(site
        .program("kubectl")?
        .args(["apply", "--filename"])
        .arg(&file))?;
    let changed = applied.lines().any(|line| !line.ends_with("unchanged"));
    wait_until(notes, Duration::from_secs(300), || {
        let line = format!("kubectl get coordcluster {CLUSTER} --namespace=default --output=json");
        let text = site
            .run(&line)
            .map_err(|error| tail(&error.to_string(), 1))?;
        let cluster: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        is_ready(&cluster)
    })?;
    Ok(Outcome::of(
        changed,
        format!("CoordCluster {CLUSTER} is Ready"),
    ))
}

/// Ready for its current spec, or what its status says instead.
pub(crate) fn is_ready(cluster: &Value) -> Result<(), String> {
    let status = &cluster["status"];
    let conditions = status["conditions"].as_array();
    let ready =
        conditions.and_then(|all| all.iter().find(|condition| condition["type"] == "Ready"));
    let Some(ready) = ready else {
        return Err("the operator has not looked at it yet".into());
    };
    let is_current = status["observedGeneration"] == cluster["metadata"]["generation"];
    if ready["status"] == "True" && is_current {
        return Ok(());
    }
    let healthy = status["healthyReplicas"].as_i64().unwrap_or(0);
    let wanted = cluster["spec"]["replicas"].as_i64().unwrap_or(3);
    let message = ready["message"].as_str().unwrap_or("not Ready");
    Err(format!("{healthy} of {wanted} members: {message}"))
}

/// Through etcd's own client.
fn write_and_read(site: &Site, notes: &mut Notes) -> Result<Outcome> {
    const KEY: &str = "hello";
    const VALUE: &str = "world";
    let endpoint = site.reach("default", &format!("{CLUSTER}-client"), 2379)?;
    let etcdctl = |words: &str| {
        let endpoints = ["--endpoints", &endpoint.url()];
        run(site
            .program("etcdctl")?
            .args(endpoints)
            .args(words.split(' ')))
    };
    let mut value = String::new();
    // The proxies may hear of the ready pods a moment later than the operator.
    wait_until(notes, Duration::from_secs(60), || {
        let read = etcdctl(&format!("get {KEY} --print-value-only"));
        value = read.map_err(|error| tail(&error.to_string(), 1))?;
        Ok(())
    })?;
    let is_written = value.trim() == VALUE;
    if !is_written {
        etcdctl(&format!("put {KEY} {VALUE}"))?;
        value = etcdctl(&format!("get {KEY} --print-value-only"))?;
    }
    if value.trim() != VALUE {
        bail!("etcdctl put {KEY} {VALUE}, and then read {value:?}");
    }
    Ok(Outcome::of(
        !is_written,
        format!("etcdctl get {KEY} says {VALUE}"),
    ))
}

/// Lines to copy into a shell, in this order.
fn next(site: &Site) -> Result<String> {
    let mut lines = vec!["Try next:".to_owned()];
    if let Some(instance) = site.local() {
        let endpoint = site.reach("default", &format!("{CLUSTER}-client"), 2379)?;
        lines.push(format!(
            "  export KUBECONFIG={}",
            instance.kubeconfig().display()
        ));
        lines.push(format!(
            "  export PATH={}:$PATH",
            instance.layout().bin().display()
        ));
        lines.push(format!("  export ETCDCTL_ENDPOINTS={}", endpoint.url()));
    } else {
        lines.push(format!(
            "  kubectl port-forward service/{CLUSTER}-client 2379 &"
        ));
    }
    lines.push("  kubectl get coordclusters".to_owned());
    lines.push("  etcdctl put greeting hello && etcdctl get greeting".to_owned());
    lines.push(format!(
        "  kubectl scale coordcluster {CLUSTER} --replicas=5"
    ));
    lines.push(format!(
        "  kubectl wait coordcluster {CLUSTER} --for=condition=Ready --timeout=120s"
    ));
    lines.push(format!("  kubectl delete pod {CLUSTER}-0-0"));
    lines.push("  kubectl get pods --output=wide".to_owned());
    if let Some(instance) = site.local() {
        let name = instance.layout().name.to_string();
        let which = if name == DEFAULT_INSTANCE {
            String::new()
        } else {
            format!(" INSTANCE={name}")
        };
        lines.push(format!("  make status{which}"));
        lines.push(format!("  make down{which}"));
    }
    Ok(lines.join("\n"))
}
