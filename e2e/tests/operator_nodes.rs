//! Nodes, disks and the API server fail under a cluster that is written to. Needs root.
//!
//! One test at a time breaks something that all share. The operator is a process of this host: it sees every fault.
#![expect(
    clippy::unwrap_used,
    reason = "clippy lets only the test functions themselves unwrap, not what they call"
)]

#[path = "operator/trial.rs"]
mod trial;
#[path = "operator/writer.rs"]
mod writer;

use std::time::Duration;

use coord_e2e::local_kubernetes::Node;
use serde_json::{Value, json};
use tokio::time::sleep;

use trial::{READY, Trial, alone, condition, is_at_rest, leader, members, spec, with};

/// Two of three serve, and the missing member is known to wait for its node.
fn serves_without(node: &str) -> impl Fn(&Value) -> Result<(), String> {
    move |cluster| {
        let (is_quorate, _, _) = condition(cluster, "Quorate");
        let (_, reason, message) = condition(cluster, "Degraded");
        let healthy = &cluster["status"]["healthyReplicas"];
        let is_explained = reason == "NodeLost" && message.contains(node);
        if is_quorate && *healthy == 2 && is_explained {
            return Ok(());
        }
        Err(format!(
            "quorate: {is_quorate}, {healthy} healthy, degraded: {reason}: {message}"
        ))
    }
}

/// Waits until the node is Ready, so that the next test finds it so.
async fn node_ready(trial: &Trial, node: &str) {
    trial
        .kubernetes
        .wait_for(&trial.namespace, READY, || async {
            let line = format!("kubectl get node {node} --no-headers");
            let said = trial.kubernetes.run(line).await?;
            Ok(if said.contains(" Ready") {
                Ok(())
            } else {
                Err(said)
            })
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_node_is_killed_and_comes_back() {
    let _alone = alone().await;
    breaks_and_returns("kill", Node::kill, Node::start).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_node_is_cut_off_and_comes_back() {
    let _alone = alone().await;
    breaks_and_returns("cut", Node::cut, Node::heal).await;
}

async fn breaks_and_returns(
    prefix: &str,
    fail: fn(&Node) -> anyhow::Result<()>,
    mend: fn(&Node) -> anyhow::Result<()>,
) {
    let (trial, _operator, writer) = Trial::running(prefix, spec(3)).await.unwrap();
    let before = trial.ready().await.unwrap();
    let node = leader(&before).unwrap()["node"]
        .as_str()
        .unwrap()
        .to_owned();

    trial.kubernetes.with_node(&node, fail).await.unwrap();
    let degraded = trial.until(serves_without(&node)).await.unwrap();
    assert_eq!(
        members(&degraded),
        members(&before),
        "nobody is given up for a node that may return"
    );
    let so_far = writer.count();
    trial
        .kubernetes
        .wait_for(&trial.namespace, READY, || async {
            let more = writer.count() - so_far;
            Ok(if more > 20 {
                Ok(())
            } else {
                Err(format!("{more} writes by two members"))
            })
        })
        .await
        .unwrap();

    trial.kubernetes.with_node(&node, mend).await.unwrap();
    let after = trial.ready().await.unwrap();
    assert_eq!(
        members(&after),
        members(&before),
        "the same members on their disks"
    );
    node_ready(&trial, &node).await;
    trial.finish(writer, 100).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_on_a_node_that_is_gone_is_replaced_on_another() {
    let _alone = alone().await;
    let mut short = spec(3);
    short["repair"] = json!({"lostNodeSeconds": 5});
    let (trial, _operator, writer) = Trial::running("gone", short).await.unwrap();
    let before = trial.ready().await.unwrap();
    let lost = leader(&before).unwrap();
    let node = lost["node"].as_str().unwrap().to_owned();

    trial.kubernetes.with_node(&node, Node::kill).await.unwrap();
    trial.until(serves_without(&node)).await.unwrap();
    // A person or a cloud deletes a node that will not come back.
    trial
        .kubernetes
        .run(format!("kubectl delete node {node}"))
        .await
        .unwrap();
    let after = trial.until_replaced(&lost).await.unwrap();
    let rows = after["status"]["members"].as_array().unwrap();
    assert!(
        rows.iter().all(|row| row["node"] != json!(node)),
        "{rows:?}"
    );

    // The machine comes back after all: its kubelet makes a node of that name again, and nothing else happens.
    trial
        .kubernetes
        .with_node(&node, Node::start)
        .await
        .unwrap();
    node_ready(&trial, &node).await;
    let last = trial.ready().await.unwrap();
    assert_eq!(members(&last), members(&after));
    trial.finish(writer, 100).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_means_a_new_member_under_a_new_id() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("disk", spec(3)).await.unwrap();
    let before = trial.ready().await.unwrap();
    let lost = leader(&before).unwrap();
    let name = lost["name"].as_str().unwrap();

    trial
        .kubectl(&format!("delete pvc data-{name}-0 --wait=false"))
        .await
        .unwrap();
    trial
        .kubectl(&format!("delete pod {name}-0 --wait=false"))
        .await
        .unwrap();
    let after = trial.until_replaced(&lost).await.unwrap();
    let (mut before, mut after) = (members(&before), members(&after));
    assert!(
        before.remove(name).is_some() && after.remove(name).is_some(),
        "{before:?} {after:?}"
    );
    assert_eq!(before, after, "the others are who they were");
    trial.finish(writer, 100).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_node_takes_one_member_and_a_second_drain_none() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("drain", spec(3)).await.unwrap();
    let before = trial.ready().await.unwrap();
    let drained = leader(&before).unwrap()["node"]
        .as_str()
        .unwrap()
        .to_owned();
    let rows = before["status"]["members"].as_array().unwrap();
    let others = rows.iter().filter(|row| row["node"] != json!(drained));
    let second = others
        .map(|row| row["node"].as_str().unwrap().to_owned())
        .next()
        .unwrap();
    // Only this cluster's pods: the others' budgets are none of this test's business.
    let drain = |node: &str, seconds: u32| {
        format!(
            "kubectl drain {node} --pod-selector=coord.dev/cluster --ignore-daemonsets --delete-emptydir-data --timeout={seconds}s"
        )
    };

    trial.kubernetes.run(drain(&drained, 120)).await.unwrap();
    let refused = trial
        .kubernetes
        .run(drain(&second, 5))
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("disruption budget"), "{refused}");
    let so_far = writer.count();
    while writer.count() < so_far + 20 {
        sleep(Duration::from_millis(50)).await;
    }

    for node in [&drained, &second] {
        trial
            .kubernetes
            .run(format!("kubectl uncordon {node}"))
            .await
            .unwrap();
    }
    let after = trial.ready().await.unwrap();
    assert_eq!(members(&after), members(&before));
    trial.finish(writer, 100).await.unwrap();
}

/// Made while a node takes no pods, two members have their disks on one. Each may start again there (a strict spread
/// had kept it from that for ever), and once the node takes pods they are parted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_members_on_one_node_roll_and_are_parted_once_another_is_free() {
    let _alone = alone().await;
    let trial = Trial::new("pair").await.unwrap();
    let listed = "kubectl get nodes --output=jsonpath={.items[*].metadata.name}";
    let nodes = trial.kubernetes.run(listed.to_owned()).await.unwrap();
    let closed = nodes.split_whitespace().last().unwrap().to_owned();
    let open = async |word: &str| {
        let line = format!("kubectl {word} {closed}");
        trial.kubernetes.run(line).await.unwrap();
    };
    open("cordon").await;
    let _operator = trial.operators.start("operator", &[]).unwrap();
    trial.apply(&spec(3)).await.unwrap();
    trial.ready().await.unwrap();
    trial
        .until_told(
            "Spread",
            &["SharedNode", "no other node is known to be free"],
        )
        .await
        .unwrap();
    let writer = trial.writer("pair").await.unwrap();
    trial
        .apply(&with("server", json!({"logLevel": "warn"})))
        .await
        .unwrap();
    trial.ready().await.unwrap();

    open("uncordon").await;
    trial.until_told("Spread", &["OwnNodes"]).await.unwrap();
    let after = trial.ready().await.unwrap();
    let rows = after["status"]["members"].as_array().unwrap();
    let places: std::collections::BTreeSet<&str> =
        rows.iter().filter_map(|row| row["node"].as_str()).collect();
    assert_eq!(places.len(), 3, "{rows:?}");
    trial.finish(writer, 100).await.unwrap();
}

/// The operator holds a lease here: what it may not renew in time it must not act on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_restarts_again_and_again_while_the_cluster_grows_and_shrinks() {
    let _alone = alone().await;
    let trial = Trial::new("api").await.unwrap();
    let admin = trial.kubernetes.site().kubeconfig().to_owned();
    let mut operator = trial
        .operators
        .start_with_lease("operator", &[], &admin)
        .unwrap();
    trial.apply(&spec(3)).await.unwrap();
    trial.ready().await.unwrap();
    let writer = trial.writer("api").await.unwrap();
    let mut restarts = 0;
    for replicas in [5, 3] {
        trial.scale(replicas).await.unwrap();
        for _ in 0..2 {
            let instance = trial.kubernetes.site().local().unwrap().clone();
            tokio::task::spawn_blocking(move || instance.kill_api_server())
                .await
                .unwrap()
                .unwrap();
            // Until it serves again: the next kill must hit a server that works.
            trial
                .kubernetes
                .wait_for(&trial.namespace, READY, || async {
                    trial
                        .kubernetes
                        .run("kubectl get --raw /readyz --request-timeout=2s".to_owned())
                        .await?;
                    Ok(Ok(()))
                })
                .await
                .unwrap();
            // An operator that could not renew its lease ends, and its Deployment starts it again.
            if operator.ended().unwrap().is_some() {
                restarts += 1;
                operator = trial
                    .operators
                    .start_with_lease("operator", &[], &admin)
                    .unwrap();
            }
        }
        let operators = tokio::sync::Mutex::new((&mut operator, &mut restarts));
        trial
            .kubernetes
            .wait_for(&trial.namespace, READY, || async {
                let mut operators = operators.lock().await;
                if operators.0.ended()?.is_some() {
                    *operators.1 += 1;
                    *operators.0 = trial.operators.start_with_lease("operator", &[], &admin)?;
                }
                Ok(is_at_rest(&trial.get().await?))
            })
            .await
            .unwrap();
    }
    eprintln!(
        "{}: the operator was started {restarts} times more",
        trial.namespace
    );
    trial.finish(writer, 100).await.unwrap();
}
