//! The operator on a real Kubernetes: each claim of its documentation, with real pods, disks and clients. Needs root.
//!
//! All tests share one Kubernetes and one operator. Those that work on clusters hold the operator together; the one that
//! installs and removes charts has it alone.
#![expect(
    clippy::unwrap_used,
    reason = "clippy lets only the test functions themselves unwrap, not what they call"
)]

#[path = "operator/writer.rs"]
mod writer;

use std::time::Duration;

use coord_e2e::cluster::kubernetes::Kubernetes;
use serde_json::{Value, json};
use tokio::sync::RwLock;

use writer::Writer;

/// Several tests run beside each other on two cores.
const READY: Duration = Duration::from_secs(300);

/// Held shared by tests that need the operator, alone by the one that takes it away.
static OPERATOR: RwLock<()> = RwLock::const_new(());

fn spec(replicas: i32) -> Value {
    json!({"replicas": replicas, "storage": {"size": "64Mi"}})
}

fn names(cluster: &Value, role: &str) -> Vec<String> {
    let members = cluster["status"]["members"].as_array().unwrap();
    let of_role = members
        .iter()
        .filter(|member| member["role"].as_str().unwrap().eq_ignore_ascii_case(role));
    of_role
        .map(|member| member["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_member_serves_an_unmodified_etcd_client() {
    let _together = OPERATOR.read().await;
    let kubernetes = Kubernetes::connect().await.unwrap();
    let namespace = kubernetes.new_namespace("one").await.unwrap();
    let cluster = kubernetes
        .apply_ready(&namespace, "solo", &spec(1), READY)
        .await
        .unwrap();

    assert_eq!(names(&cluster, "Leader"), ["solo-0"]);
    assert_eq!(
        cluster["status"]["observedGeneration"],
        cluster["metadata"]["generation"]
    );
    let endpoint = kubernetes.endpoint(&namespace, "solo").await.unwrap();
    kubernetes
        .etcdctl(&endpoint.url(), "put hello world")
        .await
        .unwrap();
    let value = kubernetes
        .etcdctl(&endpoint.url(), "get hello --print-value-only")
        .await
        .unwrap();
    assert_eq!(value.trim(), "world");
    kubernetes.delete_namespace(&namespace).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scaling_from_one_to_five_and_back_to_three_loses_no_acknowledged_write() {
    let _together = OPERATOR.read().await;
    let kubernetes = Kubernetes::connect().await.unwrap();
    let namespace = kubernetes.new_namespace("scale").await.unwrap();
    kubernetes
        .apply_ready(&namespace, "grow", &spec(1), READY)
        .await
        .unwrap();
    let endpoint = kubernetes.endpoint(&namespace, "grow").await.unwrap();
    let writer = Writer::start(endpoint.url(), "scale");

    for replicas in [3, 5, 3] {
        kubernetes
            .scale(&namespace, "grow", replicas)
            .await
            .unwrap();
        kubernetes
            .wait_for(&namespace, READY, || async {
                // Ready comes with the last vote; those who leave are listed until their pods are gone.
                let cluster = kubernetes.get(&namespace, "grow").await?;
                let status = &cluster["status"];
                let is_current = status["observedGeneration"] == cluster["metadata"]["generation"];
                let members = status["members"].as_array().map_or(0, Vec::len);
                let is_done = is_current
                    && members == replicas as usize
                    && status["healthyReplicas"] == json!(replicas)
                    && status["replicas"] == json!(replicas);
                Ok(if is_done {
                    Ok(())
                } else {
                    Err(format!("{replicas} wanted: {status}"))
                })
            })
            .await
            .unwrap();
    }

    writer.finish(100).await.unwrap();
    kubernetes.delete_namespace(&namespace).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_comes_back_and_no_acknowledged_write_is_lost() {
    let _together = OPERATOR.read().await;
    let kubernetes = Kubernetes::connect().await.unwrap();
    let namespace = kubernetes.new_namespace("kill").await.unwrap();
    let cluster = kubernetes
        .apply_ready(&namespace, "trio", &spec(3), READY)
        .await
        .unwrap();
    let endpoint = kubernetes.endpoint(&namespace, "trio").await.unwrap();
    let writer = Writer::start(endpoint.url(), "kill");

    let leader = names(&cluster, "Leader").pop().unwrap();
    kubernetes
        .kill_pod(&namespace, &format!("{leader}-0"))
        .await
        .unwrap();
    kubernetes
        .wait_for(&namespace, READY, || async {
            let cluster = kubernetes.get(&namespace, "trio").await?;
            let healthy = cluster["status"]["healthyReplicas"].as_i64().unwrap_or(0);
            let leaders = names(&cluster, "Leader");
            let is_done = healthy == 3 && leaders.len() == 1;
            Ok(if is_done {
                Ok(())
            } else {
                Err(format!("{healthy} healthy, leaders {leaders:?}"))
            })
        })
        .await
        .unwrap();
    kubernetes
        .wait_ready(&namespace, "trio", READY)
        .await
        .unwrap();

    writer.finish(50).await.unwrap();
    kubernetes.delete_namespace(&namespace).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_created_again_over_its_disks_has_its_data() {
    let _together = OPERATOR.read().await;
    let kubernetes = Kubernetes::connect().await.unwrap();
    let namespace = kubernetes.new_namespace("adopt").await.unwrap();
    kubernetes
        .apply_ready(&namespace, "kept", &spec(3), READY)
        .await
        .unwrap();
    let endpoint = kubernetes.endpoint(&namespace, "kept").await.unwrap();
    kubernetes
        .etcdctl(&endpoint.url(), "put before deletion")
        .await
        .unwrap();
    let identity = "endpoint status --write-out=json";
    let cluster_id = |text: &str| -> Value {
        let status: Value = serde_json::from_str(text).unwrap();
        status[0]["Status"]["header"]["cluster_id"].clone()
    };
    let first = cluster_id(&kubernetes.etcdctl(&endpoint.url(), identity).await.unwrap());

    kubernetes.delete(&namespace, "kept", READY).await.unwrap();
    kubernetes
        .apply_ready(&namespace, "kept", &spec(3), READY)
        .await
        .unwrap();

    let endpoint = kubernetes.endpoint(&namespace, "kept").await.unwrap();
    let value = kubernetes
        .etcdctl(&endpoint.url(), "get before --print-value-only")
        .await
        .unwrap();
    assert_eq!(value.trim(), "deletion");
    assert_eq!(
        first,
        cluster_id(&kubernetes.etcdctl(&endpoint.url(), identity).await.unwrap())
    );
    kubernetes.delete_namespace(&namespace).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_cluster_is_left_alone() {
    let _together = OPERATOR.read().await;
    let kubernetes = Kubernetes::connect().await.unwrap();
    let namespace = kubernetes.new_namespace("pause").await.unwrap();
    kubernetes
        .apply_ready(&namespace, "still", &spec(1), READY)
        .await
        .unwrap();
    let mut paused = spec(3);
    paused["paused"] = json!(true);
    kubernetes
        .apply(&namespace, "still", &paused)
        .await
        .unwrap();
    kubernetes
        .wait_for(&namespace, READY, || async {
            let cluster = kubernetes.get(&namespace, "still").await?;
            let text = cluster["status"]["conditions"].to_string();
            let is_seen =
                cluster["status"]["observedGeneration"] == cluster["metadata"]["generation"];
            Ok(if is_seen && text.contains("aused") {
                Ok(())
            } else {
                Err(text)
            })
        })
        .await
        .unwrap();
    let cluster = kubernetes.get(&namespace, "still").await.unwrap();
    assert_eq!(cluster["status"]["members"].as_array().unwrap().len(), 1);
    kubernetes.delete_namespace(&namespace).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_charts_install_upgrade_and_uninstall_without_touching_members() {
    let _alone = OPERATOR.write().await;
    let kubernetes = Kubernetes::connect().await.unwrap();
    let namespace = kubernetes.new_namespace("helm").await.unwrap();
    let chart = |name: &str| format!("{}/../charts/{name}", env!("CARGO_MANIFEST_DIR"));
    let run = |line: String| {
        let kubernetes = kubernetes.clone();
        async move {
            tokio::task::spawn_blocking(move || kubernetes.site().run(&line))
                .await
                .unwrap()
        }
    };

    let cluster = chart("coord-cluster");
    let values = "--set replicas=1 --set storage.size=64Mi";
    let install = format!("helm install charted {cluster} --namespace={namespace} {values}");
    run(install).await.unwrap();
    kubernetes
        .wait_ready(&namespace, "charted", READY)
        .await
        .unwrap();
    let uid = format!(
        "kubectl get pod charted-0-0 --namespace={namespace} --output=jsonpath={{.metadata.uid}}"
    );
    let before = run(uid.clone()).await.unwrap();

    // A wrong value is refused by the chart's schema before anything is sent.
    let wrong = format!(
        "helm upgrade charted {cluster} --namespace={namespace} --set replicas=2 --set storage.size=64Mi"
    );
    let error = run(wrong).await.unwrap_err().to_string();
    assert!(error.contains("replicas"), "{error}");

    // An upgrade of the operator restarts the operator, and no member.
    let operator = chart("coord-operator");
    let upgrade = format!(
        "helm upgrade coord-operator {operator} --namespace=coord-system --reuse-values --set logLevel=debug --wait"
    );
    run(upgrade).await.unwrap();
    kubernetes
        .wait_ready(&namespace, "charted", READY)
        .await
        .unwrap();
    assert_eq!(before, run(uid.clone()).await.unwrap());

    // Without the operator the members serve on.
    run("helm uninstall coord-operator --namespace=coord-system --wait".to_owned())
        .await
        .unwrap();
    assert_eq!(before, run(uid).await.unwrap());
    let endpoint = kubernetes.endpoint(&namespace, "charted").await.unwrap();
    kubernetes
        .etcdctl(&endpoint.url(), "put alone serving")
        .await
        .unwrap();
    let again = kubernetes.clone();
    tokio::task::spawn_blocking(move || again.reinstall_operator())
        .await
        .unwrap()
        .unwrap();

    run(format!(
        "helm uninstall charted --namespace={namespace} --wait"
    ))
    .await
    .unwrap();
    kubernetes
        .wait_for(&namespace, READY, || async {
            let pods = run(format!(
                "kubectl get pods --namespace={namespace} --output=name"
            ))
            .await?;
            Ok(if pods.trim().is_empty() {
                Ok(())
            } else {
                Err(pods)
            })
        })
        .await
        .unwrap();
    kubernetes.delete_namespace(&namespace).await.unwrap();
}
