//! Connections that say too little, too slowly or too much before they ask anything.

use std::time::Duration;

use anyhow::{Context, Result};
use coord_e2e::clients::http;
use coord_e2e::cluster::{Cluster, Kind, eventually};
use coord_e2e::hostile::backlog;
use coord_e2e::hostile::bystander::Bystander;
use coord_e2e::hostile::memory::Bound;
use coord_e2e::hostile::raw::{self, End, PREFACE, Raw, flag, frame, kind};
use futures::future::try_join_all;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections of the attack; fewer where descriptors are short.
const CONNECTIONS: usize = 10_000;
/// Connections that are opened together.
const AT_ONCE: usize = 100;
/// Descriptors that this test needs for itself.
const OWN_DESCRIPTORS: usize = 500;
const MIB: u64 = 1 << 20;

async fn one() -> Result<(Cluster, u32)> {
    let mut cluster = Cluster::start(Kind::Processes(1)).await?;
    let process = cluster.process_id(0)?;
    Ok((cluster, process))
}

/// How many connections this process may open, once its limit is raised.
fn connections() -> Result<usize> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let current = maximum;
    setrlimit(Resource::Nofile, Rlimit { current, maximum })?;
    let most = maximum.map_or(CONNECTIONS, |most| {
        (most as usize).saturating_sub(OWN_DESCRIPTORS)
    });
    Ok(most.min(CONNECTIONS))
}

#[derive(Clone, Copy)]
enum Says {
    Nothing,
    /// These bytes, one a second.
    Slowly(&'static [u8]),
}

async fn closes(mut raw: Raw, says: Says) -> Result<End> {
    raw.drain();
    if let Says::Slowly(bytes) = says {
        for byte in bytes {
            if raw.send(&[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    raw.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_that_say_next_to_nothing_are_closed() -> Result<()> {
    let (cluster, process) = one().await?;
    let endpoint = cluster.endpoint(0);
    let bystander = Bystander::begin(cluster.client()?).await?;
    let bound = Bound::above_now(process, 160 * MIB)?;
    let kinds = [
        Says::Nothing,
        Says::Slowly(PREFACE),
        Says::Slowly(b"GET /health HTTP/1.1\r\nHost: a-name-of-some-length\r\n\r\n"),
    ];
    let mut closed = Vec::new();
    let address = raw::authority(&endpoint)?.parse()?;
    for number in 0..connections()? {
        if number % AT_ONCE == 0 {
            backlog::has_accepted(address).await?;
        }
        let raw = Raw::connect(&endpoint).await?;
        let says = kinds[number % kinds.len()];
        closed.push(tokio::spawn(closes(raw, says)));
    }
    for end in try_join_all(closed).await? {
        end?;
    }
    bystander.end().await?;
    bound.check()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_never_ends_closes_its_connection() -> Result<()> {
    let (cluster, _) = one().await?;
    let endpoint = cluster.endpoint(0);
    let bystander = Bystander::begin(cluster.client()?).await?;
    let greeting = [PREFACE, &raw::settings(&[])].concat();
    let unfinished: Vec<Vec<u8>> = vec![
        PREFACE.to_vec(),
        // A frame of 100 bytes of which one comes, and one that says that another follows.
        [
            &greeting[..],
            &[0, 0, 100, kind::HEADERS, flag::END_HEADERS, 0, 0, 0, 1, 0],
        ]
        .concat(),
        [
            &greeting[..],
            &frame(kind::HEADERS, flag::NONE, 1, &raw::call_head("/x")),
        ]
        .concat(),
        b"GET /health HTTP/1.1\r\n".to_vec(),
    ];
    let ends = unfinished.into_iter().map(|bytes| {
        let endpoint = &endpoint;
        async move {
            let mut raw = Raw::connect(endpoint).await?;
            raw.send(&bytes).await?;
            raw.end().await.with_context(|| format!("after {bytes:?}"))
        }
    });
    try_join_all(ends).await?;
    bystander.end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_answers_no_ping_is_given_up() -> Result<()> {
    let (cluster, _) = one().await?;
    let raw = Raw::open(&cluster.endpoint(0), &[]).await?;
    raw.end().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_heads_of_plain_http_are_refused() -> Result<()> {
    let (cluster, process) = one().await?;
    let endpoint = cluster.endpoint(0);
    let bound = Bound::above_now(process, 32 * MIB)?;
    let name = |number: usize| format!("x-{number}: {}\r\n", "y".repeat(100));
    let many: String = (0..100_000).map(name).collect();
    for head in [format!("x: {}\r\n", "y".repeat(10 << 20)), many] {
        let mut raw = Raw::connect(&endpoint).await?;
        raw.send(b"GET /health HTTP/1.1\r\nHost: a\r\n").await?;
        // Refused and closed before all of it is taken.
        assert!(raw.send(head.as_bytes()).await.is_err(), "it took all");
    }
    let page = http::request("GET", &endpoint, "/health").await?;
    assert_eq!(page.status, 200);
    bound.check()?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_are_cut_off_are_counted() -> Result<()> {
    let (cluster, _) = one().await?;
    let endpoint = cluster.endpoint(0);
    closes(Raw::connect(&endpoint).await?, Says::Nothing).await?;
    eventually("the count of it", || async {
        let page = http::request("GET", &endpoint, "/metrics").await?;
        let line = r#"coord_network_connections_cut_total{reason="slow"} 1"#;
        anyhow::ensure!(page.text.contains(line), "{}", page.text);
        Ok(())
    })
    .await
}
