//! Installs what the machines need from the operating system. Only Debian and its relatives; elsewhere it says what is missing.

use anyhow::{Result, bail, ensure};

use super::run::{cmd, is_installed, run};
use super::steps::{Notes, Outcome};

/// A program, or a file if it starts with `/`, and the Debian package that brings it.
const NEEDED: [(&str, &str); 12] = [
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
    ("/usr/lib/cni/ptp", "containernetworking-plugins"),
    ("nft", "nftables"),
    ("iptables", "iptables"),
    ("conntrack", "conntrack"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("/bin/busybox", "busybox-static"),
    ("strip", "binutils"),
    // Not for the Kubernetes: the server's tests record with it what a power cut would leave.
    ("strace", "strace"),
];

/// Installs the missing packages, and nothing if all programs are there.
///
/// Errors: not root, or `apt-get` failed, or this is not Debian and something is missing.
pub fn install(notes: &mut Notes) -> Result<Outcome> {
    require_root()?;
    install_missing(missing(|_| true), notes)
}

/// Installs what brings these programs, without a list of steps to show it in.
pub fn install_for(programs: &[&str]) -> Result<()> {
    require_root()?;
    let needed = missing(|program| programs.contains(&program));
    install_missing(needed, &mut Notes::new()).map(drop)
}

fn require_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "this needs root: it makes network namespaces, mounts and cgroups; run it with sudo"
    );
    Ok(())
}

fn install_missing(missing: Vec<&str>, notes: &mut Notes) -> Result<Outcome> {
    if missing.is_empty() {
        return Ok(Outcome::Already("all there".into()));
    }
    let list = missing.join(" ");
    if !is_installed("apt-get") {
        bail!(
            "missing: {list} (Debian's names). Install them with this system's package manager and try again"
        );
    }
    notes.say(&format!("apt-get install {list}"));
    run(&mut cmd(["apt-get", "update"]))?;
    let install = ["apt-get", "install", "--yes", "--no-install-recommends"];
    run(cmd(install.into_iter().chain(missing.iter().copied()))
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    Ok(Outcome::Done(format!("installed {list}")))
}

fn missing(is_wanted: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let mut packages: Vec<_> = NEEDED
        .iter()
        .filter(|(what, _)| is_wanted(what))
        .filter(|(what, _)| match what.strip_prefix('/') {
            Some(_) => !std::path::Path::new(what).exists(),
            None => !is_installed(what),
        })
        .map(|(_, package)| *package)
        .collect();
    packages.dedup();
    packages
}
