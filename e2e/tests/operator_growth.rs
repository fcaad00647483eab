//! Disks that are really full end every member, and growing them brings all back with all they acknowledged. Needs root.
//!
//! The disks are small file systems in memory, one a node; what grows them is a resizer of this test's own.

#[path = "operator/objects.rs"]
mod objects;
#[path = "operator/resizer.rs"]
mod resizer;
#[path = "operator/trial.rs"]
mod trial;
#[path = "operator/writer.rs"]
mod writer;

use std::time::Duration;

use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{put, range};
use coord_proto::etcd::etcdserverpb::PutRequest;
use serde_json::{Value, json};
use tokio::time::timeout;

use resizer::{Resizes, SmallDisks};
use trial::{NAME, Trial, alone, condition, members, spec};

/// A first segment of the log and the one after it, a state store that has just begun, and little more.
const SMALL_MEBIBYTES: u64 = 160;
const VALUE_BYTES: usize = 256 << 10;
/// Longer than an election, so that no leader is meant by it.
const PUT: Duration = Duration::from_secs(8);

/// Puts until none is acknowledged any more; returns how many were. Random bytes, since a store compresses.
async fn fill(client: &Client) -> usize {
    let value: Vec<u8> = std::iter::repeat_with(rand::random)
        .take(VALUE_BYTES)
        .collect();
    let (mut acknowledged, mut refused) = (0, 0);
    while refused < 3 {
        let put = PutRequest {
            value: value.clone().into(),
            ..put(&format!("full/{acknowledged}"), "")
        };
        match timeout(PUT, client.put(put)).await {
            Ok(Ok(_)) => (acknowledged, refused) = (acknowledged + 1, 0),
            Ok(Err(_)) | Err(_) => refused += 1,
        }
        assert!(acknowledged < 1000, "the disks do not fill up");
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_disks_that_ended_every_member_grow_and_bring_all_back() {
    let _alone = alone().await;
    let trial = Trial::new("full").await.unwrap();
    let disks = SmallDisks::new(&trial, SMALL_MEBIBYTES).await.unwrap();
    let _operator = trial.operators.start("operator", &[]).unwrap();
    let sized = |mebibytes: u64| {
        let mut spec = spec(3);
        let size = format!("{mebibytes}Mi");
        spec["storage"] = json!({"size": size, "storageClassName": trial.namespace});
        spec
    };
    trial.apply(&sized(SMALL_MEBIBYTES)).await.unwrap();
    let before = members(&trial.ready().await.unwrap());
    let endpoint = trial.kubernetes.endpoint(&trial.namespace, NAME).await;
    let client = Client::new(&[endpoint.unwrap().url()]).unwrap();
    let acknowledged = fill(&client).await;
    assert!(acknowledged > 40, "only {acknowledged}");
    let no_quorum = |cluster: &Value| {
        let (is_quorate, _, message) = condition(cluster, "Quorate");
        (!is_quorate).then_some(()).ok_or(message)
    };
    trial.until(no_quorum).await.unwrap();

    // Asked for without a quorum; nobody grows them, then somebody cannot, and the condition says why.
    trial.apply(&sized(400)).await.unwrap();
    let asked = "get pvc --output=jsonpath={.items[*].spec.resources.requests.storage}";
    trial
        .until_kubectl(asked, |said| said.matches("400Mi").count() == 3)
        .await
        .unwrap();
    trial
        .until_told("StorageHealthy", &["DisksGrow", "has not grown it yet"])
        .await
        .unwrap();
    disks.resizes(Resizes::Fails);
    trial
        .until_told("StorageHealthy", &["the pool has no room left", "set back"])
        .await
        .unwrap();

    // Late it grows, and all come back with all that they had acknowledged.
    disks.resizes(Resizes::Works);
    assert_eq!(members(&trial.ready().await.unwrap()), before);
    for number in 0..acknowledged {
        let key = format!("full/{number}");
        let found = client.range(range(&key)).await.unwrap();
        assert_eq!(found.count, 1, "{key} of {acknowledged} was acknowledged");
        assert_eq!(found.kvs[0].value.len(), VALUE_BYTES);
    }

    // And at once, under writes: nobody restarts for it.
    let uids = "get pods --output=jsonpath={.items[*].metadata.uid}";
    let pods = trial.kubectl(uids).await.unwrap();
    let writer = trial.writer("full-later").await.unwrap();
    trial.apply(&sized(480)).await.unwrap();
    trial.ready().await.unwrap();
    assert_eq!(trial.kubectl(uids).await.unwrap(), pods);
    writer.finish(100).await.unwrap();
    trial.is_one_cluster().await.unwrap();
    trial
        .kubectl(&format!("delete coordcluster {NAME}"))
        .await
        .unwrap();
    trial
        .until_kubectl("get pods --output=name", str::is_empty)
        .await
        .unwrap();
    trial.end().await.unwrap();
    disks.remove(&trial.kubernetes).await.unwrap();
}
