//! Demands on the built objects, whatever the spec says.

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use serde_json::json;

use super::*;
use crate::crd::{Bootstrap, CoordCluster};
use crate::model::version::Version;
use crate::observe::Observed;
use crate::validate::{ServerImage, validate};

fn desired() -> Desired {
    let spec = json!({ "replicas": 3, "storage": { "size": "1Gi" } });
    let spec = serde_json::from_value(spec).expect("a spec");
    let mut cluster = CoordCluster::new("demo", spec);
    cluster.metadata.namespace = Some("default".to_owned());
    cluster.metadata.uid = Some("uid".to_owned());
    let images = ServerImage {
        repository: "coord.dev/coord-server".to_owned(),
        tag: "0.1.0".to_owned(),
    };
    validate(&cluster, &Observed::default(), &images).expect("a valid spec")
}

/// A change here restarts every member of every cluster when the operator is upgraded. Don't.
#[test]
fn the_template_hash_of_a_given_spec_never_changes() {
    assert_eq!(desired().template_hash, "0f6532dfea81cd0c");
}

#[test]
fn no_template_lets_a_pod_form_a_cluster_and_each_says_whose_data_it_must_find() {
    let desired = desired();
    let bootstrap = Bootstrap {
        seed: 0,
        token: "token".to_owned(),
    };
    for n in 0..3 {
        let set = stateful_set(&desired, n, false, Some(&bootstrap));
        let args = set
            .spec
            .and_then(|s| s.template.spec)
            .and_then(|p| p.containers[0].args.clone())
            .unwrap_or_default();
        for wanted in [
            "--initial-cluster-state=existing".to_owned(),
            "--initial-cluster-token=token".to_owned(),
            format!("--coord-owner=default/demo/demo-{n}"),
            format!(
                "--initial-cluster=demo-{n}=http://demo-{n}-0.demo-peers.default.svc:2380,\
                 demo-peers=http://demo-peers.default.svc:2380"
            ),
        ] {
            assert!(args.contains(&wanted), "{wanted}: {args:?}");
        }
    }
}

/// Where it may be placed is strict, where it is placed already is not: else it may never start again on its own node.
#[test]
fn a_pod_whose_disk_is_tied_to_a_node_is_not_kept_from_it() {
    let rule = |is_placed| {
        let set = stateful_set(&desired(), 0, is_placed, None);
        let spec = set.spec.and_then(|s| s.template.spec).expect("a pod");
        let rules = spec.topology_spread_constraints.expect("a spread");
        let over_nodes = |r: &&TopologySpreadConstraint| r.topology_key == "kubernetes.io/hostname";
        let rule = rules.iter().find(over_nodes).expect("over nodes");
        rule.when_unsatisfiable.clone()
    };
    assert_eq!(rule(false), "DoNotSchedule");
    assert_eq!(rule(true), "ScheduleAnyway");
}

/// A roll back must not end at a flag that the older server never heard of.
#[test]
fn an_older_server_is_not_given_the_flags_of_a_newer_one() {
    let args = |version: &str| {
        let mut desired = desired();
        desired.server_version = Version::parse(version);
        let set = stateful_set(&desired, 0, false, None);
        let spec = set.spec.and_then(|s| s.template.spec).expect("a pod");
        spec.containers[0].args.clone().unwrap_or_default()
    };
    let owner = "--coord-owner=default/demo/demo-0".to_owned();
    assert!(args("0.1.0").contains(&owner));
    assert!(!args("0.0.9").contains(&owner));
    assert!(args("0.0.9").contains(&"--name=demo-0".to_owned()));
}
