//! What the built objects must have, whatever the spec says.

use super::*;
use crate::crd::{Bootstrap, CoordCluster, CoordClusterSpec, Scheduling, ServerOptions, Storage};
use crate::observe::Observed;
use crate::validate::{ServerImage, validate};

fn desired() -> Desired {
    let spec = CoordClusterSpec {
        replicas: 3,
        version: None,
        image: None,
        image_pull_policy: None,
        image_pull_secrets: Vec::new(),
        storage: Storage {
            size: "1Gi".to_owned(),
            storage_class_name: None,
            reclaim_policy: Default::default(),
        },
        resources: None,
        scheduling: Scheduling::default(),
        server: ServerOptions::default(),
        repair: Default::default(),
        paused: false,
    };
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
        let set = stateful_set(&desired, n, n == 0, Some(&bootstrap));
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
