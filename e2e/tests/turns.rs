//! How long a member's state is held at a time, and what others notice, while clients ask for all that takes long.
//!
//! `COORD_TURN_KEYS` has as many keys as a run is to have, `COORD_TURN_MEMBERS` as many members: with more of them than
//! cores a turn may be long because its thread had to wait for a core. Figures that are kept come from `make turns`: a
//! release build.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{delete_to, op, prefix, put, range_to, txn, watch_prefix};
use coord_e2e::clients::http;
use coord_e2e::cluster::{Cluster, Kind, within};
use coord_proto::etcd::etcdserverpb as pb;
use futures::future::try_join_all;
use pb::range_request::{SortOrder, SortTarget};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long puts are timed, without and with the other client.
const WHILE: Duration = Duration::from_secs(8);
/// Clients that put, one after the other each.
const WRITERS: usize = 8;
/// A put that waits longer was held up by more than a busy machine.
const LONGEST: Duration = Duration::from_secs(1);
/// The time that all keys may take to go once nobody waits for the answer.
const GONE_MAX: Duration = Duration::from_secs(120);

fn setting(name: &str, default: usize) -> Result<usize> {
    match std::env::var(name) {
        Ok(number) => number.parse().with_context(|| name.to_owned()),
        Err(_) => Ok(default),
    }
}

/// Times of puts, sorted.
struct Puts(Vec<Duration>);

impl Puts {
    fn p99(&self) -> Duration {
        let at = self.0.len() * 99 / 100;
        self.0.get(at).copied().unwrap_or_default()
    }

    fn longest(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

/// Whether a member gave up waiting for it, as etcd does: it may still happen.
fn is_late(status: &tonic::Status) -> bool {
    status.message().contains("request timed out")
}

/// Puts until `ended`, and times each, also those that a member gave up.
async fn puts(client: Client, mut ended: oneshot::Receiver<()>) -> Result<Puts> {
    let mut times = Vec::new();
    let mut number = 0;
    while ended.try_recv().is_err() {
        let one = async |writer: usize| -> Result<Duration> {
            let begun = Instant::now();
            let key = format!("beside/{writer}");
            match client.put(put(&key, &number.to_string())).await {
                Err(status) if !is_late(&status) => Err(status.into()),
                Ok(_) | Err(_) => Ok(begun.elapsed()),
            }
        };
        times.extend(try_join_all((0..WRITERS).map(one)).await?);
        number += 1;
    }
    times.sort_unstable();
    Ok(Puts(times))
}

/// Puts that are timed while something else is done.
async fn beside<T>(client: &Client, work: impl Future<Output = Result<T>>) -> Result<(Puts, T)> {
    let (end, ended) = oneshot::channel();
    let timed = tokio::spawn(puts(client.clone(), ended));
    let done = work.await?;
    // It may have ended with an error, which is told next.
    let _ = end.send(());
    Ok((timed.await??, done))
}

/// Turns so far by what they are for: all, those above 5 ms, and above which bound the longest lies.
async fn turns(cluster: &Cluster, index: usize) -> Result<BTreeMap<String, (u64, u64, f64)>> {
    let page = http::request("GET", &cluster.endpoint(index), "/metrics").await?;
    let mut turns: BTreeMap<String, Vec<(f64, u64)>> = BTreeMap::new();
    for line in page.body().lines() {
        let Some(rest) = line.strip_prefix("coord_state_turn_seconds_bucket{") else {
            continue;
        };
        let label = |name: &str| {
            let (_, rest) = rest.split_once(&format!("{name}=\""))?;
            Some(rest.split_once('"')?.0.to_owned())
        };
        let count = rest.rsplit_once(' ').context("a count")?.1.parse()?;
        let bound = label("le").context("a bound")?.replace("+Inf", "inf");
        turns
            .entry(label("what").context("what for")?)
            .or_default()
            .push((bound.parse()?, count));
    }
    let told = turns.into_iter().map(|(what, buckets)| {
        let all = buckets.last().map_or(0, |(_, count)| *count);
        let short = buckets.iter().filter(|(bound, _)| *bound <= 0.005);
        let short = short.map(|(_, count)| *count).max().unwrap_or(0);
        let longest = buckets.iter().find(|(_, count)| *count == all);
        (
            what,
            (all, all - short, longest.map_or(0.0, |(bound, _)| *bound)),
        )
    });
    Ok(told.collect())
}

async fn fill(client: &Client, keys: usize, lease: i64) -> Result<()> {
    for first in (0..keys).step_by(6400) {
        let txns = (first..(first + 6400).min(keys)).step_by(100).map(|first| {
            let puts = (first..(first + 100).min(keys)).map(|key| {
                op(pb::PutRequest {
                    lease,
                    ..put(&format!("many/{key:054}"), "some value of a small record")
                })
            });
            client.txn(txn([], puts.collect::<Vec<_>>(), []))
        });
        try_join_all(txns).await?;
    }
    Ok(())
}

/// Sorted, at an old revision, counted: 128 times in one transaction, again and again.
async fn long_reads(client: Client, revision: i64) -> Result<usize> {
    let all = || range_to("many/", "many0");
    let sorted = pb::RangeRequest {
        sort_order: SortOrder::Descend.into(),
        sort_target: SortTarget::Value.into(),
        limit: 1,
        serializable: true,
        ..all()
    };
    let old = pb::RangeRequest {
        revision,
        limit: 1,
        min_mod_revision: revision,
        serializable: true,
        ..all()
    };
    let counted = pb::RangeRequest {
        revision,
        count_only: true,
        serializable: true,
        ..all()
    };
    let until = Instant::now() + WHILE;
    let mut asked = 0;
    while Instant::now() < until {
        for request in [&sorted, &old, &counted] {
            let ops = (0..128).map(|_| op(request.clone()));
            let call = client.txn(txn([], ops.collect::<Vec<_>>(), []));
            // Long ones are given up: what a hostile client does.
            let _ = tokio::time::timeout(Duration::from_secs(2), call).await;
            asked += 1;
        }
    }
    Ok(asked)
}

/// Waits until no key is left: a change that takes longer than a request goes on without it.
async fn until_gone(client: &Client) -> Result<()> {
    within(GONE_MAX, "all keys are gone", || async {
        let left = client.range(prefix("many/")).await?.count;
        ensure!(left == 0, "{left} keys are left");
        Ok(())
    })
    .await
}

/// All deleted, and a lease with all of them ended, under three watchers of each kind.
async fn large_deletes(cluster: &Cluster, keys: usize) -> Result<()> {
    let client = cluster.client_of(cluster.leader().await?)?;
    let mut watchers = Vec::new();
    for (fragment, prev_kv) in [(false, false), (true, false), (true, true)] {
        let request = pb::WatchCreateRequest {
            fragment,
            prev_kv,
            ..watch_prefix("many/")
        };
        // Each on a connection of its own: what is not read on one keeps the rest of it waiting.
        let other = cluster.client_of(cluster.leader().await?)?;
        watchers.push(other.watching(request).await?);
    }
    let count = |event: &coord_proto::etcd::mvccpb::Event| event.r#type() as i32 == 1;
    let grant = pb::LeaseGrantRequest { ttl: 10_000, id: 0 };
    let lease = client.lease_grant(grant).await?.id;
    let begun = Instant::now();
    match client.delete(delete_to("many/", "many0")).await {
        Err(status) if !is_late(&status) => return Err(status.into()),
        Ok(_) | Err(_) => until_gone(&client).await?,
    }
    println!("a delete of all took {:?}", begun.elapsed());
    fill(&client, keys, lease).await?;
    let begun = Instant::now();
    let revoke = pb::LeaseRevokeRequest { id: lease };
    match client.lease_revoke(revoke).await {
        Err(status) if !is_late(&status) => return Err(status.into()),
        Ok(_) | Err(_) => until_gone(&client).await?,
    }
    println!("the end of a lease of all took {:?}", begun.elapsed());
    for watcher in &mut watchers {
        let mut deleted = 0;
        while deleted < 2 * keys {
            let response = watcher.within(Duration::from_secs(60)).await?;
            let response = response.context("a deletion was not told")?;
            deleted += response.events.iter().filter(|event| count(event)).count();
        }
        assert_eq!(deleted, 2 * keys, "each once");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_work_neither_costs_leadership_nor_keeps_others_waiting() -> Result<()> {
    let keys = setting("COORD_TURN_KEYS", 20_000)?;
    let members = setting("COORD_TURN_MEMBERS", 3)?;
    let cluster = Cluster::start(Kind::Processes(members)).await?;
    let leader = cluster.leader().await?;
    let client = cluster.client_of(leader)?;
    fill(&client, keys, 0).await?;
    let revision = client.revision().await?;
    let term = client.status().await?.raft_term;
    let quiet = async || {
        tokio::time::sleep(WHILE).await;
        Ok(())
    };
    let before = turns(&cluster, leader).await?;
    let (alone, ()) = beside(&client, quiet()).await?;
    let (under_reads, asked) =
        beside(&client, long_reads(cluster.client_of(leader)?, revision)).await?;
    let (under_deletes, ()) = beside(&client, large_deletes(&cluster, keys)).await?;
    let (again, ()) = beside(&client, quiet()).await?;
    ensure!(client.range(prefix("many/")).await?.count == 0);
    println!(
        "{members} members, {keys} keys, {asked} transactions of 128 long reads, two deletes of all"
    );
    for (what, puts) in [
        ("alone", &alone),
        ("beside long reads", &under_reads),
        ("beside large deletes", &under_deletes),
        ("alone again", &again),
    ] {
        println!(
            "puts {what}: {} p99 {:?}, {:.1} times that alone, longest {:?}",
            puts.0.len(),
            puts.p99(),
            puts.p99().as_secs_f64() / alone.p99().as_secs_f64(),
            puts.longest()
        );
    }
    for (what, (all, long, longest)) in turns(&cluster, leader).await? {
        let already = before.get(&what).map_or(0, |(all, _, _)| *all);
        println!(
            "turns for {what}: {} since, {long} above 5 ms, longest at most {longest} s",
            all - already
        );
    }
    ensure!(
        client.status().await?.raft_term == term,
        "an election was caused"
    );
    // Puts behind a delete of everything wait for it: revisions are in one order.
    let longest = under_reads.longest();
    ensure!(longest < LONGEST, "a put waited {longest:?}");
    Ok(())
}
