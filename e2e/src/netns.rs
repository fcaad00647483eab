//! Network namespaces and links by name, for the local Kubernetes and for clusters of processes.
//!
//! Owns the few `ip` commands behind them, each of which asks what is there first. Knows neither who lives in a namespace
//! nor how addresses are chosen. Everything here needs root.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::local_kubernetes::run::{sh, succeeds};

/// Where `ip netns` keeps the names.
const FOLDER: &str = "/run/netns";

/// The file behind a name.
#[must_use]
pub fn file(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}

/// Makes a namespace if there is none of this name. Returns true if it did.
pub fn ensure(name: &str) -> Result<bool> {
    if exists(name) {
        return Ok(false);
    }
    if file(name).exists() {
        remove(name)?;
    }
    sh(&format!("ip netns add {name}"))?;
    Ok(true)
}

/// Removes a namespace, with the links in it. A process that runs in it keeps it alive, without a name.
pub fn remove(name: &str) -> Result<()> {
    let file = file(name);
    if exists(name) {
        sh(&format!("ip netns delete {name}"))?;
    } else if file.exists() {
        // A file without a namespace behind it: ip refuses to delete it.
        fs::remove_file(&file).with_context(|| format!("remove {}", file.display()))?;
    }
    Ok(())
}

/// True if there is a namespace of this name, and not just what an interrupted `ip netns add` left.
#[must_use]
pub fn exists(name: &str) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let namespaces = device(Path::new("/proc/self/ns/net"));
    namespaces.is_some() && device(&file(name)) == namespaces
}

/// The process ids of everything that runs in a namespace; none if there is no such namespace.
pub fn processes(name: &str) -> Result<Vec<i32>> {
    if !exists(name) {
        return Ok(Vec::new());
    }
    let ids = sh(&format!("ip netns pids {name}"))?;
    Ok(ids
        .split_whitespace()
        .filter_map(|id| id.parse().ok())
        .collect())
}

/// Makes a bridge called `bridge` in a namespace. Returns true if it was missing.
pub fn ensure_bridge(switch: &str) -> Result<bool> {
    let missing = !link_exists(Some(switch), "bridge");
    if missing {
        sh(&format!("ip -n {switch} link add bridge type bridge"))?;
    }
    sh(&format!("ip -n {switch} link set bridge up"))?;
    sh(&format!("ip -n {switch} link set lo up"))?;
    Ok(missing)
}

/// Joins the host to a switch's bridge by a link of this name, with an address (`10.0.0.1/24`).
pub fn join_host(switch: &str, link: &str, address: &str) -> Result<bool> {
    let missing = !link_exists(None, link);
    if missing {
        sh(&format!(
            "ip link add {link} type veth peer name host netns {switch}"
        ))?;
    }
    sh(&format!("ip -n {switch} link set host master bridge up"))?;
    sh(&format!("ip address replace {address} dev {link}"))?;
    sh(&format!("ip link set {link} up"))?;
    Ok(missing)
}

/// Joins a namespace to a switch's bridge: `port` on the switch, `interface` inside, with an address (`10.0.0.2/24`).
pub fn join(
    switch: &str,
    port: &str,
    namespace: &str,
    interface: &str,
    address: &str,
) -> Result<bool> {
    let mut changed = ensure(namespace)?;
    if !link_exists(Some(namespace), interface) {
        sh(&format!(
            "ip link add {port} netns {switch} type veth peer name {interface} netns {namespace}"
        ))?;
        changed = true;
    }
    sh(&format!("ip -n {switch} link set {port} master bridge up"))?;
    sh(&format!(
        "ip -n {namespace} address replace {address} dev {interface}"
    ))?;
    sh(&format!("ip -n {namespace} link set {interface} up"))?;
    sh(&format!("ip -n {namespace} link set lo up"))?;
    Ok(changed)
}

/// True if a namespace, or the host, has a link of this name.
#[must_use]
pub fn link_exists(namespace: Option<&str>, link: &str) -> bool {
    match namespace {
        Some(namespace) => succeeds(&format!("ip -n {namespace} link show dev {link}")),
        None => succeeds(&format!("ip link show dev {link}")),
    }
}

/// Removes a link of the host if it is there.
pub fn remove_host_link(link: &str) -> Result<()> {
    if link_exists(None, link) {
        sh(&format!("ip link delete {link}"))?;
    }
    Ok(())
}

/// Undoes what the first `ip netns add` of a host does: it mounts its folder over itself. Does nothing while one is in use.
pub fn remove_folder() {
    let folder = Path::new(FOLDER);
    let is_empty = fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none());
    if is_empty {
        // Not mounted, or in use by now: then it stays.
        let _ = rustix::mount::unmount(folder, rustix::mount::UnmountFlags::empty());
        let _ = fs::remove_dir(folder);
    }
}
