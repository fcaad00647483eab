//! Namespaces, links, addresses and routes of an instance.
//!
//! Everything but one link and its routes lives in namespaces, and the bridge is in one too: no rule of the host's
//! firewall is touched or met. Deleting the namespaces deletes all of it.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result, bail, ensure};

use super::addresses::{Addresses, Range};
use super::files::write;
use super::layout::{CONTROL_PLANE, Layout, NODES, SWITCH};
use super::run::sh;
use crate::netns;

/// The interface of every machine.
const INTERFACE: &str = "eth0";

/// Chooses the instance's addresses, or returns those it has.
///
/// Errors: everything is taken, or something on the host has taken the addresses since the instance was made.
pub fn addresses(layout: &Layout) -> Result<Addresses> {
    let file = layout.root().join("subnet");
    let has_link = host_link_exists(layout);
    if let Ok(text) = fs::read_to_string(&file) {
        let second = text
            .trim()
            .parse()
            .with_context(|| format!("read {}", file.display()))?;
        let ours = Addresses { second };
        ensure!(
            has_link || ours.is_free(&used()?),
            "the addresses of instance {0}, 10.{second}.0.0/16, are now used by something else on this host; \
             take the instance down and up again (its data goes with it)",
            layout.name
        );
        return Ok(ours);
    }
    let Some(ours) = Addresses::choose(&used()?) else {
        bail!("no free 10.X.0.0/16 on this host: take an instance down first");
    };
    write(&file, &ours.second.to_string())?;
    Ok(ours)
}

/// The host's own addresses and routes.
fn used() -> Result<Vec<Range>> {
    let routes = sh("ip -4 route show table all")?;
    let routes = routes.lines().filter_map(|line| {
        let types = ["local", "broadcast", "unreachable", "blackhole"];
        let destination = line.split_whitespace().find(|word| !types.contains(word))?;
        Range::parse(destination)
    });
    Ok(routes.collect())
}

/// Makes what is missing. Returns true if something was.
///
/// It heals a node that was cut off.
pub fn up(layout: &Layout, addresses: Addresses) -> Result<bool> {
    let switch = layout.namespace(SWITCH);
    let mut changed = netns::ensure(&switch)?;
    changed |= netns::ensure_bridge(&switch)?;
    changed |= join_host(layout, addresses)?;
    changed |= join(layout, CONTROL_PLANE, addresses.control_plane().to_string())?;
    for (index, node) in (0..).zip(NODES) {
        changed |= join(layout, node, addresses.node(index).to_string())?;
    }
    for machine in std::iter::once(CONTROL_PLANE).chain(NODES) {
        let namespace = layout.namespace(machine);
        // For processes of the machine itself: the kernel wants a route before the proxy's rules rewrite the address.
        // There is no default route: nothing leaves the instance.
        let services = addresses.services();
        sh(&format!(
            "ip -n {namespace} route replace {services} dev {INTERFACE}"
        ))?;
        for (index, node) in (0..).zip(NODES) {
            if node != machine {
                let (pods, via) = (addresses.node_pods(index), addresses.node(index));
                sh(&format!("ip -n {namespace} route replace {pods} via {via}"))?;
            }
        }
    }
    Ok(changed)
}

/// The host reaches nodes and pods directly, and Services through the control plane's proxy.
fn join_host(layout: &Layout, addresses: Addresses) -> Result<bool> {
    let link = layout.host_link();
    let address = format!("{}/24", addresses.host());
    let missing = netns::join_host(&layout.namespace(SWITCH), &link, &address)?;
    for (index, _) in (0..).zip(NODES) {
        let (pods, via) = (addresses.node_pods(index), addresses.node(index));
        sh(&format!("ip route replace {pods} via {via} dev {link}"))?;
    }
    let (services, via) = (addresses.services(), addresses.control_plane());
    sh(&format!("ip route replace {services} via {via} dev {link}"))?;
    Ok(missing)
}

fn join(layout: &Layout, machine: &str, address: String) -> Result<bool> {
    let (switch, namespace) = (layout.namespace(SWITCH), layout.namespace(machine));
    netns::join(
        &switch,
        machine,
        &namespace,
        INTERFACE,
        &format!("{address}/24"),
    )
}

/// Takes a machine's link down: it runs on and nobody hears it.
pub fn cut(layout: &Layout, machine: &str) -> Result<()> {
    sh(&format!(
        "ip -n {} link set {machine} down",
        layout.namespace(SWITCH)
    ))
    .map(drop)
}

/// Takes a machine's link up again.
pub fn heal(layout: &Layout, machine: &str) -> Result<()> {
    sh(&format!(
        "ip -n {} link set {machine} up",
        layout.namespace(SWITCH)
    ))
    .map(drop)
}

/// True if the machine's link is down.
pub fn is_cut(layout: &Layout, machine: &str) -> Result<bool> {
    let link = sh(&format!(
        "ip -n {} -oneline link show {machine}",
        layout.namespace(SWITCH)
    ))?;
    Ok(!link.contains(",UP"))
}

/// The process ids of everything that runs in the machine's namespace; none if there is no such namespace.
pub fn processes(layout: &Layout, machine: &str) -> Result<Vec<i32>> {
    netns::processes(&layout.namespace(machine))
}

/// The machines of this instance that have a namespace.
pub fn namespaces(layout: &Layout) -> BTreeSet<String> {
    let machines = [SWITCH, CONTROL_PLANE].into_iter().chain(NODES);
    machines
        .filter(|machine| layout.namespace_file(machine).exists())
        .map(ToOwned::to_owned)
        .collect()
}

/// Removes links and namespaces. Nothing may run in them any more.
pub fn down(layout: &Layout) -> Result<()> {
    // A veth dies with its other end, but the kernel does that some time after the namespace: not by then, but now.
    netns::remove_host_link(&layout.host_link())?;
    for machine in namespaces(layout) {
        netns::remove(&layout.namespace(&machine))?;
    }
    Ok(())
}

/// True if the host has the instance's link.
#[must_use]
pub fn host_link_exists(layout: &Layout) -> bool {
    netns::link_exists(None, &layout.host_link())
}
