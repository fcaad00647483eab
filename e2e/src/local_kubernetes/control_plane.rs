//! The programs of the control plane's machine. Pure: builds a [`MachineSpec`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::addresses::Addresses;
use super::layout::{CONTROL_PLANE, Layout, NODES};
use super::machine::{MachineSpec, Program};
use super::pki::kubeconfig;

/// Until a silent node counts as lost. Kubernetes' default is 50 s; tests that lose nodes should not wait that long.
const NODE_GRACE: &str = "10s";

/// The control plane: etcd, API server, controller manager, scheduler, and a proxy for what calls Services from here.
#[must_use]
pub fn spec(layout: &Layout, addresses: Addresses, version: &str) -> MachineSpec {
    let folder = layout.machine(CONTROL_PLANE);
    let (proxy_file, proxy_config) = proxy(layout, addresses, CONTROL_PLANE, NODES[0]);
    let program = |name: &str, args: Vec<String>| Program {
        path: layout.bin().join(name),
        args,
        log: folder.join("log").join(format!("{name}.log")),
    };
    MachineSpec {
        hostname: layout.namespace(CONTROL_PLANE),
        cgroup: format!("{}/system", layout.machine_cgroup(CONTROL_PLANE)),
        version: version.to_owned(),
        volatile: vec!["/run".into()],
        mounts: Vec::new(),
        network_settings: network_settings(),
        files: BTreeMap::from([(proxy_file.clone(), proxy_config)]),
        programs: vec![
            program("etcd", etcd(layout)),
            program("kube-apiserver", apiserver(layout, addresses)),
            program(
                "kube-controller-manager",
                controller_manager(layout, addresses),
            ),
            program("kube-scheduler", scheduler(layout)),
            program(
                "kube-proxy",
                vec![format!("--config={}", proxy_file.display())],
            ),
        ],
    }
}

/// Kernel settings that every machine needs to route for its pods.
#[must_use]
pub fn network_settings() -> BTreeMap<String, String> {
    let settings = [
        "ipv4/ip_forward",
        "ipv4/conf/all/rp_filter",
        "ipv4/conf/default/rp_filter",
    ];
    let values = ["1", "0", "0"];
    settings
        .into_iter()
        .zip(values)
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// A proxy's configuration file, and its text.
///
/// `node` is the Node object it watches: on the control plane, which is none, that of the first node will do.
#[must_use]
pub fn proxy(
    layout: &Layout,
    addresses: Addresses,
    machine: &str,
    node: &str,
) -> (PathBuf, String) {
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection:
  kubeconfig: {kubeconfig}
clusterCIDR: {pods}
mode: nftables
hostnameOverride: {node}
conntrack:
  maxPerCore: 0
metricsBindAddress: 127.0.0.1:10249
healthzBindAddress: 127.0.0.1:10256
",
        kubeconfig = kubeconfig(layout, "proxy").display(),
        pods = addresses.pods(),
    );
    (layout.machine(machine).join("kube-proxy.yaml"), text)
}

fn etcd(layout: &Layout) -> Vec<String> {
    let data = layout.machine(CONTROL_PLANE).join("etcd");
    vec![
        format!("--data-dir={}", data.display()),
        "--name=etcd".into(),
        "--listen-client-urls=http://127.0.0.1:2379".into(),
        "--advertise-client-urls=http://127.0.0.1:2379".into(),
        "--listen-peer-urls=http://127.0.0.1:2380".into(),
        "--initial-advertise-peer-urls=http://127.0.0.1:2380".into(),
        "--initial-cluster=etcd=http://127.0.0.1:2380".into(),
        // It holds a test cluster's state; the host losing power loses the test anyway.
        "--unsafe-no-fsync".into(),
        "--log-level=warn".into(),
    ]
}

fn apiserver(layout: &Layout, addresses: Addresses) -> Vec<String> {
    let pki = layout.pki().display().to_string();
    vec![
        format!("--advertise-address={}", addresses.control_plane()),
        "--secure-port=6443".into(),
        "--etcd-servers=http://127.0.0.1:2379".into(),
        format!("--service-cluster-ip-range={}", addresses.services()),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--allow-privileged=true".into(),
        format!("--client-ca-file={pki}/ca.crt"),
        format!("--tls-cert-file={pki}/apiserver.crt"),
        format!("--tls-private-key-file={pki}/apiserver.key"),
        format!("--kubelet-certificate-authority={pki}/ca.crt"),
        format!("--kubelet-client-certificate={pki}/apiserver-kubelet.crt"),
        format!("--kubelet-client-key={pki}/apiserver-kubelet.key"),
        // Nobody resolves the nodes' names.
        "--kubelet-preferred-address-types=InternalIP".into(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--service-account-key-file={pki}/service-account.pub"),
        format!("--service-account-signing-key-file={pki}/service-account.key"),
        "--profiling=false".into(),
    ]
}

fn controller_manager(layout: &Layout, addresses: Addresses) -> Vec<String> {
    let pki = layout.pki().display().to_string();
    let kubeconfig = kubeconfig(layout, "controller-manager")
        .display()
        .to_string();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".into(),
        "--leader-elect=false".into(),
        "--use-service-account-credentials".into(),
        format!("--root-ca-file={pki}/ca.crt"),
        format!("--service-account-private-key-file={pki}/service-account.key"),
        format!("--cluster-signing-cert-file={pki}/ca.crt"),
        format!("--cluster-signing-key-file={pki}/ca.key"),
        format!("--cluster-cidr={}", addresses.pods()),
        format!("--node-monitor-grace-period={NODE_GRACE}"),
        "--node-monitor-period=1s".into(),
        // It makes this folder; the default is one of the host's.
        format!(
            "--flex-volume-plugin-dir={}",
            layout
                .machine(CONTROL_PLANE)
                .join("volume-plugins")
                .display()
        ),
        "--profiling=false".into(),
    ]
}

fn scheduler(layout: &Layout) -> Vec<String> {
    let kubeconfig = kubeconfig(layout, "scheduler").display().to_string();
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".into(),
        "--leader-elect=false".into(),
        "--profiling=false".into(),
    ]
}
