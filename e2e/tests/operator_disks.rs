//! Disks are emptied, exchanged and deleted under a cluster that is written to. Needs root.
//!
//! One test at a time breaks something that all share. The operator is a process of this host.
#![expect(
    clippy::unwrap_used,
    reason = "clippy lets only the test functions themselves unwrap, not what they call"
)]

#[path = "operator/disks.rs"]
mod disks;
#[path = "operator/trial.rs"]
mod trial;
#[path = "operator/writer.rs"]
mod writer;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::sleep;

use disks::{copy, empty, exchange, folder, keys_at};
use trial::{READY, Trial, alone, condition, is_at_rest, leader, members, spec, with};

/// Long enough for a server to start on what it finds and for the operator to look at it several times.
const A_WHILE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seed_whose_disk_was_emptied_in_place_founds_nothing_and_is_replaced() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("run", spec(3)).await.unwrap();
    let before = trial.ready().await.unwrap();
    let id = before["status"]["clusterId"].clone();
    let rows = before["status"]["members"].as_array().unwrap().clone();
    let seed = rows.iter().find(|row| row["name"] == "trial-0").unwrap();

    exchange(&trial, "trial-0", empty).await.unwrap();
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

    exchange(&trial, "trial-0", empty).await.unwrap();
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

/// Each would lose its disk with its restart: another takes its place first, so that there never are just two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_whose_claims_are_being_deleted_are_replaced_before_they_restart() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("going", spec(3)).await.unwrap();
    let before = members(&trial.get().await.unwrap());
    for n in 0..3 {
        let line = format!("delete pvc data-trial-{n}-0 --wait=false");
        trial.kubectl(&line).await.unwrap();
    }
    let told = ["ClaimDeleted", "data-trial-2-0"];
    trial.until_told("Degraded", &told).await.unwrap();
    // An image that does not run costs nobody a disk.
    let mut wanted = with("image", json!("coord.dev/no-such-image:1"));
    wanted["imagePullPolicy"] = json!("Never");
    trial.apply(&wanted).await.unwrap();
    trial
        .until_told(
            "Progressing",
            &["ErrImageNeverPull", "takes its place first"],
        )
        .await
        .unwrap();
    sleep(A_WHILE).await;
    let now = trial.get().await.unwrap();
    // The newcomer has no id yet.
    let mut left = members(&now);
    left.retain(|_, id| !id.is_empty());
    assert_eq!(left, before, "removed for an image that does not run");
    assert_eq!(now["status"]["healthyReplicas"], 3);

    let wanted = with("server", json!({"logLevel": "warn"}));
    trial.apply(&wanted).await.unwrap();
    let at_rest = |cluster: &Value| {
        let voters = cluster["status"]["replicas"].as_i64();
        assert!(voters >= Some(3), "{voters:?} voters");
        is_at_rest(cluster)
    };
    let after = members(&trial.until(at_rest).await.unwrap());
    let is_new = |id: &String| before.values().all(|old| old != id);
    assert!(after.values().all(is_new), "{before:?}, {after:?}");
    trial.finish(writer, 200).await.unwrap();
}

/// With two voters the loss of either disk would end the cluster, and nobody could repair it: there never are two.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_lost_while_one_grows_to_three_or_three_shrink_to_one_costs_no_write() {
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
    let cluster = trial.until(at_rest).await.unwrap();

    // Back to one, led by another than the one that stays, while the disk of a third is lost.
    let rows = cluster["status"]["members"].as_array().unwrap();
    let last = rows.last().unwrap()["name"].as_str().unwrap();
    let id = rows[1]["id"].as_str().unwrap();
    let leads = leader(&cluster).unwrap()["name"]
        .as_str()
        .unwrap()
        .to_owned();
    let pod = format!("{leads}-0");
    let url = trial
        .kubernetes
        .member_url(&trial.namespace, &pod)
        .await
        .unwrap();
    if rows[1]["role"] != "leader" {
        let words = format!("move-leader {id}");
        trial.kubernetes.etcdctl(&url, &words).await.unwrap();
    }
    trial.scale(1).await.unwrap();
    for object in [format!("pvc data-{last}-0"), format!("pod {last}-0")] {
        let line = format!("delete {object} --wait=false --ignore-not-found");
        trial.kubectl(&line).await.unwrap();
    }
    trial.until(at_rest).await.unwrap();
    trial.finish(writer, 100).await.unwrap();
}

/// The way out that conditions name: the claim of `trial-1` is deleted.
async fn is_replaced_without_its_claim(trial: &Trial) {
    let now = trial.get().await.unwrap();
    let rows = now["status"]["members"].as_array().unwrap();
    let lost = rows.iter().find(|row| row["name"] == "trial-1").unwrap();
    trial
        .kubectl("delete pvc data-trial-1-0 --wait=false")
        .await
        .unwrap();
    trial.until_replaced(lost).await.unwrap();
}

/// The directory of `other`, a pod's, is put in the place of that of a member, which runs on it.
async fn runs_on_the_directory_of(other: &str, trial: &Trial) {
    let other = folder(trial, other).await.unwrap();
    // While it is written to, so that it is no consistent copy: it must be refused before it is read.
    exchange(trial, "trial-1", |own| {
        empty(own)?;
        copy(&other.join("data"), &own.join("data"))
    })
    .await
    .unwrap();
    trial
        .until_told("Degraded", &["trial-1", "holds the data of"])
        .await
        .unwrap();
    assert_eq!(keys_at(trial, "trial-1").await, None, "it serves");
    is_replaced_without_its_claim(trial).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_on_another_members_directory_serves_nobody_and_is_named() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("other", spec(3)).await.unwrap();
    runs_on_the_directory_of("trial-2", &trial).await;
    trial.finish(writer, 200).await.unwrap();
}

/// O09f: it had served from it behind the client Service, and what it acknowledged was lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_on_another_clusters_directory_serves_nobody_and_is_named() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("strange", spec(3)).await.unwrap();
    let mut gone = spec(1);
    gone["storage"]["reclaimPolicy"] = json!("Delete");
    let (kubernetes, namespace) = (&trial.kubernetes, &trial.namespace);
    let other = kubernetes
        .apply_ready(namespace, "other", &gone, READY)
        .await;
    let before = members(&other.unwrap());
    runs_on_the_directory_of("other-0", &trial).await;
    let other = kubernetes.wait_ready(namespace, "other", READY).await;
    assert_eq!(members(&other.unwrap()), before);
    trial.kubectl("delete coordcluster other").await.unwrap();
    trial
        .until_kubectl("get pvc data-other-0-0 --ignore-not-found", str::is_empty)
        .await
        .unwrap();
    trial.finish(writer, 200).await.unwrap();
}

/// Its log is damaged: the server refuses to start on it, and on Kubernetes the way out is another than the server's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_on_a_damaged_disk_says_how_it_is_replaced() {
    let _alone = alone().await;
    let (trial, _operator, writer) = Trial::running("damage", spec(3)).await.unwrap();
    exchange(&trial, "trial-1", |own| {
        for file in std::fs::read_dir(own.join("data/wal"))? {
            let path = file?.path();
            let mut bytes = std::fs::read(&path)?;
            bytes
                .iter_mut()
                .skip(20_000)
                .take(4_000)
                .for_each(|byte| *byte ^= 0x5a);
            std::fs::write(&path, bytes)?;
        }
        Ok(())
    })
    .await
    .unwrap();
    let told = ["trial-1", "is damaged", "kubectl delete pvc data-trial-1-0"];
    trial.until_told("Degraded", &told).await.unwrap();
    is_replaced_without_its_claim(&trial).await;
    trial.finish(writer, 100).await.unwrap();
}
