//! The local Kubernetes itself: it comes up, survives what tests do to it, and leaves nothing behind. Needs root.
#![expect(
    clippy::unwrap_used,
    reason = "clippy lets only the test functions themselves unwrap, not what they call"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use coord_e2e::local_kubernetes::run::sh;
use coord_e2e::local_kubernetes::steps::Steps;
use coord_e2e::local_kubernetes::{Instance, Node};

/// Of its own, beside `make up` and the operator's tests.
const NAME: &str = "e2e-self";

/// Takes the instance down, however the test ends.
struct Down(Instance);

impl Drop for Down {
    fn drop(&mut self) {
        if let Err(error) = self.0.down() {
            eprintln!("taking {NAME} down: {error:#}");
        }
    }
}

#[test]
fn an_instance_comes_up_loses_nodes_and_leaves_nothing() {
    let instance = Instance::named(NAME.parse().unwrap());
    instance.down().unwrap();
    assert_eq!(traces(&instance), BTreeSet::new(), "before the test");

    let instance = Down(instance);
    instance.0.up_in(&mut Steps::new(Instance::STEPS)).unwrap();
    for kind in ["link", "route", "namespace", "cgroup", "process", "file"] {
        let found = traces(&instance.0);
        assert!(
            found.iter().any(|trace| trace.starts_with(kind)),
            "looks for {kind}: {found:?}"
        );
    }

    let mut again = Steps::new(Instance::STEPS);
    instance.0.up_in(&mut again).unwrap();
    assert_eq!(again.changed(), 0, "a second run changes nothing");

    a_killed_node_comes_back(&instance.0);
    a_cut_node_runs_on(&instance.0);
    what_a_killed_run_left_is_repaired(&instance.0);

    instance.0.down().unwrap();
    assert_eq!(traces(&instance.0), BTreeSet::new(), "after the test");
    assert!(!instance.0.down().unwrap(), "a second down finds nothing");
}

fn a_killed_node_comes_back(instance: &Instance) {
    let node = instance.node("n1").unwrap();
    node.kill().unwrap();
    assert!(!node.is_running().unwrap());
    wait_for_ready(instance, &node, false);
    node.start().unwrap();
    wait_for_ready(instance, &node, true);
}

fn a_cut_node_runs_on(instance: &Instance) {
    let node = instance.node("n2").unwrap();
    node.cut().unwrap();
    assert!(node.is_cut().unwrap());
    wait_for_ready(instance, &node, false);
    assert!(node.is_running().unwrap());
    node.heal().unwrap();
    wait_for_ready(instance, &node, true);
}

/// As if someone had killed everything: the files, namespaces and cgroups are there, and nothing runs.
fn what_a_killed_run_left_is_repaired(instance: &Instance) {
    let identity = || {
        let line = "get namespace default --output=jsonpath={.metadata.uid}";
        instance.kubectl(line).unwrap()
    };
    let before = identity();
    for machine in ["n1", "n3", "cp"] {
        let ids = sh(&format!("ip netns pids {NAME}-{machine}")).unwrap();
        for id in ids.split_whitespace() {
            // Children may be gone by the time it is their turn.
            let _ = sh(&format!("kill -KILL {id}"));
        }
    }
    instance.up_in(&mut Steps::new(Instance::STEPS)).unwrap();
    assert_eq!(before, identity(), "it is the same cluster, with its data");
}

fn wait_for_ready(instance: &Instance, node: &Node, wanted: bool) {
    let limit = Instant::now() + Duration::from_secs(180);
    loop {
        let line = format!("get node {} --no-headers", node.name());
        let is_ready = instance
            .kubectl(&line)
            .is_ok_and(|line| line.contains(" Ready"));
        if is_ready == wanted {
            return;
        }
        assert!(
            Instant::now() < limit,
            "node {}: Ready is {is_ready}",
            node.name()
        );
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Everything on this machine that bears the instance's name.
fn traces(instance: &Instance) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut look = |kind: &str, text: &str| {
        let own = text.lines().filter(|line| line.contains(NAME));
        found.extend(own.map(|line| format!("{kind}: {line}")));
    };
    look("link", &sh("ip -oneline link show").unwrap());
    look("route", &sh("ip route show table all").unwrap());
    look("namespace", &names("/run/netns"));
    look("mount", &fs::read_to_string("/proc/self/mounts").unwrap());
    for hierarchy in names("/sys/fs/cgroup").lines() {
        look(
            "cgroup",
            &names(&format!("/sys/fs/cgroup/{hierarchy}/coord-kubernetes")),
        );
    }
    look("cgroup", &names("/sys/fs/cgroup/coord-kubernetes"));
    look("process", &command_lines());
    look(
        "file",
        &names(&instance.layout().family_dir().display().to_string()),
    );
    found
}

/// The contents of a folder, one name a line; nothing if it is not there.
fn names(folder: &str) -> String {
    let Ok(entries) = fs::read_dir(folder) else {
        return String::new();
    };
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.collect::<Vec<_>>().join("\n")
}

/// Of all processes, one a line.
fn command_lines() -> String {
    let ids = names("/proc");
    let ids = ids
        .lines()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()));
    let read = |id: &str| fs::read(Path::new("/proc").join(id).join("cmdline")).unwrap_or_default();
    let lines = ids.map(|id| String::from_utf8_lossy(&read(id)).replace(['\0', '\n'], " "));
    lines.collect::<Vec<_>>().join("\n")
}
