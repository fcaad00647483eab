//! The cgroups of the machines: one per instance, one per machine below it, made in every hierarchy the kernel shows.
//!
//! Several kubelets share one kernel, so each gets a root of its own. Handles version 1 (one tree per controller) and
//! version 2 (one tree).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

const MOUNT: &str = "/sys/fs/cgroup";

/// The roots of all hierarchies.
fn hierarchies() -> Result<Vec<PathBuf>> {
    if is_v2() {
        return Ok(vec![MOUNT.into()]);
    }
    let mut roots = Vec::new();
    for entry in fs::read_dir(MOUNT).with_context(|| format!("read {MOUNT}"))? {
        let entry = entry?;
        let path = entry.path();
        // Some are symbolic links: cpu -> cpu,cpuacct. "unified" is version 2 without controllers, and runc uses it too.
        if entry.file_type()?.is_dir() && path.join("cgroup.procs").exists() {
            roots.push(path);
        }
    }
    Ok(roots)
}

fn is_v2() -> bool {
    Path::new(MOUNT).join("cgroup.controllers").exists()
}

/// Makes `group` (a relative path) and its parents in every hierarchy.
pub fn create(group: &str) -> Result<()> {
    for root in hierarchies()? {
        let mut at = root.clone();
        for part in Path::new(group) {
            if is_v2() {
                enable_controllers(&at)?;
            }
            let parent = at.clone();
            at.push(part);
            match fs::create_dir(&at) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("create {}", at.display()));
                }
            }
            inherit_cpuset(&parent, &at)?;
        }
    }
    Ok(())
}

/// Version 2: what a group may use, its children must be given by name.
fn enable_controllers(group: &Path) -> Result<()> {
    let available = fs::read_to_string(group.join("cgroup.controllers"))?;
    for controller in available.split_whitespace() {
        let file = group.join("cgroup.subtree_control");
        fs::write(&file, format!("+{controller}"))
            .with_context(|| format!("write +{controller} to {}", file.display()))?;
    }
    Ok(())
}

/// Version 1: a new cpuset is empty, and nothing can be put into it before it has processors and memory.
fn inherit_cpuset(parent: &Path, group: &Path) -> Result<()> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = group.join(file);
        if is_v2() || !own.exists() || !fs::read_to_string(&own)?.trim().is_empty() {
            continue;
        }
        let inherited = fs::read_to_string(parent.join(file))?;
        fs::write(&own, inherited).with_context(|| format!("write {}", own.display()))?;
    }
    Ok(())
}

/// Moves the calling process into `group` in every hierarchy.
pub fn enter(group: &str) -> Result<()> {
    for root in hierarchies()? {
        let file = root.join(group).join("cgroup.procs");
        fs::write(&file, "0").with_context(|| format!("write {}", file.display()))?;
    }
    Ok(())
}

/// Removes `group` and all below it. Its processes must be dead; the kernel may need a moment to notice, so it retries.
pub fn remove(group: &str) -> Result<()> {
    let limit = Instant::now() + Duration::from_secs(10);
    for root in hierarchies()? {
        let top = root.join(group);
        while top.exists() {
            match remove_tree(&top) {
                Ok(()) => break,
                Err(_) if Instant::now() < limit => std::thread::sleep(Duration::from_millis(50)),
                Err(error) => {
                    return Err(error).with_context(|| format!("remove cgroup {}", top.display()));
                }
            }
        }
    }
    Ok(())
}

/// Removes the group of the whole family, if no instance is left in it.
pub fn remove_if_empty(group: &str) -> Result<()> {
    for root in hierarchies()? {
        // Not empty: another instance lives.
        let _ = fs::remove_dir(root.join(group));
    }
    Ok(())
}

/// True if some hierarchy has `group`.
pub fn exists(group: &str) -> Result<bool> {
    Ok(hierarchies()?.iter().any(|root| root.join(group).exists()))
}

/// The memory that `group` and all below it use, in bytes; `None` if the kernel does not say.
#[must_use]
pub fn memory_bytes(group: &str) -> Option<u64> {
    let file = if is_v2() {
        Path::new(MOUNT).join(group).join("memory.current")
    } else {
        Path::new(MOUNT)
            .join("memory")
            .join(group)
            .join("memory.usage_in_bytes")
    };
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn remove_tree(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}
