//! An instance, from nothing to three Ready nodes and back to nothing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::addons::{self, Images};
use super::addresses::Addresses;
use super::image::{self, Archive};
use super::layout::{CONTROL_PLANE, FAMILY, InstanceName, Layout, NODES};
use super::machine::{Machine, mount_points_file};
use super::node::{self, Node};
use super::run::{cmd, run, tail};
use super::steps::{Notes, Outcome, Steps, wait_until};
use super::tools::{Tools, workspace};
use super::{cgroup, control_plane, network, packages, pki};
use crate::netns;

/// A local Kubernetes. The value is only a name: dropping it takes nothing down.
#[derive(Debug, Clone)]
pub struct Instance {
    layout: Layout,
}

impl Instance {
    /// How many steps [`Instance::up_in`] takes.
    pub const STEPS: usize = 7;

    /// The instance called `name`, which may or may not exist.
    #[must_use]
    pub fn named(name: InstanceName) -> Self {
        Self {
            layout: Layout::new(name),
        }
    }

    /// Brings the instance called `name` up and prints the steps on standard error. Blocks; needs root.
    ///
    /// Does what is missing and nothing else, so it also repairs one that was interrupted, heals and starts its nodes.
    /// Several threads or processes that start it at once wait for the first.
    pub fn up(name: &str) -> Result<Self> {
        let instance = Self::named(name.parse()?);
        instance.up_in(&mut Steps::new(Self::STEPS))?;
        Ok(instance)
    }

    /// The first two steps, which are no instance's own: packages and programs.
    pub fn prepare(steps: &mut Steps) -> Result<Tools> {
        steps.step("operating system packages", packages::install)?;
        let mut tools = None;
        steps.step("programs", |notes| {
            let (built, outcome) = Tools::build(notes)?;
            tools = Some(built);
            Ok(outcome)
        })?;
        tools.context("the step above has set it")
    }

    /// As [`Instance::up`], as the next [`Instance::STEPS`] of `steps`.
    pub fn up_in(&self, steps: &mut Steps) -> Result<()> {
        let layout = &self.layout;
        let tools = Self::prepare(steps)?;

        fs::create_dir_all(layout.root())?;
        let lock = File::open(layout.root())?;
        lock.lock()
            .context("wait for another run on this instance")?;

        let mut addresses = None;
        steps.step("network", |_| {
            let chosen = self.join_network()?;
            addresses = Some(chosen.0);
            Ok(chosen.1)
        })?;
        let addresses = addresses.context("the step above has set it")?;
        steps.step("certificates", |_| {
            let made = pki::ensure(layout, addresses)?;
            Ok(Outcome::of(
                made,
                format!("kubeconfig {}", layout.kubeconfig().display()),
            ))
        })?;
        steps.step("control plane", |notes| {
            self.start_control_plane(&tools, addresses, notes)
        })?;
        let mut images = None;
        steps.step("nodes", |notes| {
            let archives = Images::write(&tools, &images_dir())?;
            let outcome = self.start_nodes(&tools, addresses, &archives, notes);
            images = Some(archives);
            outcome
        })?;
        let images = images.context("the step above has set it")?;
        steps.step("DNS and volumes", |notes| {
            self.install_addons(addresses, &images, notes)
        })
    }

    /// Takes it down and leaves nothing behind: no process, namespace, link, mount, cgroup or file.
    ///
    /// Needs nothing but the name, and succeeds on what never existed. Returns true if there was something.
    pub fn down(&self) -> Result<bool> {
        let layout = &self.layout;
        let existed = self.exists()?;
        for machine in NODES.into_iter().chain([CONTROL_PLANE]) {
            Machine::new(layout, machine).kill()?;
        }
        network::down(layout)?;
        cgroup::remove(&layout.cgroup())?;
        if layout.root().exists() {
            fs::remove_dir_all(layout.root())
                .with_context(|| format!("remove {}", layout.root().display()))?;
        }
        self.remove_family_if_last()?;
        Ok(existed)
    }

    /// True if there is anything of it on this machine.
    pub fn exists(&self) -> Result<bool> {
        Ok(self.layout.root().exists()
            || !network::namespaces(&self.layout).is_empty()
            || network::host_link_exists(&self.layout)
            || cgroup::exists(&self.layout.cgroup())?)
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.layout.kubeconfig()
    }

    /// Its names and paths.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The node called `name`: "n1", "n2" or "n3".
    pub fn node(&self, name: &str) -> Result<Node> {
        Node::new(&self.layout, name)
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        let nodes = NODES.iter().map(|name| self.node(name));
        nodes
            .map(|node| node.expect("every name of NODES is a node"))
            .collect()
    }

    /// Kills the API server; it is started again a second later, and serves a few seconds after that.
    pub fn kill_api_server(&self) -> Result<()> {
        let killed = Machine::new(&self.layout, CONTROL_PLANE).kill_program("kube-apiserver")?;
        ensure!(
            killed == 1,
            "{killed} API servers of instance {} ran",
            self.layout.name
        );
        Ok(())
    }

    /// One of the instance's programs ("kubectl", "helm", "etcdctl"), pointed at this cluster.
    #[must_use]
    pub fn program(&self, name: &str) -> Command {
        let mut command = cmd([self.layout.bin().join(name)]);
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// Runs `kubectl` with the words of `line` and returns what it printed.
    pub fn kubectl(&self, line: &str) -> Result<String> {
        run(self.program("kubectl").args(line.split_whitespace()))
    }

    /// Loads an image into all running nodes. Returns true if some node did not have it.
    pub fn import_image(&self, archive: &Archive) -> Result<bool> {
        let mut running = Vec::new();
        for node in self.nodes() {
            if node.is_running()? {
                running.push(node);
            }
        }
        ensure!(
            !running.is_empty(),
            "no node of instance {} runs: run coord-e2e up",
            self.layout.name
        );
        on_all(&running, |node| image::import(node, archive))
    }

    /// The memory all of it uses, in bytes, if the kernel says.
    #[must_use]
    pub fn memory_bytes(&self) -> Option<u64> {
        cgroup::memory_bytes(&self.layout.cgroup())
    }

    fn join_network(&self) -> Result<(Addresses, Outcome)> {
        // One at a time: two new instances must not choose the same addresses.
        let family = File::open(self.layout.family_dir())?;
        family.lock()?;
        let addresses = network::addresses(&self.layout)?;
        let changed = network::up(&self.layout, addresses)?;
        let what = format!("{} on link {}", addresses.all(), self.layout.host_link());
        Ok((addresses, Outcome::of(changed, what)))
    }

    fn start_control_plane(
        &self,
        tools: &Tools,
        addresses: Addresses,
        notes: &mut Notes,
    ) -> Result<Outcome> {
        link_programs(&self.layout.bin(), tools)?;
        let spec = control_plane::spec(&self.layout, addresses, &tools.version());
        let started = Machine::new(&self.layout, CONTROL_PLANE).ensure(&spec)?;
        wait_until(notes, Duration::from_secs(240), || {
            let asked = self.kubectl("get --raw /readyz --request-timeout=2s");
            asked.map(drop).map_err(|error| tail(&error.to_string(), 1))
        })
        .with_context(|| format!("see {}/cp/log", self.layout.root().display()))?;
        let version = self.kubectl("version --output=json")?;
        let version: serde_json::Value = serde_json::from_str(&version)?;
        let version = version["serverVersion"]["gitVersion"]
            .as_str()
            .unwrap_or("?")
            .to_owned();
        Ok(Outcome::of(
            started,
            format!("Kubernetes {version} at {}", addresses.control_plane()),
        ))
    }

    fn start_nodes(
        &self,
        tools: &Tools,
        addresses: Addresses,
        images: &Images,
        notes: &mut Notes,
    ) -> Result<Outcome> {
        let mut started = false;
        for (index, name) in NODES.into_iter().enumerate() {
            let spec = node::spec(&self.layout, addresses, &tools.version(), index);
            started |= Machine::new(&self.layout, name).ensure(&spec)?;
        }
        let nodes = self.nodes();
        for node in &nodes {
            wait_until(notes, Duration::from_secs(120), || {
                let socket = node.containerd_socket();
                let mut ask = cmd(["ctr", "--address"]);
                let asked = run(ask.arg(socket).arg("version"));
                asked
                    .map(drop)
                    .map_err(|_| format!("{}: the container runtime is starting", node.name()))
            })?;
        }
        let mut imported = false;
        for archive in images.all() {
            imported |= on_all(&nodes, |node| image::import(node, archive))?;
        }
        wait_until(notes, Duration::from_secs(240), || self.unready_nodes())
            .with_context(|| format!("see {}/n*/log", self.layout.root().display()))?;
        let zones = nodes
            .iter()
            .map(|node| format!("{} in {}", node.name(), node.zone()));
        Ok(Outcome::of(
            started || imported,
            zones.collect::<Vec<_>>().join(", "),
        ))
    }

    fn unready_nodes(&self) -> Result<(), String> {
        let ready = self
            .kubectl("get nodes --no-headers")
            .map_err(|error| tail(&error.to_string(), 1))?;
        let is_ready = |name: &str| {
            ready.lines().any(|line| {
                let mut words = line.split_whitespace();
                words.next() == Some(name)
                    && words.next().is_some_and(|word| word.starts_with("Ready"))
            })
        };
        let missing: Vec<_> = NODES.into_iter().filter(|node| !is_ready(node)).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("not Ready: {}", missing.join(", ")))
        }
    }

    fn install_addons(
        &self,
        addresses: Addresses,
        images: &Images,
        notes: &mut Notes,
    ) -> Result<Outcome> {
        let file = self.layout.root().join("addons.yaml");
        fs::write(&file, addons::manifests(&self.layout, addresses, images)?)?;
        // Controllers make the default ServiceAccount some moments after the API server is ready; pods need it.
        let mut applied = String::new();
        wait_until(notes, Duration::from_secs(120), || {
            applied = self
                .kubectl(&format!("apply --filename={}", file.display()))
                .map_err(|error| tail(&error.to_string(), 1))?;
            Ok(())
        })?;
        let changed = applied.lines().any(|line| !line.ends_with("unchanged"));
        let deployments = [
            ("kube-system", "coredns"),
            ("local-path-storage", "local-path-provisioner"),
        ];
        for (namespace, name) in deployments {
            wait_until(notes, Duration::from_secs(240), || {
                let line = format!(
                    "rollout status deployment {name} --namespace={namespace} --watch=false"
                );
                match self.kubectl(&line) {
                    Ok(said) if said.contains("successfully rolled out") => Ok(()),
                    Ok(said) => Err(said.trim().to_owned()),
                    Err(error) => Err(tail(&error.to_string(), 1)),
                }
            })?;
        }
        Ok(Outcome::of(
            changed,
            "CoreDNS, StorageClass local-path".into(),
        ))
    }

    /// Removes what all instances share, once the last is gone.
    fn remove_family_if_last(&self) -> Result<()> {
        let family = self.layout.family_dir();
        let list = mount_points_file(&self.layout);
        let Ok(entries) = fs::read_dir(family) else {
            return Ok(());
        };
        let others = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.path() != list)
            .count();
        if others > 0 {
            return Ok(());
        }
        if let Ok(text) = fs::read_to_string(&list) {
            for folder in text.lines() {
                // Somebody uses it now: then it is theirs.
                let _ = fs::remove_dir(folder);
            }
            fs::remove_file(&list)?;
        }
        // A run that has just begun makes it again.
        let _ = fs::remove_dir(family);
        netns::remove_folder();
        cgroup::remove_if_empty(FAMILY)
    }
}

/// Where the archives of images are kept, next to the builds of programs.
#[must_use]
pub fn images_dir() -> PathBuf {
    workspace().join("target/images")
}

/// The instance owns its programs: a build folder that is cleaned away does not pull them out from under it.
fn link_programs(folder: &Path, tools: &Tools) -> Result<()> {
    fs::create_dir_all(folder)?;
    for program in tools.programs()? {
        let name = program.file_name().context("a program has a name")?;
        let link = folder.join(name);
        let same = |a: &fs::Metadata, b: &fs::Metadata| {
            a.len() == b.len() && a.modified().ok() == b.modified().ok()
        };
        if fs::metadata(&link)
            .is_ok_and(|have| fs::metadata(&program).is_ok_and(|want| same(&have, &want)))
        {
            continue;
        }
        let fresh = folder.join(".new");
        let _ = fs::remove_file(&fresh);
        if fs::hard_link(&program, &fresh).is_err() {
            // Another file system.
            fs::copy(&program, &fresh)?;
            File::open(&fresh)?.set_modified(fs::metadata(&program)?.modified()?)?;
        }
        fs::rename(&fresh, &link)?;
    }
    Ok(())
}

fn on_all(nodes: &[Node], work: impl Fn(&Node) -> Result<bool> + Sync) -> Result<bool> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(|| work(node)))
            .collect();
        let mut changed = false;
        for thread in threads {
            match thread.join() {
                Ok(result) => changed |= result?,
                Err(_) => bail!("a thread of this step panicked"),
            }
        }
        Ok(changed)
    })
}
