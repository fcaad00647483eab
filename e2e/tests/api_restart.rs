//! Restarts and crashes: what was acknowledged stays, and the cluster serves again by itself.

use std::collections::BTreeMap;
use std::net::{TcpListener, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{delete, op, prefix, put, range, txn, watch, watch_prefix};
use coord_e2e::cluster::claims::Claim;
use coord_e2e::cluster::{Cluster, eventually, process};
use coord_e2e::{on_each_cluster, on_three_processes};
use coord_proto::etcd::etcdserverpb as pb;
use tokio::time::Instant;

on_each_cluster!(
    a_member_that_is_stopped_comes_back_with_everything,
    all_members_killed_at_once_lose_nothing,
    history_and_compaction_survive_a_restart,
    leases_survive_a_restart,
    a_member_restarts_many_times,
);

on_three_processes!(
    a_killed_member_may_be_started_again_at_once,
    a_killed_leader_loses_no_acknowledged_write,
    a_rolling_restart_loses_no_acknowledged_write,
    a_follower_that_was_down_catches_up,
    a_minority_serves_no_writes_and_no_linearizable_reads,
    a_stopping_leader_hands_over_first,
    a_frozen_leader_is_replaced_and_rejoins,
    a_watch_goes_on_after_its_member_was_killed,
);

/// All there is to compare: keys, values, revisions.
async fn contents(
    client: &Client,
) -> anyhow::Result<(i64, Vec<coord_proto::etcd::mvccpb::KeyValue>)> {
    let all = pb::RangeRequest {
        range_end: "\0".into(),
        ..range("\0")
    };
    let answer = client.range(all).await?;
    Ok((
        answer.header.expect("every answer has a header").revision,
        answer.kvs,
    ))
}

async fn fill(client: &Client) -> anyhow::Result<()> {
    for number in 0..50 {
        client
            .put(put(&format!("k{}", number % 20), &format!("{number}")))
            .await?;
    }
    client.delete(delete("k3")).await?;
    let ops: Vec<_> = (0..10)
        .map(|number| op(put(&format!("t{number}"), "x")))
        .collect();
    client.txn(txn([], ops, [])).await?;
    Ok(())
}

async fn a_member_that_is_stopped_comes_back_with_everything(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client).await?;
    let before = contents(&client).await?;
    for index in 0..cluster.len() {
        cluster.stop(index).await?;
        cluster.restart(index).await?;
        assert_eq!(
            contents(&cluster.client_of(index)?).await?,
            before,
            "after member {index} was stopped"
        );
    }
    client.put(put("next", "1")).await?;
    Ok(())
}

async fn all_members_killed_at_once_lose_nothing(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client).await?;
    let before = contents(&client).await?;
    for round in 0..3 {
        for index in 0..cluster.len() {
            cluster.kill(index).await?;
        }
        for index in 0..cluster.len() {
            cluster.spawn(index)?;
        }
        for index in 0..cluster.len() {
            cluster.ready(index).await?;
        }
        for index in 0..cluster.len() {
            assert_eq!(
                contents(&cluster.client_of(index)?).await?,
                before,
                "member {index}, round {round}"
            );
        }
    }
    assert_eq!(put_until_done(&client, "next", "1").await?, before.0 + 1);
    Ok(())
}

/// Puts, again and again while there is no leader to take it; returns the revision.
async fn put_until_done(client: &Client, key: &str, value: &str) -> anyhow::Result<i64> {
    eventually("a put is taken", || async {
        let answer = client.put(put(key, value)).await?;
        Ok(answer.header.expect("every answer has a header").revision)
    })
    .await
}

async fn history_and_compaction_survive_a_restart(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for number in 2..12 {
        client.put(put("a", &number.to_string())).await?;
    }
    client.compact(6).await?;
    for index in 0..cluster.len() {
        cluster.kill(index).await?;
    }
    for index in 0..cluster.len() {
        cluster.spawn(index)?;
    }
    for index in 0..cluster.len() {
        cluster.ready(index).await?;
    }
    for index in 0..cluster.len() {
        let client = cluster.client_of(index)?;
        let old = client
            .range(pb::RangeRequest {
                revision: 7,
                ..range("a")
            })
            .await?;
        assert_eq!(old.kvs[0].value, "7");
        let compacted = client
            .range(pb::RangeRequest {
                revision: 5,
                ..range("a")
            })
            .await;
        assert_eq!(
            compacted.err().map(|status| status.code()),
            Some(tonic::Code::OutOfRange)
        );
        let mut stream = client.watch();
        stream
            .create(pb::WatchCreateRequest {
                start_revision: 6,
                prev_kv: true,
                ..watch("a")
            })
            .await?;
        let events = stream.events(6).await?;
        let revisions: Vec<_> = events
            .iter()
            .filter_map(|event| Some(event.kv.as_ref()?.mod_revision))
            .collect();
        assert_eq!(revisions, (6..12).collect::<Vec<_>>());
        assert_eq!(
            events[1].prev_kv.as_ref().map(|kv| kv.value.as_ref()),
            Some(&b"6"[..])
        );
    }
    Ok(())
}

async fn leases_survive_a_restart(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = client
        .lease_grant(pb::LeaseGrantRequest { ttl: 300, id: 0 })
        .await?
        .id;
    client
        .put(pb::PutRequest {
            lease,
            ..put("a", "x")
        })
        .await?;
    for index in 0..cluster.len() {
        cluster.kill(index).await?;
    }
    for index in 0..cluster.len() {
        cluster.spawn(index)?;
    }
    for index in 0..cluster.len() {
        cluster.ready(index).await?;
    }
    cluster.leader().await?;
    let ask = pb::LeaseTimeToLiveRequest {
        id: lease,
        keys: true,
    };
    let answer = eventually("the lease is known", || async {
        Ok(client.lease_time_to_live(ask).await?)
    })
    .await?;
    assert_eq!((answer.granted_ttl, answer.keys.len()), (300, 1));
    assert!(
        (200..=301).contains(&answer.ttl),
        "{} s are left of 300",
        answer.ttl
    );
    let revoked = eventually("the lease is revoked", || async {
        Ok(client
            .lease_revoke(pb::LeaseRevokeRequest { id: lease })
            .await?)
    })
    .await?;
    assert!(revoked.header.is_some());
    assert_eq!(client.get("a").await?, None);
    Ok(())
}

async fn a_member_restarts_many_times(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for round in 0..6 {
        put_until_done(&client, &format!("k{round}"), "x").await?;
        if round % 2 == 0 {
            cluster.kill(0).await?;
        } else {
            cluster.stop(0).await?;
        }
        cluster.restart(0).await?;
    }
    assert_eq!(cluster.client_of(0)?.range(prefix("k")).await?.count, 6);
    Ok(())
}

async fn a_killed_member_may_be_started_again_at_once(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for round in 0..6 {
        put_until_done(&client, &format!("k{round}"), "x").await?;
        cluster.replace(round % 3).await?;
        cluster.ready(round % 3).await?;
    }
    assert_eq!(client.range(prefix("k")).await?.count, 6);
    Ok(())
}

/// The record of writers while something happened to the cluster.
struct Written {
    /// The value of each key whose put was acknowledged, with its revision.
    acknowledged: BTreeMap<String, (String, i64)>,
    /// Puts that may or may not have happened.
    unknown: usize,
    /// The longest time between two acknowledged writes.
    longest_pause: Duration,
}

/// Puts new keys from several clients, one spread over all members each, while `happening` runs.
async fn under_writes(
    cluster: &mut Cluster,
    happening: impl AsyncFnOnce(&mut Cluster) -> Claim,
) -> Result<Written, coord_e2e::cluster::claims::Failure> {
    const WRITERS: usize = 4;
    let done = AtomicBool::new(false);
    let clients: Vec<_> = (0..WRITERS)
        .map(|_| cluster.client())
        .collect::<Result<_, _>>()?;
    let writers = clients
        .iter()
        .enumerate()
        .map(|(writer, client)| write_until(&done, client, writer));
    let writing = futures::future::join_all(writers);
    let happens = async {
        let end = happening(cluster).await;
        done.store(true, Ordering::Relaxed);
        end
    };
    let (written, end) = futures::future::join(writing, happens).await;
    end?;
    let mut all = Written {
        acknowledged: BTreeMap::new(),
        unknown: 0,
        longest_pause: Duration::ZERO,
    };
    for one in written {
        all.acknowledged.extend(one.acknowledged);
        all.unknown += one.unknown;
        all.longest_pause = all.longest_pause.max(one.longest_pause);
    }
    Ok(all)
}

async fn write_until(done: &AtomicBool, client: &Client, writer: usize) -> Written {
    let mut written = Written {
        acknowledged: BTreeMap::new(),
        unknown: 0,
        longest_pause: Duration::ZERO,
    };
    let mut last = Instant::now();
    for number in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let (key, value) = (
            format!("w{writer}/{number:05}"),
            format!("{writer}.{number}"),
        );
        match client.put(put(&key, &value)).await {
            Ok(answer) => {
                let revision = answer.header.expect("every answer has a header").revision;
                written.acknowledged.insert(key, (value, revision));
                written.longest_pause = written.longest_pause.max(last.elapsed());
                last = Instant::now();
            }
            Err(_) => {
                written.unknown += 1;
                // A member that is down refuses at once: give the others a turn.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
    written
}

/// Every acknowledged write is there, as every member tells it.
async fn nothing_is_lost(cluster: &Cluster, written: &Written) -> Claim {
    assert!(
        written.acknowledged.len() >= 20,
        "only {} writes were acknowledged",
        written.acknowledged.len()
    );
    for index in 0..cluster.len() {
        let found = cluster.client_of(index)?.range(prefix("w")).await?.kvs;
        let found: BTreeMap<_, _> = found
            .iter()
            .map(|kv| {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                (text(&kv.key), (text(&kv.value), kv.mod_revision))
            })
            .collect();
        for (key, expected) in &written.acknowledged {
            assert_eq!(found.get(key), Some(expected), "{key} on member {index}");
        }
        let more = found.len() - written.acknowledged.len();
        assert!(
            more <= written.unknown,
            "{more} keys more than were acknowledged, {} unknown",
            written.unknown
        );
    }
    Ok(())
}

/// Waits until writers had `count` puts acknowledged: by keys found, which every acknowledged put is.
async fn writes_go_on(cluster: &Cluster, count: i64) -> anyhow::Result<()> {
    let client = cluster.client()?;
    let keys = pb::RangeRequest {
        count_only: true,
        ..prefix("w")
    };
    let start = eventually("a count", || async {
        Ok(client.range(keys.clone()).await?.count)
    })
    .await?;
    eventually("writers go on", || async {
        let now = client.range(keys.clone()).await?.count;
        anyhow::ensure!(now >= start + count, "{now} keys, {start} at the start");
        Ok(())
    })
    .await
}

async fn a_killed_leader_loses_no_acknowledged_write(cluster: &mut Cluster) -> Claim {
    let written = under_writes(cluster, async |cluster| {
        for _ in 0..3 {
            writes_go_on(cluster, 50).await?;
            let leader = cluster.leader().await?;
            cluster.kill(leader).await?;
            writes_go_on(cluster, 20).await?;
            cluster.restart(leader).await?;
        }
        Ok(())
    })
    .await?;
    assert!(
        written.longest_pause < Duration::from_secs(15),
        "no write for {:?}",
        written.longest_pause
    );
    nothing_is_lost(cluster, &written).await
}

async fn a_rolling_restart_loses_no_acknowledged_write(cluster: &mut Cluster) -> Claim {
    let written = under_writes(cluster, async |cluster| {
        for index in 0..cluster.len() {
            writes_go_on(cluster, 30).await?;
            cluster.stop(index).await?;
            cluster.restart(index).await?;
        }
        writes_go_on(cluster, 30).await?;
        Ok(())
    })
    .await?;
    nothing_is_lost(cluster, &written).await
}

async fn a_follower_that_was_down_catches_up(cluster: &mut Cluster) -> Claim {
    let follower = cluster.follower().await?;
    cluster.kill(follower).await?;
    let client = cluster.client_of(cluster.leader().await?)?;
    for number in 0..300 {
        client.put(put(&format!("k{number}"), "x")).await?;
    }
    cluster.restart(follower).await?;
    // A linearizable read of the one that was down: it has all, or does not answer.
    let found = cluster.client_of(follower)?.range(prefix("k")).await?;
    assert_eq!(found.count, 300);
    Ok(())
}

async fn a_minority_serves_no_writes_and_no_linearizable_reads(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    let left = cluster.leader().await?;
    for index in (0..cluster.len()).filter(|index| *index != left) {
        cluster.kill(index).await?;
    }
    let alone = cluster.client_of(left)?;
    let write = alone.put(put("a", "2")).await;
    assert!(write.is_err(), "acknowledged without a quorum: {write:?}");
    let read = alone.range(range("a")).await;
    assert!(read.is_err(), "read without a quorum: {read:?}");
    let stale = alone
        .range(pb::RangeRequest {
            serializable: true,
            ..range("a")
        })
        .await?;
    assert_eq!(stale.kvs[0].value, "1");
    for index in (0..cluster.len()).filter(|index| *index != left) {
        cluster.spawn(index)?;
    }
    let value = eventually("the cluster serves again", || async {
        Ok(client.get("a").await?)
    })
    .await?;
    // The put had no answer, so both are right; nothing else is.
    assert!(
        value == Some("1".into()) || value == Some("2".into()),
        "{value:?}"
    );
    Ok(())
}

async fn a_stopping_leader_hands_over_first(cluster: &mut Cluster) -> Claim {
    let leader = cluster.leader().await?;
    let client = cluster.client_of((leader + 1) % cluster.len())?;
    put_until_done(&client, "a", "1").await?;
    let term = client.status().await?.raft_term;
    let asked = Instant::now();
    cluster.stop(leader).await?;
    assert!(
        asked.elapsed() < Duration::from_secs(5),
        "took {:?} to stop",
        asked.elapsed()
    );
    let next = cluster.leader().await?;
    assert_ne!(next, leader);
    put_until_done(&client, "a", "2").await?;
    // One election, and it was won: no term was spent on a split vote or a timeout.
    assert_eq!(client.status().await?.raft_term, term + 1);
    Ok(())
}

async fn a_frozen_leader_is_replaced_and_rejoins(cluster: &mut Cluster) -> Claim {
    let frozen = cluster.leader().await?;
    let old = cluster.client_of(frozen)?;
    old.put(put("a", "old")).await?;
    cluster.pause(frozen)?;
    let other = cluster.client_of((frozen + 1) % cluster.len())?;
    let revision = put_until_done(&other, "a", "new").await?;
    cluster.resume(frozen)?;
    // It may not answer from before the freeze. A put that had no answer at first may have come after the one that did.
    let answer = eventually("the frozen member answers", || async {
        Ok(old.range(range("a")).await?)
    })
    .await?;
    assert_eq!(answer.kvs[0].value, "new");
    assert!(answer.kvs[0].mod_revision >= revision);
    Ok(())
}

async fn a_watch_goes_on_after_its_member_was_killed(cluster: &mut Cluster) -> Claim {
    let client = cluster.client_of(1)?;
    let mut stream = cluster.client_of(0)?.watch();
    stream.create(watch_prefix("k")).await?;
    for number in 0..10 {
        put_until_done(&client, &format!("k{number}"), "x").await?;
    }
    let seen = stream.events(10).await?;
    let last = seen
        .last()
        .and_then(|event| Some(event.kv.as_ref()?.mod_revision));
    cluster.kill(0).await?;
    assert!(stream.next().await.is_err());
    for number in 10..15 {
        put_until_done(&client, &format!("k{number}"), "x").await?;
    }
    let mut resumed = cluster.client_of(2)?.watch();
    let start_revision = last.expect("ten events were seen") + 1;
    resumed
        .create(pb::WatchCreateRequest {
            start_revision,
            ..watch_prefix("k")
        })
        .await?;
    let events = resumed.events_at_least(5).await?;
    let mut keys: Vec<_> = events
        .iter()
        .filter_map(|event| Some(event.kv.as_ref()?.key.clone()))
        .collect();
    keys.dedup();
    assert_eq!(keys, ["k10", "k11", "k12", "k13", "k14"]);
    Ok(())
}

/// A resolver that hears questions and answers none, in place of this machine's.
#[test]
fn a_member_that_looks_names_up_in_vain_stops_when_it_is_asked_to() -> anyhow::Result<()> {
    const RESOLVER: &str = "127.0.0.77";
    /// A look-up alone takes ten seconds to give up.
    const LIMIT: Duration = Duration::from_secs(4);
    if process::oracle().is_some() {
        return Ok(());
    }
    let resolver = UdpSocket::bind((RESOLVER, 53)).context("port 53 needs root")?;
    resolver.set_read_timeout(Some(Duration::from_secs(30)))?;
    let directory = tempfile::tempdir()?;
    let settings = directory.path().join("resolv.conf");
    std::fs::write(&settings, format!("nameserver {RESOLVER}\n"))?;
    let free = || -> anyhow::Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Ok(format!("http://{}", listener.local_addr()?))
    };
    let (client, peer) = (free()?, free()?);
    let mut member = Command::new("unshare")
        .args(["--mount", "--propagation=private", "sh", "-c"])
        .arg(r#"mount --bind "$1" /etc/resolv.conf && shift && exec "$@""#)
        .arg("sh")
        .arg(&settings)
        .arg(process::server_program()?)
        .arg("--name=a")
        .arg(format!(
            "--data-dir={}",
            directory.path().join("data").display()
        ))
        .arg(format!("--listen-client-urls={client}"))
        .arg(format!("--advertise-client-urls={client}"))
        .arg(format!("--listen-peer-urls={peer}"))
        .arg(format!("--initial-advertise-peer-urls={peer}"))
        .arg(format!(
            "--initial-cluster=a={peer},b=http://b.members.test:2380,c=http://c.members.test:2380"
        ))
        .stderr(Stdio::null())
        .spawn()?;
    let asked = resolver.recv(&mut [0; 512]);
    let began = std::time::Instant::now();
    let told = Command::new("kill").arg(member.id().to_string()).status();
    let ended = loop {
        if let Some(status) = member.try_wait()? {
            break Some(status);
        }
        if began.elapsed() > LIMIT {
            break None;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    if ended.is_none() {
        member.kill()?;
        member.wait()?;
    }
    asked.context("it never looked a name up")?;
    ensure!(told?.success());
    ended.context("it waits for the resolver")?;
    Ok(())
}
