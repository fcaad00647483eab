//! A machine: the process tree of the control plane or of a node, described by a plain value.
//!
//! [`MachineSpec`] says everything that matters about it, so "is it running as wanted?" is one comparison.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::files::{create_parent, write};
use super::layout::Layout;
use super::run::{cmd, run, tail};
use super::{cgroup, network};

/// Everything a machine consists of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSpec {
    /// Its host name.
    pub hostname: String,
    /// The cgroup that its own programs run in.
    pub cgroup: String,
    /// The versions of its programs: another version is another machine, and is restarted.
    pub version: String,
    /// Folders that start out empty with each power-on, and are in memory.
    pub volatile: Vec<PathBuf>,
    /// Folders of its own where others see the host's: (its own, where it sees it).
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// Kernel settings of its network, as paths below `/proc/sys/net`.
    pub network_settings: BTreeMap<String, String>,
    /// Configuration files, written before it starts.
    pub files: BTreeMap<PathBuf, String>,
    /// Programs that it runs; one that ends is started again.
    pub programs: Vec<Program>,
}

/// One program of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Where its output goes.
    pub log: PathBuf,
}

/// A machine of an instance.
#[derive(Debug, Clone)]
pub struct Machine<'a> {
    layout: &'a Layout,
    name: &'a str,
}

impl<'a> Machine<'a> {
    /// The machine called `name` ("cp", "n1", ...).
    #[must_use]
    pub fn new(layout: &'a Layout, name: &'a str) -> Self {
        Self { layout, name }
    }

    /// True if its first process lives.
    pub fn is_running(&self) -> Result<bool> {
        Ok(!network::processes(self.layout, self.name)?.is_empty())
    }

    /// The spec it was last started with, if any.
    #[must_use]
    pub fn started_with(&self) -> Option<MachineSpec> {
        serde_json::from_str(&fs::read_to_string(self.spec_file()).ok()?).ok()
    }

    /// Makes it run as `spec` says. Returns true if it had to be started, after killing one that ran otherwise.
    pub fn ensure(&self, spec: &MachineSpec) -> Result<bool> {
        if self.is_running()? {
            if self.started_with().as_ref() == Some(spec) {
                return Ok(false);
            }
            self.kill()?;
        }
        self.start(spec)?;
        Ok(true)
    }

    /// Starts it. It must not be running.
    pub fn start(&self, spec: &MachineSpec) -> Result<()> {
        // The limits that a killed run left would be "limits of somebody else" to the new one.
        cgroup::remove(&self.layout.machine_cgroup(self.name))?;
        cgroup::create(&spec.cgroup)?;
        for (path, text) in &spec.files {
            write(path, text)?;
        }
        for (own, seen_at) in &spec.mounts {
            fs::create_dir_all(own)?;
            make_mount_point(self.layout, seen_at)?;
        }
        for folder in &spec.volatile {
            make_mount_point(self.layout, folder)?;
        }
        for program in &spec.programs {
            create_parent(&program.log)?;
        }
        let spec_file = self.spec_file();
        write(&spec_file, &serde_json::to_string_pretty(spec)?)?;

        let log_path = self.layout.machine(self.name).join("init.log");
        let log = File::create(&log_path)?;
        let namespace = self.layout.namespace_file(self.name);
        // A session of its own: neither Ctrl-C nor a closed terminal reaches it. Not "ip netns exec": that mounts a
        // new /sys over the cgroups. --kill-child: a kill of the outermost process kills all.
        let mut child = cmd(["setsid", "nsenter"])
            .arg(format!("--net={}", namespace.display()))
            .args([
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "--pid",
                "--fork",
            ])
            .args(["--kill-child", "--mount-proc", "--uts", "--ipc"])
            .arg(own_program()?)
            .arg("machine")
            .arg(&spec_file)
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("start machine {}", self.name))?;
        // Dying at once means it could not even mount; later troubles are its programs' and are in their logs.
        std::thread::sleep(Duration::from_millis(100));
        if let Some(status) = child.try_wait()? {
            let said = fs::read_to_string(&log_path).unwrap_or_default();
            bail!(
                "machine {} ended at once ({status}): {}",
                self.name,
                tail(&said, 10)
            );
        }
        Ok(())
    }

    /// Cuts its power: everything it runs is gone when this returns; its disks stay.
    pub fn kill(&self) -> Result<()> {
        let limit = Instant::now() + Duration::from_secs(60);
        loop {
            let processes = network::processes(self.layout, self.name)?;
            if processes.is_empty() {
                return Ok(());
            }
            if Instant::now() > limit {
                bail!(
                    "processes {processes:?} of machine {} survive SIGKILL",
                    self.name
                );
            }
            for id in processes {
                if let Some(id) = Pid::from_raw(id) {
                    // Gone already is as good.
                    let _ = kill_process(id, Signal::KILL);
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a program where the machine's own mounts are seen, and returns what it printed.
    pub fn run_inside(&self, words: &[&str]) -> Result<String> {
        let processes = network::processes(self.layout, self.name)?;
        // The oldest is the one that made its mounts.
        let oldest = processes.iter().min();
        let oldest = oldest.with_context(|| format!("machine {} does not run", self.name))?;
        let mut command = cmd(["nsenter", "--mount"]);
        run(command
            .arg(format!("--target={oldest}"))
            .arg("--")
            .args(words))
    }

    /// Kills one of its programs, which is started again a second later. Returns how many of that name ran.
    ///
    /// The kernel knows a program by the first 15 letters of its name.
    pub fn kill_program(&self, name: &str) -> Result<usize> {
        let is_named = |id: &i32| {
            fs::read_to_string(format!("/proc/{id}/comm"))
                .is_ok_and(|comm| comm.trim_end() == &name[..name.len().min(15)])
        };
        let processes = network::processes(self.layout, self.name)?;
        let named: Vec<i32> = processes.into_iter().filter(is_named).collect();
        for id in &named {
            if let Some(id) = Pid::from_raw(*id) {
                kill_process(id, Signal::KILL)?;
            }
        }
        Ok(named.len())
    }

    fn spec_file(&self) -> PathBuf {
        self.layout.machine(self.name).join("machine.json")
    }
}

/// The file that lists folders made on the host only to mount something over them, so that the last one out can
/// remove them again.
pub fn mount_points_file(layout: &Layout) -> PathBuf {
    layout.family_dir().join("mount-points")
}

fn make_mount_point(layout: &Layout, folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let list = mount_points_file(layout);
    let mut text = fs::read_to_string(&list).unwrap_or_default();
    text.push_str(&format!("{}\n", folder.display()));
    // First the list, then the folder: an interruption between the two leaves nothing unknown.
    write(&list, &text)?;
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))
}

/// The `coord-e2e` program: this one, or for a test the one cargo built beside it.
fn own_program() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let beside = [this.parent(), this.parent().and_then(Path::parent)];
    let candidates = beside
        .into_iter()
        .flatten()
        .map(|folder| folder.join("coord-e2e"));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "no coord-e2e beside {}: run cargo build -p coord-e2e",
            this.display()
        )
    })
}
