//! Clients that ask for much and take nothing: what waits for them is bounded, and others are served.

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{prefix, put, watch, watch_prefix};
use coord_e2e::cluster::{Cluster, Kind, eventually};
use coord_e2e::hostile::bystander::Bystander;
use coord_e2e::hostile::memory::Bound;
use coord_e2e::hostile::raw::{self, INITIAL_WINDOW_SIZE, Raw, flag, frame, kind};
use coord_proto::etcd::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use prost::Message;

const MIB: usize = 1 << 20;
const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";
/// A client that lets nothing be sent to its streams.
const TAKES_NOTHING: &[(u16, u32)] = &[(INITIAL_WINDOW_SIZE, 0)];
/// Bytes that calls may hold in all, twice: the answer that is encoded stands beside the rows that were read for it.
const HELD_MAX: usize = 2 * 256 * MIB;

async fn one() -> Result<(Cluster, Client, u32)> {
    let mut cluster = Cluster::start(Kind::Processes(1)).await?;
    let process = cluster.process_id(0)?;
    let client = cluster.client()?;
    Ok((cluster, client, process))
}

/// Writes `count` values of `bytes`.
async fn fill(client: &Client, count: usize, bytes: usize) -> Result<()> {
    let value = "x".repeat(bytes);
    for number in 0..count {
        client.put(put(&format!("big/{number:06}"), &value)).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_ranges_that_nobody_reads_do_not_pile_up() -> Result<()> {
    const KEYS: usize = 64;
    let (cluster, client, process) = one().await?;
    fill(&client, KEYS, MIB).await?;
    let bystander = Bystander::begin(cluster.client()?).await?;
    let bound = Bound::above_now(process, HELD_MAX as u64)?;
    // 160 answers of 64 MiB: ten gigabytes.
    let mut stalled = Vec::new();
    for _ in 0..40 {
        let mut raw = Raw::open(&cluster.endpoint(0), TAKES_NOTHING).await?;
        raw.drain();
        for stream in [1, 3, 5, 7] {
            raw.send(&raw::call(stream, RANGE, &prefix("big/"))).await?;
        }
        stalled.push(raw);
    }
    // A client that reads is served in the end: those that do not are cut off, or refused.
    let found = eventually("a large range beside them", || async {
        Ok(client.range(prefix("big/")).await?.kvs.len())
    });
    assert_eq!(found.await?, KEYS);
    bystander.end().await?;
    bound.check()?;
    drop(stalled);
    Ok(())
}

/// An open watch stream with one watcher.
fn watch_call(stream: u32, request: pb::WatchCreateRequest) -> Vec<u8> {
    let request = pb::WatchRequest {
        request_union: Some(RequestUnion::CreateRequest(request)),
    };
    let data = raw::message(&request.encode_to_vec());
    [
        raw::open_call(stream, WATCH),
        frame(kind::DATA, flag::NONE, stream, &data),
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watchers_that_read_nothing_do_not_pile_up_and_others_miss_nothing() -> Result<()> {
    const VALUES: usize = 256;
    let (cluster, client, process) = one().await?;
    let mut reader = cluster.client()?.watch();
    reader.create(watch_prefix("big/")).await?;
    let mut stalled = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::open(&cluster.endpoint(0), TAKES_NOTHING).await?;
        raw.drain();
        for stream in (1..100).step_by(2) {
            raw.send(&watch_call(stream, watch_prefix("big/"))).await?;
        }
        stalled.push(raw);
    }
    let bystander = Bystander::begin(cluster.client()?).await?;
    let bound = Bound::above_now(process, HELD_MAX as u64)?;
    // 64 MiB for each of a thousand streams.
    let writes = async { fill(&client, VALUES, MIB / 4).await };
    let reads = async { reader.events(VALUES).await };
    let ((), events) = tokio::try_join!(writes, reads)?;
    let keys: Vec<_> = events
        .iter()
        .filter_map(|event| Some(event.kv.as_ref()?.key.clone()))
        .collect();
    assert!(keys.is_sorted(), "in order");
    assert_eq!(keys.len(), VALUES);
    bystander.end().await?;
    bound.check()?;
    drop(stalled);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_at_most_fifty_thousand_watchers() -> Result<()> {
    const WATCHERS: i64 = 50_000;
    let (cluster, client, process) = one().await?;
    let bystander = Bystander::begin(cluster.client()?).await?;
    let bound = Bound::above_now(process, 160 * MIB as u64)?;
    let mut stream = client.watch();
    for number in 0..=WATCHERS {
        let key = format!("w/{}", number % 1000);
        stream.send(RequestUnion::CreateRequest(watch(&key)));
    }
    for _ in 0..WATCHERS {
        let answer = stream.next().await?;
        ensure!(answer.created && !answer.canceled, "{answer:?}");
    }
    let last = stream.next().await?;
    assert!(last.created && last.canceled);
    assert_eq!(
        last.cancel_reason,
        "etcdserver: too many watchers on one stream"
    );
    // Fifty of them watch this key.
    client.put(put("w/999", "x")).await?;
    let events = stream.events(50).await.context("one event each")?;
    assert_eq!(events.len(), 50);
    bystander.end().await?;
    bound.check()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_that_nobody_reads_end_their_connection() -> Result<()> {
    let (cluster, client, process) = one().await?;
    let bystander = Bystander::begin(client).await?;
    let bound = Bound::above_now(process, 64 * MIB as u64)?;
    // Plain HTTP: answers are written one after the other, until the socket takes no more.
    let mut raw = Raw::connect(&cluster.endpoint(0)).await?;
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1000);
    let sending = async {
        loop {
            raw.send(&request).await?;
        }
    };
    let ended: Result<()> = sending.await;
    ensure!(ended.is_err(), "it takes any number of requests");
    bystander.end().await?;
    bound.check()?;
    Ok(())
}
