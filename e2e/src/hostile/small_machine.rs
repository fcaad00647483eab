//! Machines with little memory: each member in a cgroup of its own, where the kernel ends a process that takes more.
//!
//! Needs root, and memory control of cgroups: version 2, or version 1 with the `memory` hierarchy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, ensure};

use crate::cluster::process::Program;

const MOUNT: &str = "/sys/fs/cgroup";

/// Machines that begin when a member's program is started, and end when this is dropped.
pub struct SmallMachines {
    group: PathBuf,
    is_v2: bool,
    start: PathBuf,
}

impl SmallMachines {
    /// Machines of `memory_bytes`, page cache included, that run `server`; what starts them is kept in `directory`.
    pub fn new(directory: &Path, server: &Path, memory_bytes: u64) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mount = Path::new(MOUNT);
        let is_v2 = mount.join("cgroup.controllers").exists();
        let root = match is_v2 {
            true => mount.to_owned(),
            false => mount.join("memory"),
        };
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let group = root.join(format!("coord-small-{}-{count}", std::process::id()));
        fs::create_dir(&group)
            .with_context(|| format!("memory of a process can be bounded: {}", group.display()))?;
        let start = directory.join("small-machine");
        let machines = Self {
            group,
            is_v2,
            start,
        };
        if is_v2 {
            for parent in [&root, &machines.group] {
                fs::write(parent.join("cgroup.subtree_control"), "+memory")
                    .with_context(|| format!("memory control in {}", parent.display()))?;
            }
        }
        let limit = match is_v2 {
            true => "memory.max",
            false => "memory.limit_in_bytes",
        };
        // The shell becomes the program, so that both are one process, and all that it ever takes is counted.
        let script = format!(
            "#!/bin/sh\nset -e\nmachine={group}/$$\nmkdir $machine\necho {memory_bytes} > $machine/{limit}\n\
             echo $$ > $machine/cgroup.procs\nexec {server} \"$@\"\n",
            group = machines.group.display(),
            server = server.display(),
        );
        fs::write(&machines.start, script)?;
        fs::set_permissions(&machines.start, fs::Permissions::from_mode(0o755))?;
        Ok(machines)
    }

    /// The program that starts a member on a machine of its own.
    #[must_use]
    pub fn program(&self) -> Program {
        Program {
            path: Some(self.start.clone()),
            environment: Vec::new(),
        }
    }

    /// The most memory that the machine of this process ever had in use; its page cache is part of it, so at its limit a
    /// machine may still have room.
    pub fn used_bytes_max(&self, process: u32) -> Result<u64> {
        let file = match self.is_v2 {
            true => "memory.peak",
            false => "memory.max_usage_in_bytes",
        };
        let file = self.group.join(process.to_string()).join(file);
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        Ok(text.trim().parse()?)
    }

    /// Fails if the kernel ended a process for want of memory.
    pub fn check(&self) -> Result<()> {
        for entry in fs::read_dir(&self.group)? {
            let path = entry?.path();
            let file = match self.is_v2 {
                true => path.join("memory.events"),
                false => path.join("memory.oom_control"),
            };
            let Ok(events) = fs::read_to_string(&file) else {
                continue;
            };
            let kills = events
                .lines()
                .find_map(|line| line.strip_prefix("oom_kill "));
            ensure!(
                kills.is_none_or(|kills| kills.trim() == "0"),
                "the kernel ended the member of machine {}: {events}",
                path.display()
            );
        }
        Ok(())
    }
}

impl Drop for SmallMachines {
    fn drop(&mut self) {
        // Those that still hold a process stay: nobody may be kept from ending.
        for entry in fs::read_dir(&self.group).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(&self.group);
    }
}
