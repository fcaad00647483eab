//! More requests than a member can do: queues are bounded in requests and in bytes, and say so in etcd's words.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{put, range};
use coord_e2e::cluster::{Cluster, Kind, eventually};
use coord_e2e::hostile::memory::Bound;
use futures::future::join_all;
use tonic::{Code, Status};

const MIB: usize = 1 << 20;
/// As many calls as a connection may have at once.
const CALLS_EACH: usize = 4096;
/// Connections whose calls are more than a queue holds.
const CONNECTIONS: usize = 5;

/// A cluster whose leader is alone: nothing is decided, so every request waits.
struct Alone {
    cluster: Cluster,
    leader: usize,
    process: u32,
}

impl Alone {
    async fn begin() -> Result<Self> {
        let mut cluster = Cluster::start(Kind::Processes(3)).await?;
        cluster.client()?.put(put("a", "1")).await?;
        let leader = cluster.leader().await?;
        let process = cluster.process_id(leader)?;
        for index in 0..cluster.len() {
            if index != leader {
                cluster.pause(index)?;
            }
        }
        Ok(Self {
            cluster,
            leader,
            process,
        })
    }

    fn clients(&self) -> Result<Vec<Client>> {
        (0..CONNECTIONS)
            .map(|_| self.cluster.client_of(self.leader))
            .collect()
    }

    /// Lets the others go on, and waits until the cluster serves again.
    async fn end(mut self) -> Result<()> {
        for index in 0..self.cluster.len() {
            if index != self.leader {
                self.cluster.resume(index)?;
            }
        }
        let client = self.cluster.client()?;
        eventually("a write after the flood", || async {
            client.put(put("after", "1")).await?;
            Ok(())
        })
        .await
    }
}

/// How many answers of each kind there were.
fn kinds<T>(answers: Vec<Result<T, Status>>) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for answer in answers {
        let kind = match answer {
            Ok(_) => "done".to_owned(),
            Err(status) => format!("{:?}: {}", status.code(), status.message()),
        };
        *kinds.entry(kind).or_default() += 1;
    }
    println!("{kinds:?}");
    kinds
}

fn refused(kinds: &BTreeMap<String, usize>) -> usize {
    let refusal = format!(
        "{:?}: etcdserver: too many requests",
        Code::ResourceExhausted
    );
    kinds.get(&refusal).copied().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_are_bounded_in_number() -> Result<()> {
    let alone = Alone::begin().await?;
    let bound = Bound::above_now(alone.process, 384 * MIB as u64)?;
    let clients = alone.clients()?;
    let calls = clients.iter().flat_map(|client| {
        (0..CALLS_EACH).map(move |number| client.put(put(&format!("k{number}"), "v")))
    });
    let kinds = kinds(join_all(calls).await);
    let all = CONNECTIONS * CALLS_EACH;
    let refused = refused(&kinds);
    ensure!(
        refused >= all - 16 * 1024,
        "{refused} of {all} were refused"
    );
    ensure!(refused < all, "all were refused");
    bound.check()?;
    alone.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_that_wait_are_bounded_in_bytes() -> Result<()> {
    let alone = Alone::begin().await?;
    let bound = Bound::above_now(alone.process, 384 * MIB as u64)?;
    let clients = alone.clients()?;
    let value = "x".repeat(MIB);
    let calls = clients.iter().flat_map(|client| {
        let value = &value;
        (0..40).map(move |number| client.put(put(&format!("k{number}"), value)))
    });
    let kinds = kinds(join_all(calls).await);
    let refused = refused(&kinds);
    // 64 MiB wait, the rest of 200 is refused.
    ensure!(
        (100..200).contains(&refused),
        "{refused} of 200 were refused"
    );
    bound.check()?;
    alone.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_wait_are_bounded() -> Result<()> {
    let alone = Alone::begin().await?;
    let bound = Bound::above_now(alone.process, 384 * MIB as u64)?;
    let clients = alone.clients()?;
    let calls = clients
        .iter()
        .flat_map(|client| (0..CALLS_EACH).map(move |_| client.range(range("a"))));
    let kinds = kinds(join_all(calls).await);
    ensure!(refused(&kinds) > 0, "none was refused");
    bound.check()?;
    alone.end().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_serves_what_it_takes_of_a_flood() -> Result<()> {
    let cluster = Cluster::start(Kind::Processes(1)).await?;
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| cluster.client())
        .collect::<Result<_>>()?;
    let calls = clients.iter().enumerate().flat_map(|(at, client)| {
        (0..CALLS_EACH).map(move |number| client.put(put(&format!("k{at}/{number}"), "v")))
    });
    let answers = join_all(calls).await;
    let kinds = kinds(answers);
    let done = kinds.get("done").copied().context("some are done")?;
    let all = CONNECTIONS * CALLS_EACH;
    let stored = clients[0]
        .range(coord_proto::etcd::etcdserverpb::RangeRequest {
            count_only: true,
            ..coord_e2e::clients::etcd::request::prefix("k")
        })
        .await?;
    // Between them are calls whose time ran out: they may have been done.
    let may_be_done = done..=all - refused(&kinds);
    let stored = usize::try_from(stored.count)?;
    ensure!(
        may_be_done.contains(&stored),
        "{stored} are stored, where what was done and not refused is {may_be_done:?}"
    );
    Ok(())
}
