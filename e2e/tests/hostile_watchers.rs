//! Watchers by the ten thousand: what they hold is bounded, and one change costs no more than telling it.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{delete_to, put, watch, watch_prefix};
use coord_e2e::cluster::{Cluster, Kind};
use coord_e2e::hostile::bystander::Bystander;
use coord_e2e::hostile::memory::Bound;
use coord_proto::etcd::etcdserverpb as pb;
use futures::future::try_join_all;
use pb::watch_request::RequestUnion;

const MIB: u64 = 1 << 20;
/// Longest key that is stored.
const KEY_MAX: usize = 32_768;

async fn one() -> Result<(Cluster, Client, u32)> {
    let mut cluster = Cluster::start(Kind::Processes(1)).await?;
    let process = cluster.process_id(0)?;
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    Ok((cluster, client, process))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_watchers_are_bounded_each_and_in_all() -> Result<()> {
    const WATCHERS: usize = 8000;
    let (cluster, client, process) = one().await?;
    let bystander = Bystander::begin(cluster.client()?).await?;
    let bound = Bound::above_now(process, 192 * MIB)?;
    let mut stream = client.watch();
    let longest = "k".repeat(KEY_MAX);
    let behind = stream.create(watch(&format!("{longest}\0"))).await?;
    ensure!(!behind.canceled, "right behind the longest key: {behind:?}");
    for (key, end) in [
        (format!("{longest}xx"), String::new()),
        ("a".into(), format!("{longest}xx")),
    ] {
        let request = pb::WatchCreateRequest {
            range_end: end.into(),
            ..watch(&key)
        };
        let refused = stream.create(request).await?;
        let why = "etcdserver: key is too long: 32770 bytes, at most 32768 are stored";
        assert!(refused.created && refused.canceled);
        assert_eq!(
            (refused.watch_id, refused.cancel_reason.as_str()),
            (-1, why)
        );
    }
    // A quarter of a gigabyte, of which half is the share of a connection.
    for number in 0..WATCHERS {
        let key = format!("{number:08}{}", &longest[8..]);
        stream.send(RequestUnion::CreateRequest(watch(&key)));
    }
    let (mut made, mut refused) = (0, 0);
    for _ in 0..WATCHERS {
        let answer = stream.next().await?;
        assert!(answer.created, "{answer:?}");
        if answer.canceled {
            assert_eq!(answer.cancel_reason, "etcdserver: too many requests");
            refused += 1;
        } else {
            made += 1;
        }
    }
    println!("{made} were made, {refused} refused");
    ensure!(
        made > 2000 && refused > 2000,
        "{made} were made, {refused} refused"
    );
    bound.check()?;
    // Another connection has its own.
    cluster.client()?.watching(watch(&longest)).await?;
    bystander.end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_change_is_told_to_many_watchers_one_after_the_other() -> Result<()> {
    const KEYS: usize = 20_000;
    const WATCHERS: usize = 40;
    let (cluster, client, process) = one().await?;
    for first in (0..KEYS).step_by(100) {
        let puts =
            (first..first + 100).map(|number| client.put(put(&format!("many/{number:06}"), "x")));
        try_join_all(puts).await?;
    }
    let mut stream = client.watch();
    for number in 0..WATCHERS {
        let request = pb::WatchCreateRequest {
            fragment: number % 2 == 0,
            ..watch_prefix("many/")
        };
        stream.create(request).await?;
    }
    let bystander = Bystander::begin(cluster.client()?).await?;
    let bound = Bound::above_now(process, 96 * MIB)?;
    let deleted = client.delete(delete_to("many/", "many0")).await?;
    assert_eq!(deleted.deleted as usize, KEYS);
    let mut told = vec![0; WATCHERS];
    while told.iter().any(|told| *told < KEYS) {
        let response = stream.next().await?;
        ensure!(!response.canceled, "{response:?}");
        for event in &response.events {
            let kv = event.kv.as_ref().context("an event has a key")?;
            let told = &mut told[usize::try_from(response.watch_id)?];
            assert_eq!(kv.key, format!("many/{:06}", *told), "in order, once");
            *told += 1;
        }
    }
    client.put(put("many/x", "x")).await?;
    for _ in 0..WATCHERS {
        assert_eq!(stream.next().await?.events.len(), 1);
    }
    bystander.end().await?;
    bound.check()?;
    Ok(())
}

/// Its client reads nothing meanwhile, so the stream falls behind, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_watchers_of_one_key_cost_others_nothing_while_nobody_reads() -> Result<()> {
    const WATCHERS: usize = 20_000;
    const LONGEST: Duration = Duration::from_secs(1);
    let (cluster, client, process) = one().await?;
    let mut stream = client.watch();
    for _ in 0..WATCHERS {
        stream.send(RequestUnion::CreateRequest(watch("a")));
    }
    for _ in 0..WATCHERS {
        let answer = stream.next().await?;
        ensure!(answer.created && !answer.canceled, "{answer:?}");
    }
    let bystander = Bystander::begin(cluster.client()?).await?;
    let bound = Bound::above_now(process, 96 * MIB)?;
    let writer = cluster.client()?;
    for number in 0..20 {
        writer.put(put("a", &"x".repeat(200_000 + number))).await?;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let served = bystander.end().await?;
    ensure!(served.longest < LONGEST, "{served:?}");
    bound.check()?;
    Ok(())
}
