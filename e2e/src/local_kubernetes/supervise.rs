//! The first process of a machine: sets up what only it can see, then keeps its programs running.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};
use rustix::process::{WaitOptions, wait};

use super::cgroup;
use super::machine::{MachineSpec, Program};

/// The name it has in its log.
fn log(text: &str) {
    eprintln!("machine: {text}");
}

/// Runs the machine that `spec_file` describes; returns only on an error.
///
/// Must be the first process of namespaces of its own (mount, pid, uts, ipc).
pub fn run(spec_file: &Path) -> Result<()> {
    ensure!(
        std::process::id() == 1,
        "this is for the first process of a machine; see coord-e2e up"
    );
    let spec: MachineSpec = serde_json::from_str(&fs::read_to_string(spec_file)?)?;
    cgroup::enter(&spec.cgroup)?;
    rustix::system::sethostname(spec.hostname.as_bytes())?;
    mount_folders(&spec)?;
    for (setting, value) in &spec.network_settings {
        let file = Path::new("/proc/sys/net").join(setting);
        fs::write(&file, value).with_context(|| format!("write {}", file.display()))?;
    }
    keep_running(&spec.programs)
}

fn mount_folders(spec: &MachineSpec) -> Result<()> {
    // Shared among this machine's own containers, as on a real one; the host got out of it when unshare made ours private.
    mount_change(
        "/",
        MountPropagationFlags::SHARED | MountPropagationFlags::REC,
    )
    .context("share mounts inside the machine")?;
    for (own, seen_at) in &spec.mounts {
        mount_bind_recursive(own, seen_at)
            .with_context(|| format!("mount {} over {}", own.display(), seen_at.display()))?;
    }
    for folder in &spec.volatile {
        mount("tmpfs", folder, "tmpfs", MountFlags::empty(), c"mode=755")
            .with_context(|| format!("mount tmpfs over {}", folder.display()))?;
    }
    Ok(())
}

fn keep_running(programs: &[Program]) -> Result<()> {
    let mut running = BTreeMap::new();
    for program in programs {
        running.insert(start(program)?, program);
    }
    loop {
        // Also reaps orphans of containers: they are ours, as the first process.
        let (id, status) =
            wait(WaitOptions::empty())?.context("wait without NOHANG returns a process")?;
        let Some(program) = running.remove(&id.as_raw_nonzero().get()) else {
            continue;
        };
        log(&format!(
            "{} ended: {status:?}; starting it again",
            program.path.display()
        ));
        // One that cannot start must not eat the processor.
        std::thread::sleep(Duration::from_secs(1));
        running.insert(start(program)?, program);
    }
}

fn start(program: &Program) -> Result<i32> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(&program.log)?;
    let child = Command::new(&program.path)
        .args(&program.args)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", program.path.display()))?;
    Ok(child.id().cast_signed())
}
