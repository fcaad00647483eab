//! Disks are emptied, exchanged and deleted under a cluster that is written to. Needs root.
//!
//! One test at a time breaks something that all share. The operator is a process of this host.
#![expect(
    clippy::unwrap_used,
    reason = "clippy lets only the test functions themselves unwrap, not what they call"
)]

#[path = "operator/trial.rs"]
mod trial;
#[path = "operator/writer.rs"]
mod writer;

use std::path::PathBuf;
use std::time::Duration;

use coord_e2e::local_kubernetes::Node;
use serde_json::{Value, json};
use tokio::time::sleep;

use trial::{Trial, alone, condition, is_at_rest, leader, members, spec};

/// Long enough for a server to start on what it finds and for the operator to look at it several times.
const A_WHILE: Duration = Duration::from_secs(20);

/// The folder on this host that is behind a member's claim.
async fn folder(trial: &Trial, member: &str) -> PathBuf {
    let line = format!("get pvc data-{member}-0 --output=json");
    let claim: Value = serde_json::from_str(&trial.kubectl(&line).await.unwrap()).unwrap();
    let name = claim["spec"]["volumeName"].as_str().unwrap();
    let line = format!("kubectl get pv {name} --output=json");
    let volume: Value = serde_json::from_str(&trial.kubernetes.run(line).await.unwrap()).unwrap();
    let paths = ["/spec/local/path", "/spec/hostPath/path"];
    let path = paths.iter().find_map(|path| volume.pointer(path)).unwrap();
    PathBuf::from(path.as_str().unwrap())
}

fn empty(folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        std::fs::remove_dir_all(entry.unwrap().path()).unwrap();
    }
}

async fn node_of(trial: &Trial, member: &str) -> String {
    let line = format!("get pod {member}-0 --output=jsonpath={{.spec.nodeName}}");
    trial.kubectl(&line).await.unwrap().trim().to_owned()
}

/// The node of `member` loses power, its folder is emptied, and the node comes back: the same pod's container starts
/// again in place.
async fn empty_in_place(trial: &Trial, member: &str) {
    let (node, folder) = (node_of(trial, member).await, folder(trial, member).await);
    trial.kubernetes.with_node(&node, Node::kill).await.unwrap();
    empty(&folder);
    trial
        .kubernetes
        .with_node(&node, Node::start)
        .await
        .unwrap();
}

/// The keys in a member's own answer to a serializable read of everything; `None` if it does not serve.
async fn keys_at(trial: &Trial, member: &str) -> Option<usize> {
    let url = trial
        .kubernetes
        .member_url(&trial.namespace, &format!("{member}-0"))
        .await
        .ok()?;
    let words = "get --prefix --keys-only --consistency=s run --command-timeout=2s";
    let said = trial.kubernetes.etcdctl(&url, words).await.ok()?;
    Some(said.lines().filter(|line| !line.is_empty()).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_whose_disk_was_emptied_in_place_founds_nothing_and_is_replaced() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("run", spec(3)).await.unwrap();
    let before = trial.ready().await.unwrap();
    let id = before["status"]["clusterId"].clone();
    let rows = before["status"]["members"].as_array().unwrap().clone();
    let seed = rows.iter().find(|row| row["name"] == "trial-0").unwrap();

    empty_in_place(&trial, "trial-0").await;
    // A moment without a real leader: a list of one must not be believed in it.
    sleep(A_WHILE).await;
    assert_ne!(
        keys_at(&trial, "trial-0").await,
        Some(0),
        "it serves, and is empty"
    );
    let now = trial.get().await.unwrap();
    let leads = leader(&now).unwrap()["name"].as_str().unwrap().to_owned();
    trial
        .kubectl(&format!("delete pod {leads}-0 --wait=false"))
        .await
        .unwrap();
    let after = trial.until_replaced(seed).await.unwrap();
    assert_eq!(after["status"]["clusterId"], id);
    let (mut before, mut after) = (members(&before), members(&after));
    before.remove("trial-0");
    after.remove("trial-0");
    assert_eq!(before, after, "the others are who they were");
    trial.finish(writer, 200).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_member_on_an_emptied_disk_serves_nothing_and_says_so() {
    let _alone = alone().await;
    let trial = Trial::new("alone").await.unwrap();
    let _operator = trial.operators.start("operator", &[]).unwrap();
    trial.apply(&spec(1)).await.unwrap();
    trial.ready().await.unwrap();
    let endpoint = trial
        .kubernetes
        .endpoint(&trial.namespace, trial::NAME)
        .await
        .unwrap();
    trial
        .kubernetes
        .etcdctl(&endpoint.url(), "put run/0 kept")
        .await
        .unwrap();

    empty_in_place(&trial, "trial-0").await;
    let stalled = |cluster: &Value| {
        let (holds, _, message) = condition(cluster, "Stalled");
        let (is_ready, _, _) = condition(cluster, "Ready");
        let is_said = message.contains("trial-0") && message.contains("no disk with data is left");
        if holds && !is_ready && is_said {
            return Ok(());
        }
        Err(format!("stalled: {holds}, ready: {is_ready}: {message}"))
    };
    trial.until(stalled).await.unwrap();
    sleep(A_WHILE).await;
    let now = trial.get().await.unwrap();
    stalled(&now).unwrap();
    assert_eq!(keys_at(&trial, "trial-0").await, None, "it serves");
    trial.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_member_is_not_restarted_while_its_claim_is_being_deleted() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("claim", spec(1)).await.unwrap();
    trial
        .kubectl("delete pvc data-trial-0-0 --wait=false")
        .await
        .unwrap();
    trial
        .until_told("Degraded", &["ClaimDeleted", "data-trial-0-0"])
        .await
        .unwrap();
    let uid = "get pod trial-0-0 --output=jsonpath={.metadata.uid}";
    let before = trial.kubectl(uid).await.unwrap();
    let mut quiet = spec(1);
    quiet["server"] = json!({"logLevel": "warn"});
    trial.apply(&quiet).await.unwrap();
    trial
        .until_told("Progressing", &["holds the only copy of the data"])
        .await
        .unwrap();
    sleep(A_WHILE).await;
    assert_eq!(trial.kubectl(uid).await.unwrap(), before, "restarted");
    // The way out that the condition names: with company the member is replaced in order.
    quiet["replicas"] = json!(3);
    trial.apply(&quiet).await.unwrap();
    trial.ready().await.unwrap();
    trial.finish(writer, 200).await.unwrap();
}

/// With two voters the loss of either disk would end the cluster, and nobody could repair it: there never are two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_lost_while_one_grows_to_three_costs_no_write() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("growth", spec(1)).await.unwrap();
    trial.scale(3).await.unwrap();
    let joins = |cluster: &Value| {
        let added = members(cluster).into_iter();
        let mut others = added.filter(|(name, id)| name != "trial-0" && !id.is_empty());
        others.next().map(|(name, _)| name)
    };
    let cluster = trial
        .until(|cluster| {
            joins(cluster)
                .map(drop)
                .ok_or_else(|| "nobody joins".to_owned())
        })
        .await
        .unwrap();
    let first = joins(&cluster).unwrap();
    for object in [format!("pvc data-{first}-0"), format!("pod {first}-0")] {
        let line = format!("delete {object} --wait=false");
        trial.kubectl(&line).await.unwrap();
    }
    let at_rest = |cluster: &Value| {
        assert_ne!(cluster["status"]["replicas"], json!(2), "two voters");
        is_at_rest(cluster)
    };
    trial.until(at_rest).await.unwrap();
    trial.finish(writer, 100).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_on_another_members_directory_serves_nobody_and_is_named() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("other", spec(3)).await.unwrap();
    let (own, other) = (
        folder(&trial, "trial-1").await,
        folder(&trial, "trial-2").await,
    );
    let node = node_of(&trial, "trial-1").await;
    trial.kubernetes.with_node(&node, Node::kill).await.unwrap();
    empty(&own);
    // While it is written to, so that it is no consistent copy: it must be refused before it is read.
    let copied = std::process::Command::new("cp")
        .args(["--archive", "--no-target-directory"])
        .args([other.join("data"), own.join("data")])
        .status();
    assert!(copied.unwrap().success());
    trial
        .kubernetes
        .with_node(&node, Node::start)
        .await
        .unwrap();
    trial
        .until_told("Degraded", &["trial-1", "holds the data of"])
        .await
        .unwrap();
    assert_eq!(keys_at(&trial, "trial-1").await, None, "it serves");
    // The way out that the condition names.
    let before = trial.get().await.unwrap();
    let rows = before["status"]["members"].as_array().unwrap().clone();
    let lost = rows.iter().find(|row| row["name"] == "trial-1").unwrap();
    trial
        .kubectl("delete pvc data-trial-1-0 --wait=false")
        .await
        .unwrap();
    trial.until_replaced(lost).await.unwrap();
    trial.finish(writer, 200).await.unwrap();
}
