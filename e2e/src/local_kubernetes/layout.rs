//! The name of an instance and the place of its files. Pure: nothing here touches the machine.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Result, ensure};

/// The nodes of an instance, in order; node `i` lives in zone `ZONES[i]`.
pub const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// The zone of each node, as its `topology.kubernetes.io/zone` label says it.
pub const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
/// The machine that runs the API server and its store.
pub const CONTROL_PLANE: &str = "cp";
/// The namespace that holds only the bridge between the machines.
pub const SWITCH: &str = "net";

/// Names the folder above the instances' files and the cgroup above their cgroups.
pub const FAMILY: &str = "coord-kubernetes";

/// The name of an instance: 1 to 10 of `a-z 0-9 -`, starting with a letter.
///
/// Ten, because `NAME` is also the name of the link on the host, and the kernel allows 15.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceName(String);

impl FromStr for InstanceName {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let fits = (1..=10).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        ensure!(
            fits,
            "instance name {text:?}: use 1 to 10 of a-z, 0-9 and '-', starting with a letter"
        );
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Every name and path of one instance.
#[derive(Debug, Clone)]
pub struct Layout {
    /// The instance that the names are of.
    pub name: InstanceName,
    family_dir: PathBuf,
}

impl Layout {
    /// The names of instance `name`, with its files under `/var/lib/coord-kubernetes`.
    ///
    /// Not under a checkout's `target`: the name alone must find them, and `cargo clean` must not pull the disks out
    /// from under a running cluster.
    #[must_use]
    pub fn new(name: InstanceName) -> Self {
        let family_dir = Path::new("/var/lib").join(FAMILY);
        Self { name, family_dir }
    }

    /// The folder above all instances' files.
    #[must_use]
    pub fn family_dir(&self) -> &Path {
        &self.family_dir
    }

    /// The folder that holds every file of this instance.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.family_dir.join(self.name.to_string())
    }

    /// The programs of this instance, `kubectl`, `etcdctl` and `helm` among them: for `PATH`.
    #[must_use]
    pub fn bin(&self) -> PathBuf {
        self.root().join("bin")
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.root().join("kubeconfig")
    }

    /// Certificates and keys.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.root().join("pki")
    }

    /// The files of one machine: its disks, configuration and logs.
    #[must_use]
    pub fn machine(&self, machine: &str) -> PathBuf {
        self.root().join(machine)
    }

    /// The name of a machine's network namespace.
    #[must_use]
    pub fn namespace(&self, machine: &str) -> String {
        format!("{}-{machine}", self.name)
    }

    /// The file that holds a machine's network namespace.
    #[must_use]
    pub fn namespace_file(&self, machine: &str) -> PathBuf {
        crate::netns::file(&self.namespace(machine))
    }

    /// The link that joins the host to the instance's bridge.
    #[must_use]
    pub fn host_link(&self) -> String {
        self.name.to_string()
    }

    /// The cgroup of the whole instance, below each controller's root.
    #[must_use]
    pub fn cgroup(&self) -> String {
        format!("{FAMILY}/{}", self.name)
    }

    /// The cgroup of one machine, below each controller's root.
    #[must_use]
    pub fn machine_cgroup(&self, machine: &str) -> String {
        format!("{}/{machine}", self.cgroup())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_name_fits_a_link_and_a_path() {
        for good in ["coord", "e2e-1", "a", "abcdefghij"] {
            assert_eq!(good.parse::<InstanceName>().unwrap().to_string(), good);
        }
        for bad in ["", "-a", "1a", "A", "a/b", "a.b", "abcdefghijk", "a b"] {
            assert!(bad.parse::<InstanceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn two_instances_share_no_name() {
        let [a, b] = ["a", "b"].map(|name| Layout::new(name.parse().unwrap()));
        assert_ne!(a.root(), b.root());
        assert_ne!(a.cgroup(), b.cgroup());
        assert_ne!(a.host_link(), b.host_link());
        assert_ne!(a.namespace("n1"), b.namespace("n1"));
    }
}
