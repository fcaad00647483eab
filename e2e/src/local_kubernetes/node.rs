//! The programs of a node's machine, and the faults that tests inflict on a node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::addresses::Addresses;
use super::control_plane::{network_settings, proxy};
use super::layout::{Layout, NODES, ZONES};
use super::machine::{Machine, MachineSpec, Program};
use super::network;
use super::pki::kubeconfig;

/// The image of pod sandboxes, of the volume provisioner's helper, and of tests that need a shell in a pod.
///
/// Not tagged by content like the others: containerd's configuration names it.
pub const BUSYBOX: &str = "coord.dev/e2e/busybox:1";

/// A node of a running instance: a machine that tests may pull the plug of.
#[derive(Debug, Clone)]
pub struct Node {
    layout: Layout,
    index: usize,
}

impl Node {
    /// The node called `name`.
    ///
    /// Errors: an instance has no such node.
    pub fn new(layout: &Layout, name: &str) -> Result<Self> {
        let index = NODES.iter().position(|node| *node == name);
        let index =
            index.with_context(|| format!("no node {name:?}: there are {}", NODES.join(", ")))?;
        Ok(Self {
            layout: layout.clone(),
            index,
        })
    }

    /// Its name in Kubernetes.
    #[must_use]
    pub fn name(&self) -> &'static str {
        NODES[self.index]
    }

    /// Its zone, as its `topology.kubernetes.io/zone` label says it.
    #[must_use]
    pub fn zone(&self) -> &'static str {
        ZONES[self.index]
    }

    /// True if it has power.
    pub fn is_running(&self) -> Result<bool> {
        self.machine().is_running()
    }

    /// True if its link is down.
    pub fn is_cut(&self) -> Result<bool> {
        network::is_cut(&self.layout, self.name())
    }

    /// Power loss: kubelet, runtime and every container are gone when this returns. Its disks stay.
    ///
    /// Kubernetes says NotReady about 10 s later, and deletes none of its pods for 5 minutes.
    pub fn kill(&self) -> Result<()> {
        self.machine().kill()
    }

    /// Power on again; returns at once, its pods come back on their own. Does nothing if it runs.
    ///
    /// Errors: it was never up.
    pub fn start(&self) -> Result<()> {
        let machine = self.machine();
        let spec = machine.started_with();
        let spec =
            spec.with_context(|| format!("node {} was never up: run coord-e2e up", self.name()))?;
        machine.ensure(&spec).map(drop)
    }

    /// Cuts it off the network: it and its pods run on, and hear nothing and nobody, not even the host.
    pub fn cut(&self) -> Result<()> {
        ensure!(self.is_running()?, "node {} does not run", self.name());
        network::cut(&self.layout, self.name())
    }

    /// Joins it to the network again.
    pub fn heal(&self) -> Result<()> {
        network::heal(&self.layout, self.name())
    }

    /// A folder of its own that holds `bytes` and no more. It is in memory, and goes with [`Node::kill`] or
    /// [`Node::remove_disk`].
    pub fn small_disk(&self, folder: &Path, bytes: u64) -> Result<()> {
        std::fs::create_dir_all(folder)?;
        let options = format!("size={bytes},mode=0777");
        let words = ["mount", "-t", "tmpfs", "-o", &options, "small-disk"];
        self.inside(&[&words[..], &[path(folder)?]].concat())
    }

    /// Makes a [`Node::small_disk`] larger, under whoever uses it.
    pub fn grow_disk(&self, folder: &Path, bytes: u64) -> Result<()> {
        let options = format!("remount,size={bytes}");
        self.inside(&["mount", "-o", &options, path(folder)?])
    }

    /// Takes a [`Node::small_disk`] away, whoever uses it.
    pub fn remove_disk(&self, folder: &Path) -> Result<()> {
        // Not the usual umount: it looks a mount up in /proc, which shows the machine's processes and not this one.
        self.inside(&["busybox", "umount", "-l", path(folder)?])?;
        Ok(std::fs::remove_dir(folder)?)
    }

    fn inside(&self, words: &[&str]) -> Result<()> {
        self.machine().run_inside(words).map(drop)
    }

    /// The folder that holds its volumes.
    #[must_use]
    pub fn volumes(&self) -> PathBuf {
        volumes(&self.layout, self.name())
    }

    /// Where its container runtime listens: `ctr --address SOCKET --namespace k8s.io ...`.
    #[must_use]
    pub fn containerd_socket(&self) -> PathBuf {
        containerd_socket(&self.layout, self.name())
    }

    fn machine(&self) -> Machine<'_> {
        Machine::new(&self.layout, NODES[self.index])
    }
}

fn path(folder: &Path) -> Result<&str> {
    let text = folder.to_str();
    text.with_context(|| format!("{}: not UTF-8", folder.display()))
}

/// The files of a node; all but the volatile ones survive [`Node::kill`].
struct Files {
    containerd: PathBuf,
    kubelet: PathBuf,
    cni: PathBuf,
}

fn containerd_socket(layout: &Layout, node: &str) -> PathBuf {
    layout.machine(node).join("containerd.sock")
}

/// The folder that holds the volumes of a node.
#[must_use]
pub fn volumes(layout: &Layout, node: &str) -> PathBuf {
    layout.machine(node).join("volumes")
}

/// Node `index`, counted from 0: container runtime, kubelet and proxy.
#[must_use]
pub fn spec(layout: &Layout, addresses: Addresses, version: &str, index: usize) -> MachineSpec {
    let node = NODES[index];
    let number = u8::try_from(index).expect("an instance has a handful of nodes");
    let folder = layout.machine(node);
    let files = Files {
        containerd: folder.join("containerd.toml"),
        kubelet: folder.join("kubelet.yaml"),
        cni: folder.join("cni/10-pods.conflist"),
    };
    let (proxy_file, proxy_config) = proxy(layout, addresses, node, node);
    let program = |path: PathBuf, name: &str, args: Vec<String>| Program {
        path,
        args,
        log: folder.join("log").join(format!("{name}.log")),
    };
    let kubelet_args = vec![
        format!("--config={}", files.kubelet.display()),
        format!("--kubeconfig={}", kubeconfig(layout, node).display()),
        format!("--hostname-override={node}"),
        format!("--node-ip={}", addresses.node(number)),
        format!("--node-labels=topology.kubernetes.io/zone={}", ZONES[index]),
    ];
    MachineSpec {
        hostname: node.to_owned(),
        cgroup: format!("{}/system", layout.machine_cgroup(node)),
        version: version.to_owned(),
        volatile: vec!["/run".into(), "/var/lib/cni".into()],
        mounts: vec![
            (folder.join("kubelet"), "/var/lib/kubelet".into()),
            (folder.join("log"), "/var/log".into()),
        ],
        network_settings: network_settings(),
        files: BTreeMap::from([
            (files.containerd.clone(), containerd_config(layout, node)),
            (
                files.kubelet.clone(),
                kubelet_config(layout, addresses, node),
            ),
            (files.cni, cni_config(addresses, number)),
            (proxy_file.clone(), proxy_config),
            // Pods have no resolver but the cluster's own: nothing here reaches the outside.
            (folder.join("resolv.conf"), String::new()),
        ]),
        programs: vec![
            program(
                "/usr/bin/containerd".into(),
                "containerd",
                vec![format!("--config={}", files.containerd.display())],
            ),
            program(layout.bin().join("kubelet"), "kubelet", kubelet_args),
            program(
                layout.bin().join("kube-proxy"),
                "kube-proxy",
                vec![format!("--config={}", proxy_file.display())],
            ),
        ],
    }
}

fn containerd_config(layout: &Layout, node: &str) -> String {
    let folder = layout.machine(node).display().to_string();
    format!(
        r#"version = 2
root = "{folder}/containerd"
state = "/run/containerd"

[grpc]
  address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/containerd/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{sandbox}"
  # Writing a lower value needs CAP_SYS_RESOURCE, which containers that run this do not have.
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{folder}/cni"
"#,
        socket = containerd_socket(layout, node).display(),
        sandbox = BUSYBOX,
    )
}

fn kubelet_config(layout: &Layout, addresses: Addresses, node: &str) -> String {
    format!(
        r#"apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {{enabled: false}}
  webhook: {{enabled: true}}
  x509: {{clientCAFile: {pki}/ca.crt}}
authorization: {{mode: Webhook}}
tlsCertFile: {pki}/{node}.crt
tlsPrivateKeyFile: {pki}/{node}.key
containerRuntimeEndpoint: unix://{socket}
clusterDomain: cluster.local
clusterDNS: ["{dns}"]
resolvConf: {folder}/resolv.conf
volumePluginDir: {folder}/volume-plugins
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
nodeStatusUpdateFrequency: 2s
nodeLeaseDurationSeconds: 8
# The disk is the host's: its filling is not this node's doing, and evicting would not help. Images cannot be
# pulled again, so none is ever collected.
evictionHard: {{memory.available: 100Mi, nodefs.available: 0%, nodefs.inodesFree: 0%, imagefs.available: 0%, imagefs.inodesFree: 0%}}
imageGCHighThresholdPercent: 100
"#,
        pki = layout.pki().display(),
        socket = containerd_socket(layout, node).display(),
        dns = addresses.dns_service(),
        folder = layout.machine(node).display(),
        cgroup = layout.machine_cgroup(node),
    )
}

/// Each pod gets a link of its own to its node, which routes: nothing then passes a bridge unseen by the proxy's rules.
fn cni_config(addresses: Addresses, number: u8) -> String {
    format!(
        r#"{{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [{{
    "type": "ptp",
    "ipMasq": false,
    "ipam": {{
      "type": "host-local",
      "dataDir": "/run/cni-addresses",
      "ranges": [[{{"subnet": "{pods}"}}]],
      "routes": [{{"dst": "0.0.0.0/0"}}]
    }}
  }}]
}}
"#,
        pods = addresses.node_pods(number),
    )
}
