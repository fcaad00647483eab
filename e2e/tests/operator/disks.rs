//! The folders behind members' claims on this host: emptied, exchanged, copied.

#![allow(dead_code, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use coord_e2e::local_kubernetes::Node;
use serde_json::Value;

use crate::trial::Trial;

/// A PersistentVolumeClaim of the trial as it is now.
pub(crate) async fn claim(trial: &Trial, member: &str) -> Result<Value> {
    let line = format!("get pvc data-{member}-0 --output=json");
    Ok(serde_json::from_str(&trial.kubectl(&line).await?)?)
}

/// The PersistentVolume behind a member's claim.
pub(crate) async fn volume(trial: &Trial, member: &str) -> Result<Value> {
    let claim = claim(trial, member).await?;
    let name = claim["spec"]["volumeName"].as_str().context("bound")?;
    let line = format!("kubectl get pv {name} --output=json");
    Ok(serde_json::from_str(&trial.kubernetes.run(line).await?)?)
}

/// The folder of a PersistentVolume on this host.
pub(crate) fn folder_of(volume: &Value) -> Result<PathBuf> {
    let paths = ["/spec/local/path", "/spec/hostPath/path"];
    let path = paths.iter().find_map(|path| volume.pointer(path));
    let path = path.and_then(Value::as_str).context("a local volume")?;
    Ok(PathBuf::from(path))
}

/// The folder on this host that is behind a member's claim.
pub(crate) async fn folder(trial: &Trial, member: &str) -> Result<PathBuf> {
    folder_of(&volume(trial, member).await?)
}

/// Removes the contents of `folder`.
pub(crate) fn empty(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder)? {
        std::fs::remove_dir_all(entry?.path())?;
    }
    Ok(())
}

/// Copies a folder with all that is in it. Of one that is being written to it is no consistent copy.
pub(crate) fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = std::process::Command::new("cp")
        .args(["--archive", "--no-target-directory"])
        .args([from, to])
        .status()?;
    ensure!(copied.success(), "copy {}: {copied}", from.display());
    Ok(())
}

/// The node that a member's pod runs on.
pub(crate) async fn node_of(trial: &Trial, member: &str) -> Result<String> {
    let line = format!("get pod {member}-0 --output=jsonpath={{.spec.nodeName}}");
    Ok(trial.kubectl(&line).await?.trim().to_owned())
}

/// The node of `member` loses power, something is done to its folder, and the node comes back: the same pod's container
/// starts again in place.
pub(crate) async fn exchange(
    trial: &Trial,
    member: &str,
    act: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let (node, folder) = (node_of(trial, member).await?, folder(trial, member).await?);
    trial.kubernetes.with_node(&node, Node::kill).await?;
    act(&folder)?;
    trial.kubernetes.with_node(&node, Node::start).await
}

/// The number of keys that a member itself returns to a serializable read of everything; `None` if it does not serve.
pub(crate) async fn keys_at(trial: &Trial, member: &str) -> Option<usize> {
    let pod = format!("{member}-0");
    let url = trial.kubernetes.member_url(&trial.namespace, &pod).await;
    let words = "get --prefix --keys-only --consistency=s run --command-timeout=2s";
    let said = trial.kubernetes.etcdctl(&url.ok()?, words).await.ok()?;
    Some(said.lines().filter(|line| !line.is_empty()).count())
}
