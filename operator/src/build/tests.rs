//! What the built objects must have, whatever the spec says.

use super::*;
use crate::crd::{Bootstrap, CoordCluster, Storage};
use crate::observe::Observed;
use crate::plan::MemberChild;
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
fn only_the_seed_may_bootstrap_and_all_others_know_where_to_ask() {
    let desired = desired();
    let bootstrap = Bootstrap {
        seed: 0,
        token: "token".to_owned(),
    };
    let args = |ordinal, is_seed| {
        let child = MemberChild {
            is_seed,
            is_voter: false,
            may_create_volume: true,
        };
        let set = stateful_set(&desired, ordinal, &child, Some(&bootstrap));
        set.spec
            .and_then(|s| s.template.spec)
            .and_then(|p| p.containers[0].args.clone())
            .unwrap_or_default()
    };
    let seed = args(0, true);
    assert!(seed.contains(&"--initial-cluster-state=new".to_owned()));
    assert!(seed.contains(
        &"--initial-cluster=demo-0=http://demo-0-0.demo-peers.default.svc:2380".to_owned()
    ));
    assert!(seed.contains(&"--initial-cluster-token=token".to_owned()));
    let joiner = args(1, false);
    assert!(joiner.contains(&"--initial-cluster-state=existing".to_owned()));
    assert!(joiner.contains(
        &"--initial-cluster=demo-1=http://demo-1-0.demo-peers.default.svc:2380,demo-peers=http://demo-peers.default.svc:2380"
            .to_owned()
    ));
}
