//! Requests that are larger than a segment of the log, where `--max-request-bytes` takes them.

use anyhow::{Context, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{put, range, watch};
use coord_e2e::cluster::claims::{self, Claim, refused};
use coord_e2e::cluster::{Cluster, Kind, eventually};
use tonic::Code;

/// More than a segment of the log takes.
const LARGE: usize = 6 << 20;

/// A value of `bytes` that differs from others of another `number`.
fn value(number: usize, bytes: usize) -> String {
    let line = format!("{number:07}\n");
    line.repeat(bytes / line.len())
}

fn largest() -> String {
    value(0, 16 << 20)
}

fn large(number: usize) -> String {
    value(number, LARGE)
}

async fn holds(client: &Client, key: &str, value: &str) -> anyhow::Result<()> {
    let found = client.get(key).await?;
    let found = found.with_context(|| format!("{key} is there"))?;
    ensure!(found == value, "{key} holds {} other bytes", found.len());
    Ok(())
}

#[test]
fn a_value_of_16_mib_is_written_watched_and_replicated_and_outlives_restarts() {
    claims::run(async {
        let flags = [
            ("max-request-bytes", "33554432"),
            ("snapshot-catchup-entries", "20"),
            // An unoptimised member on a busy machine takes a second for what is milliseconds else.
            ("election-timeout", "5000"),
            ("heartbeat-interval", "500"),
        ];
        let mut cluster = Cluster::start_with(Kind::Processes(3), &flags).await?;
        let follower = cluster.follower().await?;
        let leader = cluster.leader().await?;
        a_watcher_gets_it(&cluster, follower).await?;
        let too_large = "v".repeat(33_554_433);
        let refused = refused(cluster.client()?.put(put("k", &too_large)).await);
        let text = "etcdserver: request is too large";
        assert_eq!(refused, (Code::InvalidArgument, text.to_owned()));

        // By the log.
        cluster.kill(follower).await?;
        let client = cluster.client_of(leader)?;
        for number in 1..3 {
            client.put(put("log", &large(number))).await?;
        }
        cluster.restart(follower).await?;
        holds(&cluster.client_of(follower)?, "log", &large(2)).await?;

        // By the state: the log is cut.
        cluster.kill(follower).await?;
        let client = cluster.client_of(cluster.leader().await?)?;
        client.put(put("state", &large(3))).await?;
        eventually("the others have cut their logs", || async {
            for number in 0..60 {
                client.put(put("small", &number.to_string())).await?;
            }
            let others = (0..cluster.len()).filter(|index| *index != follower);
            let longest: Vec<u64> = others.map(|index| longest(&cluster, index)).collect();
            ensure!(
                longest.iter().all(|bytes| *bytes < LARGE as u64),
                "{longest:?}"
            );
            Ok(())
        })
        .await?;
        cluster.restart(follower).await?;
        holds(&cluster.client_of(follower)?, "state", &large(3)).await?;
        assert!(cluster.has_said(follower, "receiving a snapshot"));

        with_a_smaller_setting(&mut cluster).await
    });
}

/// Bytes of the longest segment of a member's log.
fn longest(cluster: &Cluster, index: usize) -> u64 {
    let folder = std::fs::read_dir(cluster.data_dir(index).join("wal"));
    let files = folder.into_iter().flatten().flatten();
    let lengths = files.filter_map(|file| file.metadata().ok());
    lengths.map(|about| about.len()).max().unwrap_or(0)
}

async fn a_watcher_gets_it(cluster: &Cluster, follower: usize) -> Claim {
    let client = cluster.client_of(follower)?;
    let mut watching = client.watching(watch("watched")).await?;
    client.put(put("watched", &largest())).await?;
    let events = watching.events(1).await?;
    let value = events[0].kv.as_ref().map(|kv| kv.value.clone());
    assert!(value.is_some_and(|value| value == largest().as_bytes()));
    for index in 0..cluster.len() {
        holds(&cluster.client_of(index)?, "watched", &largest()).await?;
    }
    Ok(())
}

/// One member takes small requests only, and all that it holds and is sent is larger.
async fn with_a_smaller_setting(cluster: &mut Cluster) -> Claim {
    let small = cluster.follower().await?;
    for index in 0..cluster.len() {
        cluster.kill(index).await?;
    }
    cluster.set_flag(small, "max-request-bytes", "1000000");
    for index in 0..cluster.len() {
        cluster.spawn(index)?;
    }
    for index in 0..cluster.len() {
        cluster.ready(index).await?;
    }
    let client = cluster.client_of(small)?;
    holds(&client, "watched", &largest()).await?;
    for (key, number) in [("log", 2), ("state", 3)] {
        holds(&client, key, &large(number)).await?;
    }
    let refused = refused(client.put(put("k", &"v".repeat(1_000_001))).await);
    let text = "etcdserver: request is too large";
    assert_eq!(refused, (Code::InvalidArgument, text.to_owned()));
    let other = (0..cluster.len())
        .find(|index| *index != small)
        .context("three")?;
    // They have just found a leader, and may look for another.
    let value = large(4);
    eventually("a large value is written", || async {
        cluster.client_of(other)?.put(put("later", &value)).await?;
        Ok(())
    })
    .await?;
    holds(&client, "later", &large(4)).await?;
    let answer = client.range(range("later")).await?;
    assert_eq!(answer.count, 1);
    Ok(())
}
