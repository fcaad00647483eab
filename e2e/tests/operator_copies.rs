//! A namespace is copied, disks and all, as backup programs do: the copy never serves as the original's cluster. Needs root.
//!
//! The operators are processes of this host, one for each namespace.
#![expect(
    clippy::unwrap_used,
    reason = "clippy lets only the test functions themselves unwrap, not what they call"
)]

#[path = "operator/disks.rs"]
mod disks;
#[path = "operator/objects.rs"]
mod objects;
#[path = "operator/trial.rs"]
mod trial;
#[path = "operator/writer.rs"]
mod writer;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::time::sleep;

use disks::{claim, copy, folder_of, keys_at, volume};
use objects::{delete, put};
use trial::{NAME, Trial, alone, condition, members, spec};

/// Long enough for servers to start on what they find and for the operator to look at it several times.
const A_WHILE: Duration = Duration::from_secs(20);

const MEMBERS: [&str; 3] = ["trial-0", "trial-1", "trial-2"];

/// A copied PersistentVolume, gone when dropped; the object stays until [`delete`].
struct Copy {
    volume: Value,
    folder: PathBuf,
}

impl Drop for Copy {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}

/// The claim of `member` and what is on its disk in another namespace, with the annotations that `keep` keeps.
async fn copied(from: &Trial, to: &Trial, member: &str, keep: fn(&str) -> bool) -> Result<Copy> {
    let (mut volume, claim) = (volume(from, member).await?, claim(from, member).await?);
    let own = folder_of(&volume)?;
    let name = format!("{}-{member}", to.namespace);
    let folder = own.with_file_name(&name);
    copy(&own, &folder)?;
    let mut annotations = claim["metadata"]["annotations"].clone();
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.retain(|key, _| key.starts_with("coord.dev/") && keep(key));
    }
    volume["metadata"] = json!({ "name": name });
    for kind in ["local", "hostPath"] {
        if volume["spec"][kind].is_object() {
            volume["spec"][kind]["path"] = json!(folder);
        }
    }
    volume["spec"]["persistentVolumeReclaimPolicy"] = json!("Retain");
    volume["spec"]["claimRef"] = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": claim["metadata"]["name"], "namespace": to.namespace,
    });
    let object = volume.as_object_mut().expect("an object");
    object.remove("status");
    put(&to.kubernetes, &volume).await?;
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": claim["metadata"]["name"], "namespace": to.namespace,
            "labels": claim["metadata"]["labels"], "annotations": annotations,
        },
        "spec": {
            "accessModes": claim["spec"]["accessModes"], "resources": claim["spec"]["resources"],
            "storageClassName": claim["spec"]["storageClassName"], "volumeName": name,
        },
    });
    put(&to.kubernetes, &claim).await?;
    Ok(Copy { volume, folder })
}

/// Copies all claims with their disks, and creates the CoordCluster over them; with the status of the original, or none.
async fn copy_namespace(
    original: &Trial,
    copy: &Trial,
    keep: fn(&str) -> bool,
    with_status: bool,
) -> Result<Vec<Copy>> {
    let mut copies = Vec::new();
    for member in MEMBERS {
        copies.push(copied(original, copy, member, keep).await?);
    }
    copy.apply(&spec(3)).await?;
    if with_status {
        let status = original.get().await?["status"].clone();
        let object = json!({
            "apiVersion": "coord.dev/v1alpha1", "kind": "CoordCluster",
            "metadata": {"name": NAME, "namespace": copy.namespace}, "status": status,
        });
        objects::merge(&copy.kubernetes, &object, Some("status")).await?;
    }
    Ok(copies)
}

/// The Raft term that `etcdctl endpoint status` reads through the client Service.
async fn term(trial: &Trial) -> Result<u64> {
    let endpoint = trial.kubernetes.endpoint(&trial.namespace, NAME).await?;
    let words = "endpoint status --write-out=json";
    let said = trial.kubernetes.etcdctl(&endpoint.url(), words).await?;
    let said: Value = serde_json::from_str(&said)?;
    let term = said[0]["Status"]["raftTerm"].as_u64();
    term.context("etcdctl says the Raft term")
}

async fn serves_nobody(trial: &Trial) {
    for member in MEMBERS {
        assert_eq!(keys_at(trial, member).await, None, "{member} serves");
    }
}

/// The original has the members that it had. A machine that is short of time may elect another leader once; copies that take
/// part do so again and again, for they answer for members that have voted.
async fn stands_as_before(original: &Trial, before: &Value, term_before: u64) {
    let elections = term(original).await.unwrap() - term_before;
    assert!(elections <= 1, "{elections} elections");
    let after = original.ready().await.unwrap();
    assert_eq!(members(&after), members(before));
}

async fn takes_away(copy: Trial, copies: &[Copy]) {
    for copied in copies {
        delete(&copy.kubernetes, &copied.volume).await.unwrap();
    }
    copy.end().await.unwrap();
}

/// A person deletes the copied claims, as the condition says; a new and empty cluster starts in the copy.
async fn starts_anew(trial: &Trial, old: &Value) {
    trial
        .kubectl("delete pvc --all --wait=false")
        .await
        .unwrap();
    trial
        .kubectl("delete pods --all --wait=false")
        .await
        .unwrap();
    let cluster = trial.ready().await.unwrap();
    assert_ne!(cluster["status"]["clusterId"], *old);
    assert_eq!(keys_at(trial, "trial-0").await, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_namespace_starts_no_member_and_says_whose_disks_it_has() {
    let _alone = alone().await;
    let (original, _operator, writer) = Trial::running("source", spec(3)).await.unwrap();
    let before = original.get().await.unwrap();
    let term_before = term(&original).await.unwrap();
    let copy = Trial::new("copy").await.unwrap();
    let copies = copy_namespace(&original, &copy, |_| true, false)
        .await
        .unwrap();
    let _second = copy.operators.start("second", &[]).unwrap();

    let whose = format!("{}/{NAME}", original.namespace);
    let told = [
        "was made for CoordCluster",
        whose.as_str(),
        "Delete that claim",
    ];
    copy.until_told("Stalled", &told).await.unwrap();
    sleep(A_WHILE).await;
    let (is_ready, _, message) = condition(&copy.get().await.unwrap(), "Ready");
    assert!(!is_ready, "{message}");
    assert_eq!(copy.kubectl("get pods --output=name").await.unwrap(), "");
    starts_anew(&copy, &before["status"]["clusterId"]).await;

    stands_as_before(&original, &before, term_before).await;
    takes_away(copy, &copies).await;
    original.finish(writer, 200).await.unwrap();
}

/// A backup program dropped the operator's mark and brought the status along: the data itself says whose it is, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_without_that_mark_is_refused_by_the_servers_and_says_so() {
    let _alone = alone().await;
    let (original, _operator, writer) = Trial::running("marked", spec(3)).await.unwrap();
    let before = original.get().await.unwrap();
    let term_before = term(&original).await.unwrap();
    let copy = Trial::new("unmarked").await.unwrap();
    let keep = |key: &str| key != "coord.dev/made-for";
    let copies = copy_namespace(&original, &copy, keep, true).await.unwrap();
    let _second = copy.operators.start("second", &[]).unwrap();

    let whose = format!("{}/{NAME}/trial-0", original.namespace);
    let told = ["holds the data of", whose.as_str(), "delete the claims"];
    copy.until_told("Stalled", &told).await.unwrap();
    sleep(A_WHILE).await;
    serves_nobody(&copy).await;
    let (is_ready, _, message) = condition(&copy.get().await.unwrap(), "Ready");
    assert!(!is_ready, "{message}");
    // The way out that the condition names.
    copy.kubectl(&format!("delete coordcluster {NAME}"))
        .await
        .unwrap();
    copy.kubectl("delete pvc --all --wait=false").await.unwrap();
    copy.until_kubectl("get pods,pvc --output=name", str::is_empty)
        .await
        .unwrap();
    copy.apply(&spec(3)).await.unwrap();
    starts_anew(&copy, &before["status"]["clusterId"]).await;

    stands_as_before(&original, &before, term_before).await;
    takes_away(copy, &copies).await;
    original.finish(writer, 200).await.unwrap();
}
