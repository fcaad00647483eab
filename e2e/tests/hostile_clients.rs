//! Honest clients at their worst: at their top speed, with all their calls out of time at once, with bursts of small
//! messages. None of them loses its connection.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{put, range, watch};
use coord_e2e::clients::{http, programs};
use coord_e2e::cluster::{Cluster, Kind};
use coord_proto::etcd::etcdserverpb as pb;
use futures::future::{join_all, try_join_all};
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use tokio::time::Instant;
use tonic::Request;

/// Claims that a program of `e2e/clients` prints.
const CLAIMS: usize = 5;
/// Calls at once over one connection.
const CALLERS: usize = 64;
/// Calls that run out of time at once.
const GIVEN_UP: usize = 3000;
const RENEWALS: usize = 16_000;

/// How long each client does each kind of call: `COORD_SPEED_SECONDS`, or less.
fn seconds() -> Result<u64> {
    match std::env::var("COORD_SPEED_SECONDS") {
        Ok(seconds) => Ok(seconds.parse()?),
        Err(_) => Ok(8),
    }
}

async fn one() -> Result<(Cluster, Client)> {
    let cluster = Cluster::start(Kind::Processes(1)).await?;
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    Ok((cluster, client))
}

/// Errors: a connection was cut, for any reason.
async fn nobody_was_cut(cluster: &Cluster) -> Result<()> {
    let page = http::request("GET", &cluster.endpoint(0), "/metrics").await?;
    let mut cut = page
        .text
        .lines()
        .filter(|line| line.starts_with("coord_network_connections_cut_total{"));
    ensure!(cut.next().is_none(), "{}", page.text);
    Ok(())
}

async fn at_top_speed(program: impl FnOnce() -> Result<Command> + Send + 'static) -> Result<()> {
    let (cluster, _client) = one().await?;
    let endpoint = cluster.endpoint(0);
    let seconds = seconds()?.to_string();
    let run = tokio::task::spawn_blocking(move || -> Result<Output> {
        let mut command = program()?;
        Ok(command.arg(endpoint).arg(seconds).output()?)
    });
    let output = run.await??;
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    ensure!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let claims = said.lines().filter(|line| line.starts_with("ok ")).count();
    ensure!(claims == CLAIMS, "{said}");
    nobody_was_cut(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_the_c_core_is_served_at_its_top_speed() -> Result<()> {
    at_top_speed(|| programs::python("speed.py")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_go_client_is_served_at_its_top_speed() -> Result<()> {
    at_top_speed(|| Ok(Command::new(programs::go_speed()?))).await
}

/// Whether there is time for clients whose parts are fetched and put together each time: in `make hostile`.
fn is_long() -> bool {
    let is_long = std::env::var_os("COORD_SPEED_SECONDS").is_some();
    if !is_long {
        println!("left to make hostile");
    }
    is_long
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_client_is_served_at_its_top_speed() -> Result<()> {
    if !is_long() {
        return Ok(());
    }
    at_top_speed(|| programs::node("speed.js")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_java_client_is_served_at_its_top_speed() -> Result<()> {
    if !is_long() {
        return Ok(());
    }
    at_top_speed(|| programs::java("Speed.java")).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_client_is_served_at_its_top_speed() -> Result<()> {
    let (cluster, client) = one().await?;
    let mut watching = client.watching(watch("a")).await?;
    let until = Instant::now() + Duration::from_secs(seconds()?);
    let calls = (0..CALLERS).map(|number| {
        let mut kv = KvClient::new(client.channel());
        async move {
            let key = format!("key-{number}");
            let mut done = 0_u64;
            while Instant::now() < until {
                kv.put(put(&key, "v")).await?;
                kv.range(range(&key)).await?;
                done += 2;
            }
            anyhow::Ok(done)
        }
    });
    let done: u64 = try_join_all(calls).await?.into_iter().sum();
    println!("{done} calls");
    client.put(put("a", "2")).await?;
    watching.events(1).await?;
    nobody_was_cut(&cluster).await
}

/// The kernel takes in what the client sends while the member stands still, resets as well: it reads all of it at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_all_run_out_of_time_leave_the_watch_beside_them_alone() -> Result<()> {
    let (mut cluster, client) = one().await?;
    let mut watching = client.watching(watch("a")).await?;
    let waits = client.clone();
    for _ in 0..3 {
        cluster.pause(0)?;
        let calls = (0..GIVEN_UP).map(|_| {
            let mut kv = KvClient::new(client.channel());
            async move {
                let call = kv.range(range("a"));
                tokio::time::timeout(Duration::from_millis(100), call).await
            }
        });
        let answers = join_all(calls).await;
        let given_up = answers.iter().filter(|answer| answer.is_err()).count();
        ensure!(given_up > GIVEN_UP / 2, "{given_up} were given up");
        let put = tokio::spawn({
            let waits = waits.clone();
            async move { waits.put(put("a", "2")).await }
        });
        cluster.resume(0)?;
        put.await?.context("a put that was under way")?;
        watching.events(1).await.context("the watch")?;
    }
    nobody_was_cut(&cluster).await
}

/// Calls on one connection. Hyper's client gives one up (`too_many_internal_resets`) after 1,024 answers to calls that it
/// has ended and forgotten, however late a busy machine makes them.
const IMPATIENT_CALLS: u64 = 1000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_without_patience_keep_their_connection() -> Result<()> {
    let (cluster, _) = one().await?;
    let until = Instant::now() + Duration::from_secs(seconds()?);
    let (mut connections, mut kept) = (0, 0);
    while Instant::now() < until {
        let client = cluster.client()?;
        let mut watching = client.watching(watch("a")).await?;
        let calls = (0..IMPATIENT_CALLS).map(|number| {
            let mut kv = KvClient::new(client.channel());
            async move {
                let patience = Duration::from_micros(200 + number * 7919 % 3000);
                match tokio::time::timeout(patience, kv.range(range("a"))).await {
                    Ok(answer) => answer.map(|_| 1),
                    Err(_) => Ok(0),
                }
            }
        });
        kept += try_join_all(calls).await?.into_iter().sum::<u64>();
        client.put(put("a", "2")).await?;
        watching.events(1).await?;
        connections += 1;
    }
    println!("{kept} of {connections} x {IMPATIENT_CALLS} calls were answered in time");
    nobody_was_cut(&cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn renewals_in_one_burst_are_all_answered() -> Result<()> {
    let (cluster, client) = one().await?;
    let granted = client
        .lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 0 })
        .await?;
    let request = pb::LeaseKeepAliveRequest { id: granted.id };
    let requests = futures::stream::iter(vec![request; RENEWALS]);
    let mut answers = LeaseClient::new(client.channel())
        .lease_keep_alive(Request::new(requests))
        .await?
        .into_inner();
    // Its own side is closed by then: what was asked is answered, then the stream ends.
    let mut answered = 0;
    while let Some(answer) = answers.message().await? {
        ensure!(answer.ttl > 0);
        answered += 1;
    }
    ensure!(answered == RENEWALS, "{answered} were answered");
    nobody_was_cut(&cluster).await
}
