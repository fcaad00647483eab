//! Operators of two versions after each other: what an older one made is taken over without a restart, and what a newer one
//! recorded stays after a rollback. Needs root.
//!
//! No other version is released yet. Its objects are made by hand: additions of later versions are taken away, or fields
//! that this one does not know are put there.
#![expect(
    clippy::unwrap_used,
    reason = "clippy lets only the test functions themselves unwrap, not what they call"
)]

#[path = "operator/objects.rs"]
mod objects;
#[path = "operator/trial.rs"]
mod trial;
#[path = "operator/writer.rs"]
mod writer;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use objects::{merge, put};
use trial::{NAME, Trial, alone, members, spec, with};

const UIDS: &str = "get pods --output=jsonpath={.items[*].metadata.uid}";
const MEMBERS: [&str; 3] = ["trial-0", "trial-1", "trial-2"];

/// Changes the containers of a member's StatefulSet.
async fn change_template(trial: &Trial, member: &str, change: impl FnOnce(&mut Value)) {
    let said = trial
        .kubectl(&format!("get sts {member} --output=json"))
        .await;
    let set: Value = serde_json::from_str(&said.unwrap()).unwrap();
    let mut containers = set["spec"]["template"]["spec"]["containers"].clone();
    change(&mut containers[0]);
    let object = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet",
        "metadata": {"name": member, "namespace": trial.namespace},
        "spec": {"template": {"spec": {"containers": containers}}},
    });
    merge(&trial.kubernetes, &object, None).await.unwrap();
}

async fn change_status(trial: &Trial, status: Value) {
    let object = json!({
        "apiVersion": "coord.dev/v1alpha1", "kind": "CoordCluster",
        "metadata": {"name": NAME, "namespace": trial.namespace}, "status": status,
    });
    merge(&trial.kubernetes, &object, Some("status"))
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_operator_made_is_taken_over_and_no_pod_restarts() {
    let _alone = alone().await;
    let (trial, mut operator, writer) = Trial::running("older", spec(3)).await.unwrap();
    let before = members(&trial.get().await.unwrap());
    let pods = trial.kubectl(UIDS).await.unwrap();
    operator.kill().unwrap();
    for member in MEMBERS {
        // Its seed was told by its template to form the cluster, and no server whose data it must find.
        change_template(&trial, member, |container| {
            let args = container["args"].as_array_mut().unwrap();
            args.retain(|arg| !arg.as_str().unwrap().starts_with("--coord-owner="));
            for arg in args {
                let is_state = arg == "--initial-cluster-state=existing";
                if is_state && member == "trial-0" {
                    *arg = json!("--initial-cluster-state=new");
                }
            }
        })
        .await;
        for words in [
            format!("annotate pvc data-{member}-0 coord.dev/made-for-"),
            format!("label pod {member}-0 coord.dev/role-"),
        ] {
            trial.kubectl(&words).await.unwrap();
        }
    }
    trial.kubectl(&format!("delete pdb {NAME}")).await.unwrap();
    let unknown =
        json!({"serverImage": null, "serverVersion": null, "storage": null, "conditions": []});
    change_status(&trial, unknown).await;

    let _newer = trial.operators.start("newer", &[]).unwrap();
    let args = "get sts --output=jsonpath={.items[*].spec.template.spec.containers[0].args}";
    let is_todays = |said: &str| {
        said.matches("--coord-owner=").count() == 3
            && said.matches("--initial-cluster-state=existing").count() == 3
    };
    trial.until_kubectl(args, is_todays).await.unwrap();
    let marks = "get pvc --output=jsonpath={.items[*].metadata.annotations}";
    let whose = format!(r#""coord.dev/made-for":"{}/{NAME}""#, trial.namespace);
    let are_marked = |said: &str| said.matches(&whose).count() == 3;
    trial.until_kubectl(marks, are_marked).await.unwrap();
    let after = trial.ready().await.unwrap();
    assert!(after["status"]["serverImage"].is_string(), "{after}");
    trial.kubectl(&format!("get pdb {NAME}")).await.unwrap();
    let voters = "get pods --selector=coord.dev/role=voter --output=name";
    assert_eq!(trial.kubectl(voters).await.unwrap().lines().count(), 3);
    assert_eq!(trial.kubectl(UIDS).await.unwrap(), pods, "restarted");
    assert_eq!(members(&after), before);
    trial.finish(writer, 100).await.unwrap();
}

/// Adds a field to the CoordCluster's schema, or takes it away again.
async fn schema(trial: &Trial, patch: &str) -> anyhow::Result<()> {
    let line = format!("kubectl patch crd coordclusters.coord.dev --type=json --patch={patch}");
    trial.kubernetes.run(line).await.map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_newer_operator_recorded_stays_after_a_rollback_and_no_member_is_lost() {
    let _alone = alone().await;
    let (trial, mut operator, writer) = Trial::running("newer", spec(3)).await.unwrap();
    let before = members(&trial.get().await.unwrap());
    operator.kill().unwrap();
    let root = "/spec/versions/0/schema/openAPIV3Schema/properties";
    let fields = [
        format!("{root}/spec/properties/newField"),
        format!("{root}/status/properties/newRecord"),
    ];
    let add =
        |path: &String| format!(r#"{{"op":"add","path":"{path}","value":{{"type":"string"}}}}"#);
    let added: Vec<String> = fields.iter().map(add).collect();
    schema(&trial, &format!("[{}]", added.join(",")))
        .await
        .unwrap();
    sleep(Duration::from_secs(3)).await;

    let words = r#"patch coordcluster trial --type=merge --patch={"spec":{"newField":"kept"}}"#;
    trial.kubectl(words).await.unwrap();
    change_status(&trial, json!({"newRecord": "kept"})).await;
    for member in MEMBERS {
        change_template(&trial, member, |container| {
            container["env"] = json!([{"name": "NEWER", "value": "1"}]);
        })
        .await;
    }
    let newer = "coord.dev/newer=1";
    let all = "sts,services,pdb,pvc,pods --selector=coord.dev/cluster=trial";
    trial
        .kubectl(&format!("annotate {all} {newer}"))
        .await
        .unwrap();
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {
            "name": "trial-of-newer", "namespace": trial.namespace,
            "labels": {"coord.dev/cluster": NAME, "app.kubernetes.io/managed-by": "coord-operator"},
        },
        "spec": {"podSelector": {"matchLabels": {"coord.dev/cluster": NAME}}, "ingress": [{}]},
    });
    put(&trial.kubernetes, &policy).await.unwrap();

    let _older = trial.operators.start("rolled-back", &[]).unwrap();
    trial.ready().await.unwrap();
    trial
        .apply(&with("server", json!({"logLevel": "warn"})))
        .await
        .unwrap();
    let after = trial.ready().await.unwrap();
    assert_eq!(members(&after), before);
    assert_eq!(after["spec"]["newField"], "kept");
    assert_eq!(after["status"]["newRecord"], "kept");
    trial
        .kubectl("get networkpolicy trial-of-newer")
        .await
        .unwrap();
    let marks = "get pvc --output=jsonpath={.items[*].metadata.annotations}";
    let said = trial.kubectl(marks).await.unwrap();
    assert_eq!(said.matches("coord.dev/newer").count(), 3, "{said}");
    let remove = |path: &String| format!(r#"{{"op":"remove","path":"{path}"}}"#);
    let removed: Vec<String> = fields.iter().map(remove).collect();
    schema(&trial, &format!("[{}]", removed.join(",")))
        .await
        .unwrap();
    trial.finish(writer, 100).await.unwrap();
}
