//! One obstacle stops one thing, and is quoted: frozen kinds, quotas, webhooks, stripped labels, changes under writes.
//! Needs root. Each test has an operator of its own, a process of this host.
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

use objects::{delete, merge, put};
use trial::{NAME, Trial, alone, condition, is_at_rest, members, spec, with};

/// A policy that refuses `operations` on `resources` of the trial's namespace, and its binding.
fn policy(trial: &Trial, group: &str, resource: &str, operations: &[&str]) -> [Value; 2] {
    let name = format!("{}-{resource}", trial.namespace);
    let kind = "admissionregistration.k8s.io/v1";
    [
        json!({
            "apiVersion": kind, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {"resourceRules": [{
                    "apiGroups": [group], "apiVersions": ["v1"], "operations": operations, "resources": [resource],
                }]},
                "validations": [{"expression": "false", "message": format!("{resource} are frozen")}],
            },
        }),
        json!({
            "apiVersion": kind, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {
                "policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": {
                    "kubernetes.io/metadata.name": trial.namespace,
                }}},
            },
        }),
    ]
}

/// How many server-side applies the API server has answered. Only the operator sends them while a test waits.
async fn applies(trial: &Trial) -> f64 {
    let text = trial
        .kubernetes
        .run("kubectl get --raw /metrics".to_owned())
        .await
        .unwrap();
    let lines = text.lines().filter(|line| {
        line.starts_with("apiserver_request_total") && line.contains(r#"verb="APPLY""#)
    });
    lines
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_at_rest_is_read_and_not_written() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("rest", spec(3)).await.unwrap();
    sleep(Duration::from_secs(5)).await;
    let version = trial.get().await.unwrap()["metadata"]["resourceVersion"].clone();
    let before = applies(&trial).await;
    sleep(Duration::from_secs(35)).await;
    assert_eq!(applies(&trial).await, before, "applies that change nothing");
    assert_eq!(
        trial.get().await.unwrap()["metadata"]["resourceVersion"],
        version
    );
    trial.finish(writer, 50).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_kind_and_a_foreign_budget_stop_no_roll_and_no_growth() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("frozen", spec(3)).await.unwrap();
    let policy = policy(&trial, "", "services", &["UPDATE"]);
    for object in &policy {
        put(&trial.kubernetes, object).await.unwrap();
    }
    // Two ways to say the same exclude each other, so that an apply of ours alone is refused for ever.
    let patch = r#"{"spec":{"minAvailable":null,"maxUnavailable":1}}"#;
    trial
        .kubectl(&format!("patch pdb {NAME} --type=merge --patch={patch}"))
        .await
        .unwrap();
    // The policy takes a moment to be known, and then also refuses what the operator would put back.
    sleep(Duration::from_secs(5)).await;
    let stripped = format!("label service {NAME}-client coord.dev/cluster-");
    assert!(
        trial.kubectl(&stripped).await.is_err(),
        "the policy does not hold yet"
    );

    trial
        .apply(&with("server", json!({"logLevel": "warn"})))
        .await
        .unwrap();
    trial.ready().await.unwrap();
    trial.scale(5).await.unwrap();
    trial.ready().await.unwrap();
    let budget = trial
        .kubectl(&format!("get pdb {NAME} --output=jsonpath={{.spec}}"))
        .await
        .unwrap();
    assert!(
        budget.contains(r#""minAvailable":3"#) && !budget.contains("maxUnavailable"),
        "{budget}"
    );
    for object in &policy {
        delete(&trial.kubernetes, object).await.unwrap();
    }
    trial.finish(writer, 100).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_policy_refuses_is_quoted_tried_rarely_and_done_afterwards() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("refused", spec(3)).await.unwrap();
    let policy = policy(&trial, "", "services", &["CREATE"]);
    for object in &policy {
        put(&trial.kubernetes, object).await.unwrap();
    }
    sleep(Duration::from_secs(5)).await;
    // Its clients' address goes with the Service.
    writer.finish(20).await.unwrap();
    trial
        .kubectl(&format!("delete service {NAME}-client"))
        .await
        .unwrap();
    trial
        .until_told("Stalled", &["services are frozen"])
        .await
        .unwrap();
    let cluster = trial.get().await.unwrap();
    let (is_ready, _, message) = condition(&cluster, "Ready");
    assert!(!is_ready && !message.contains("ErrorResponse"), "{message}");
    let before = applies(&trial).await;
    sleep(Duration::from_secs(30)).await;
    let tries = applies(&trial).await - before;
    assert!(tries <= 10.0, "{tries} tries in half a minute");
    for object in &policy {
        delete(&trial.kubernetes, object).await.unwrap();
    }
    trial.ready().await.unwrap();
    trial.is_one_cluster().await.unwrap();
    trial.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_a_quota_refuses_is_quoted_within_a_minute() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("quota", spec(3)).await.unwrap();
    let mut quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": trial.namespace},
        "spec": {"hard": {"pods": "3"}},
    });
    put(&trial.kubernetes, &quota).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    trial.scale(5).await.unwrap();
    let took = trial
        .until_told("Progressing", &["exceeded quota: few"])
        .await
        .unwrap();
    assert!(took < Duration::from_secs(60), "after {took:?}");
    // Of two that wait the one that may run joins, and the rest comes with the next room.
    quota["spec"]["hard"]["pods"] = json!("4");
    put(&trial.kubernetes, &quota).await.unwrap();
    trial
        .until(|cluster| {
            let rows = cluster["status"]["replicas"].as_i64();
            if rows == Some(4) {
                Ok(())
            } else {
                Err(format!("{rows:?} voters"))
            }
        })
        .await
        .unwrap();
    quota["spec"]["hard"]["pods"] = json!("6");
    put(&trial.kubernetes, &quota).await.unwrap();
    trial.ready().await.unwrap();
    trial.finish(writer, 100).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_that_is_down_is_quoted_and_costs_one_member_at_most() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("webhook", spec(3)).await.unwrap();
    let hook = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": trial.namespace},
        "webhooks": [{
            "name": "gone.coord.dev", "admissionReviewVersions": ["v1"], "sideEffects": "None",
            "failurePolicy": "Fail", "timeoutSeconds": 3,
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": trial.namespace}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "clientConfig": {"service": {"name": "gone", "namespace": trial.namespace, "path": "/"}},
        }],
    });
    put(&trial.kubernetes, &hook).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    trial
        .apply(&with("server", json!({"logLevel": "warn"})))
        .await
        .unwrap();
    let took = trial
        .until_told("Degraded", &["gone.coord.dev"])
        .await
        .unwrap();
    assert!(took < Duration::from_secs(75), "after {took:?}");
    let cluster = trial.get().await.unwrap();
    assert_eq!(
        cluster["status"]["healthyReplicas"], 2,
        "one member at most"
    );
    delete(&trial.kubernetes, &hook).await.unwrap();
    trial.ready().await.unwrap();
    trial.finish(writer, 50).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_that_somebody_stripped_are_put_back_and_no_member_changes() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("labels", spec(3)).await.unwrap();
    let before = members(&trial.get().await.unwrap());
    let ours =
        "coord.dev/cluster- coord.dev/member- app.kubernetes.io/component- app.kubernetes.io/name-";
    for object in [
        format!("service {NAME}-client"),
        format!("pdb {NAME}"),
        format!("pvc data-{NAME}-1-0"),
        format!("sts {NAME}-0"),
        format!("pod {NAME}-2-0"),
    ] {
        trial
            .kubectl(&format!("label {object} {ours}"))
            .await
            .unwrap();
    }
    let labelled =
        format!("get services,pdb,pvc,sts,pods --selector=coord.dev/cluster={NAME} --output=name");
    // Two Services, a budget, three disks, StatefulSets and pods.
    trial
        .until_kubectl(&labelled, |said| said.lines().count() == 12)
        .await
        .unwrap();
    trial.ready().await.unwrap();
    assert_eq!(members(&trial.get().await.unwrap()), before);
    trial.finish(writer, 50).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_options_and_images_change_under_writes_and_a_bad_one_stops_at_one() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("edits", spec(3)).await.unwrap();
    let mut wanted = with(
        "resources",
        json!({"requests": {"cpu": "10m", "memory": "32Mi"}}),
    );
    trial.apply(&wanted).await.unwrap();
    trial.ready().await.unwrap();
    wanted["server"] = json!({"heartbeatMilliseconds": 120, "electionMilliseconds": 1200});
    trial.apply(&wanted).await.unwrap();
    trial.ready().await.unwrap();

    let mut bad = wanted.clone();
    bad["image"] = json!("coord.dev/no-such-image:1");
    bad["imagePullPolicy"] = json!("Never");
    trial.apply(&bad).await.unwrap();
    trial
        .until_told("Degraded", &["ErrImageNeverPull"])
        .await
        .unwrap();
    sleep(Duration::from_secs(10)).await;
    let cluster = trial.get().await.unwrap();
    assert_eq!(
        cluster["status"]["healthyReplicas"], 2,
        "it stops at the first"
    );
    trial.apply(&wanted).await.unwrap();
    trial.ready().await.unwrap();
    trial.finish(writer, 200).await.unwrap();
}

/// The older version is this build under an older tag: what is tried is what the operator gives it, and that it rolls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_down_and_up_again_rolls_with_the_flags_that_each_knows() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("version", spec(3)).await.unwrap();
    let before = members(&trial.get().await.unwrap());
    let older = trial.kubernetes.server_tagged("0.0.9").await.unwrap();
    let args = "get pods --output=jsonpath={.items[*].spec.containers[0].args}";
    for (image, owners) in [(older, 0), (trial.kubernetes.server_image(), 3)] {
        trial.apply(&with("image", json!(image))).await.unwrap();
        trial.ready().await.unwrap();
        let said = trial.kubectl(args).await.unwrap();
        assert_eq!(said.matches("--coord-owner=").count(), owners, "{said}");
        assert_eq!(said.matches("--name=").count(), 3, "{said}");
    }
    assert_eq!(members(&trial.get().await.unwrap()), before);
    trial.finish(writer, 100).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_cluster_that_cannot_be_read_stops_nobody_else() {
    let _alone = alone().await;
    let (trial, mut operator, writer) = Trial::running("unread", spec(3)).await.unwrap();
    // A value of a newer CRD, left behind by a rollback of the operator.
    let levels = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/server/properties/logLevel/enum";
    let add = format!(r#"[{{"op":"add","path":"{levels}/-","value":"trace"}}]"#);
    let crd = "kubectl patch crd coordclusters.coord.dev --type=json --patch=";
    trial.kubernetes.run(format!("{crd}{add}")).await.unwrap();
    sleep(Duration::from_secs(3)).await;
    let mut strange = spec(1);
    strange["server"] = json!({"logLevel": "trace"});
    trial
        .kubernetes
        .apply(&trial.namespace, "strange", &strange)
        .await
        .unwrap();
    operator.kill().unwrap();
    let _operator = trial.operators.start("after", &[]).unwrap();
    // Its clients' address goes with the Service.
    writer.finish(20).await.unwrap();
    trial
        .kubectl(&format!("delete service {NAME}-client"))
        .await
        .unwrap();
    let told = trial
        .kubernetes
        .wait_for(&trial.namespace, trial::READY, || async {
            let strange = trial.kubernetes.get(&trial.namespace, "strange").await?;
            let (_, reason, message) = condition(&strange, "Stalled");
            let service = trial.kubectl("get services --output=name").await?;
            let is_back = service.contains(&format!("{NAME}-client"));
            let is_told = reason == "Unreadable";
            Ok(if is_back && is_told {
                Ok(())
            } else {
                Err(format!("{service}; {message}"))
            })
        })
        .await;
    trial.kubectl("delete coordcluster strange").await.unwrap();
    let remove = format!(r#"[{{"op":"remove","path":"{levels}/4"}}]"#);
    trial
        .kubernetes
        .run(format!("{crd}{remove}"))
        .await
        .unwrap();
    told.unwrap();
    trial.until(is_at_rest).await.unwrap();
    trial.is_one_cluster().await.unwrap();
    trial.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_grow_under_writes_late_or_never_and_the_size_may_go_back() {
    let _alone = alone().await;
    let trial = Trial::new("grow").await.unwrap();
    let class = json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": trial.namespace},
        "provisioner": "rancher.io/local-path", "volumeBindingMode": "WaitForFirstConsumer",
        "reclaimPolicy": "Delete", "allowVolumeExpansion": true,
    });
    put(&trial.kubernetes, &class).await.unwrap();
    let _operator = trial.operators.start("operator", &[]).unwrap();
    let sized = |size: &str, level: &str| {
        let mut spec = spec(3);
        spec["storage"] = json!({"size": size, "storageClassName": trial.namespace});
        spec["server"] = json!({"logLevel": level});
        spec
    };
    trial.apply(&sized("64Mi", "info")).await.unwrap();
    trial.ready().await.unwrap();
    let writer = trial.writer("grow").await.unwrap();

    // Nobody resizes: that is told, a roll goes on meanwhile, and the size can be taken back.
    trial.apply(&sized("10Ti", "info")).await.unwrap();
    trial.until_told("StorageHealthy", &["10Ti"]).await.unwrap();
    let (is_ready, reason, _) = condition(&trial.get().await.unwrap(), "Ready");
    assert!(!is_ready, "Ready: {reason}");
    trial.apply(&sized("10Ti", "warn")).await.unwrap();
    let args = "get pods --output=jsonpath={.items[*].spec.containers[0].args}";
    trial
        .until_kubectl(args, |said| said.matches("--log-level=warn").count() == 3)
        .await
        .unwrap();
    trial.apply(&sized("128Mi", "warn")).await.unwrap();

    // And late, one disk after the other, somebody does.
    for n in 0..3 {
        let claim = format!("data-{NAME}-{n}-0");
        merge(
            &trial.kubernetes,
            &json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": claim, "namespace": trial.namespace},
                "status": {"capacity": {"storage": "128Mi"}},
            }),
            Some("status"),
        )
        .await
        .unwrap();
    }
    trial.ready().await.unwrap();
    // Below what the disks have there is no way back.
    assert!(
        trial
            .kubernetes
            .apply(&trial.namespace, NAME, &sized("64Mi", "warn"))
            .await
            .is_err()
    );
    delete(&trial.kubernetes, &class).await.unwrap();
    trial.finish(writer, 100).await.unwrap();
}
