//! Copies and checksums of all that is stored, held against the real etcd: `etcdctl snapshot save`, `etcdutl` and an etcd
//! that goes on from what was saved.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{delete, everything, put};
use coord_e2e::clients::programs;
use coord_e2e::cluster::address::Address;
use coord_e2e::cluster::claims::{self, Claim, refused};
use coord_e2e::cluster::process::Process;
use coord_e2e::cluster::{Cluster, Kind, eventually, process};
use coord_e2e::{on_each_cluster, on_three_processes};
use coord_proto::etcd::etcdserverpb as pb;
use pb::maintenance_client::MaintenanceClient;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tonic::Code;

on_each_cluster!(
    the_hash_of_keys_is_the_one_that_etcd_computes,
    a_hash_of_keys_is_refused_below_the_floor_and_above_the_newest,
    a_snapshot_is_restored_by_etcd_with_all_that_it_holds,
    a_snapshot_of_nothing_is_restored_by_etcd,
    a_snapshot_has_users_and_roles,
    a_snapshot_is_one_moment_while_others_write,
    a_downgrade_is_checked,
);

on_three_processes!(every_member_has_the_same_hashes);

/// A real etcd, alone.
struct Etcd {
    _process: Process,
    client: Client,
    url: String,
}

impl Etcd {
    /// Starts it on this directory, which may hold what was restored for a member `m`.
    async fn start(address: &Address, directory: &Path) -> Result<Self> {
        let words = [
            "--name=m".to_owned(),
            format!("--data-dir={}", directory.display()),
            format!("--listen-client-urls={}", address.client_url()),
            format!("--advertise-client-urls={}", address.client_url()),
            format!("--listen-peer-urls={}", address.peer_url()),
            format!("--initial-advertise-peer-urls={}", address.peer_url()),
            format!("--initial-cluster=m={}", address.peer_url()),
        ];
        let mut process = Process::spawn(&programs::etcd()?, "etcd", &words)?;
        process.ready().await?;
        let client = Client::new(&[address.client_url()])?;
        Ok(Self {
            _process: process,
            client,
            url: address.client_url(),
        })
    }
}

async fn run(program: &Path, words: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(words);
    let output = tokio::task::spawn_blocking(move || command.output()).await??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{} {words:?}: {said}{errors}",
        program.display()
    );
    Ok(said)
}

/// Saves a snapshot of a member with the real etcdctl, restores it with the real etcdutl and starts an etcd on it.
/// Also answers what etcdutl says of the file.
async fn saved_and_restored(cluster: &Cluster) -> Result<(Etcd, serde_json::Value)> {
    saved_and_restored_by(cluster, "").await
}

/// As [`saved_and_restored`], by this user; nobody if it is empty.
async fn saved_and_restored_by(cluster: &Cluster, user: &str) -> Result<(Etcd, serde_json::Value)> {
    let directory = cluster.directory();
    let file = directory.join("saved.db");
    let file = file.to_str().context("its path is text")?;
    let endpoint = format!("--endpoints={}", cluster.endpoint(0));
    let user = format!("--user={user}");
    let save = [&endpoint, &user, "snapshot", "save", file];
    run(&programs::etcdctl()?, &save).await?;
    let etcdutl = programs::etcdutl()?;
    let status = run(&etcdutl, &["snapshot", "status", file, "-w", "json"]).await?;
    let address = Address::claim()?;
    let restored = directory.join("restored");
    let urls = format!("--initial-advertise-peer-urls={}", address.peer_url());
    let members = format!("--initial-cluster=m={}", address.peer_url());
    let into = format!("--data-dir={}", restored.display());
    let words = [
        "snapshot", "restore", file, "--name=m", &urls, &members, &into,
    ];
    run(&etcdutl, &words).await?;
    let etcd = Etcd::start(&address, &restored).await?;
    Ok((etcd, serde_json::from_str(&status)?))
}

/// The same random changes on each of these clients, with leases and compactions; the seed says which.
async fn change(clients: &[&Client], seed: u64, steps: usize) -> Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    for client in clients {
        let grant = |id| pb::LeaseGrantRequest { id, ttl: 3600 };
        client.lease_grant(grant(7)).await?;
        client.lease_grant(grant(8)).await?;
    }
    for step in 0..steps {
        let key = |random: &mut StdRng| format!("k{}", random.random_range(0..30));
        let (one, other) = (key(&mut random), key(&mut random));
        let value = "v".repeat(random.random_range(0..300));
        let lease = [0, 0, 7, 8][random.random_range(0..4)];
        let kind = random.random_range(0..20);
        for client in clients {
            match kind {
                0 => {
                    let revision = client.revision().await? - 3;
                    // Refused where it was compacted already, alike on all.
                    let _ = client.compact(revision).await;
                }
                1..4 => drop(client.delete(delete(&one)).await?),
                4 => {
                    let range_end = other.clone().into();
                    let range = pb::DeleteRangeRequest {
                        range_end,
                        ..delete(&one)
                    };
                    client.delete(range).await?;
                }
                5..8 if one != other => {
                    let put_op = |key: &str| pb::RequestOp {
                        request: Some(pb::request_op::Request::RequestPut(put(key, &value))),
                    };
                    let txn = pb::TxnRequest {
                        success: vec![put_op(&one), put_op(&other)],
                        ..Default::default()
                    };
                    client.txn(txn).await?;
                }
                _ => {
                    let put = pb::PutRequest {
                        lease,
                        ..put(&one, &format!("{step} {value}"))
                    };
                    client.put(put).await?;
                }
            }
        }
    }
    Ok(())
}

async fn hash_kv(client: &Client, revision: i64) -> Result<pb::HashKvResponse> {
    let answer = client.hash_kv(pb::HashKvRequest { revision }).await?;
    Ok(pb::HashKvResponse {
        header: None,
        ..answer
    })
}

async fn the_hash_of_keys_is_the_one_that_etcd_computes(cluster: &mut Cluster) -> Claim {
    let directory = cluster.directory().join("etcd");
    let etcd = Etcd::start(&Address::claim()?, &directory).await?;
    let client = cluster.client_of(0)?;
    assert_eq!(hash_kv(&client, 0).await?, hash_kv(&etcd.client, 0).await?);
    for seed in 0..4 {
        change(&[&client, &etcd.client], seed, 60).await?;
        let newest = client.revision().await?;
        let floor = hash_kv(&client, 0).await?.compact_revision;
        // At the floor itself etcd answers with what it had computed when it compacted, before what went then.
        for revision in [-7, 0].into_iter().chain((floor + 1).max(1)..=newest) {
            let ours = hash_kv(&client, revision).await?;
            let etcds = eventually("etcd has finished its compaction", || async {
                let etcds = hash_kv(&etcd.client, revision).await?;
                ensure!(ours == etcds, "seed {seed}: {ours:?} here, {etcds:?} there");
                Ok(etcds)
            })
            .await?;
            assert_eq!(ours, etcds);
        }
        for client in [&client, &etcd.client] {
            for id in [7, 8] {
                client.lease_revoke(pb::LeaseRevokeRequest { id }).await?;
            }
        }
    }
    // Nothing stands: etcd leaves nothing out then.
    for client in [&client, &etcd.client] {
        let all = everything();
        let (key, range_end) = (all.key, all.range_end);
        let all = pb::DeleteRangeRequest {
            key,
            range_end,
            ..Default::default()
        };
        client.delete(all).await?;
    }
    assert_eq!(hash_kv(&client, 0).await?, hash_kv(&etcd.client, 0).await?);
    Ok(())
}

async fn a_hash_of_keys_is_refused_below_the_floor_and_above_the_newest(
    cluster: &mut Cluster,
) -> Claim {
    let client = cluster.client_of(0)?;
    client.fill(&[("a", "1"), ("a", "2"), ("a", "3")]).await?;
    client.compact(3).await?;
    let ask = |revision| client.hash_kv(pb::HashKvRequest { revision });
    let compacted = "etcdserver: mvcc: required revision has been compacted";
    assert_eq!(
        refused(ask(2).await),
        (Code::OutOfRange, compacted.to_owned())
    );
    let future = "etcdserver: mvcc: required revision is a future revision";
    assert_eq!(refused(ask(5).await), (Code::OutOfRange, future.to_owned()));
    let answer = ask(4).await?;
    assert_eq!((answer.compact_revision, answer.hash_revision), (3, 4));
    assert_eq!(answer.header.context("it has a header")?.revision, 4);
    Ok(())
}

async fn a_snapshot_is_restored_by_etcd_with_all_that_it_holds(cluster: &mut Cluster) -> Claim {
    let client = cluster.client_of(0)?;
    change(&[&client], 99, 300).await?;
    // One value larger than a page, and one as large as they come.
    client.put(put("large", &"x".repeat(10_000))).await?;
    client.put(put("larger", &"y".repeat(1_500_000))).await?;
    client.compact(client.revision().await? - 1).await?;
    let (etcd, status) = saved_and_restored(cluster).await?;
    let before = client.range(everything()).await?;
    let after = etcd.client.range(everything()).await?;
    assert_eq!(before.kvs, after.kvs);
    let revision = client.revision().await?;
    assert_eq!(etcd.client.revision().await?, revision);
    assert_eq!(status["revision"].as_i64(), Some(revision));
    let version = client.status().await?.storage_version;
    assert_eq!(status["version"].as_str(), Some(version.as_str()));
    assert_eq!(hash_kv(&client, 0).await?, hash_kv(&etcd.client, 0).await?);
    for id in [7, 8] {
        let ask = pb::LeaseTimeToLiveRequest { id, keys: true };
        let here = client.lease_time_to_live(ask).await?;
        let there = etcd.client.lease_time_to_live(ask).await?;
        let mut keys = [here.keys, there.keys];
        keys.iter_mut().for_each(|keys| keys.sort());
        assert_eq!(keys[0], keys[1]);
        assert_eq!((here.granted_ttl, there.granted_ttl), (3600, 3600));
    }
    // It goes on from there.
    etcd.client.put(put("after", "1")).await?;
    assert_eq!(etcd.client.revision().await?, revision + 1);
    Ok(())
}

async fn a_snapshot_of_nothing_is_restored_by_etcd(cluster: &mut Cluster) -> Claim {
    let (etcd, status) = saved_and_restored(cluster).await?;
    assert_eq!(status["totalKey"].as_i64(), Some(0));
    assert_eq!(etcd.client.range(everything()).await?.count, 0);
    assert_eq!(etcd.client.revision().await?, 1);
    Ok(())
}

async fn a_snapshot_has_users_and_roles(cluster: &mut Cluster) -> Claim {
    let etcdctl = programs::etcdctl()?;
    let endpoint = format!("--endpoints={}", cluster.endpoint(0));
    for words in [
        "put k1 one",
        "user add root:secret",
        "user grant-role root root",
        "role add reader",
        "role grant-permission reader --prefix=true read k",
        "role grant-permission reader readwrite x",
        "user add alice:word",
        "user grant-role alice reader",
        "user add --no-password bob",
        "auth enable",
    ] {
        let words: Vec<&str> = [endpoint.as_str()]
            .into_iter()
            .chain(words.split(' '))
            .collect();
        run(&etcdctl, &words).await?;
    }
    let said = |endpoint: String| {
        let etcdctl = etcdctl.clone();
        async move {
            let mut said = String::new();
            for words in [
                "--user=alice:word get k1",
                "--user=alice:word put x 1",
                "--user=alice:word put k1 two",
                "--user=alice:other get k1",
                "--user=alice:word get y",
                "get k1",
                "--user=root:secret role get reader",
                "--user=root:secret user get alice",
                "--user=root:secret user get bob",
                "--user=root:secret user list",
                "--user=root:secret auth status",
            ] {
                let words: Vec<&str> = [endpoint.as_str()]
                    .into_iter()
                    .chain(words.split(' '))
                    .collect();
                match run(&etcdctl, &words).await {
                    Ok(answer) => said.push_str(&answer),
                    Err(error) => {
                        // etcdctl's log line has the endpoint in it; its last line says what the server did.
                        let error = format!("{error:#}");
                        said.push_str(error.lines().last().unwrap_or_default());
                    }
                }
                said.push('\n');
            }
            anyhow::Ok(said)
        }
    };
    let (etcd, _) = saved_and_restored_by(cluster, "root:secret").await?;
    let ours = said(endpoint).await?;
    assert!(ours.contains("etcdserver: permission denied"), "{ours}");
    assert_eq!(said(format!("--endpoints={}", etcd.url)).await?, ours);
    Ok(())
}

async fn a_snapshot_is_one_moment_while_others_write(cluster: &mut Cluster) -> Claim {
    let client = cluster.client_of(0)?;
    for number in 0..500 {
        let value = "v".repeat(2000);
        client.put(put(&format!("k{number}"), &value)).await?;
    }
    let writer = client.clone();
    // Both keys always say the same.
    let writing = tokio::spawn(async move {
        for number in 0.. {
            let value = number.to_string();
            let put_op = |key: &str| pb::RequestOp {
                request: Some(pb::request_op::Request::RequestPut(put(key, &value))),
            };
            let success = vec![put_op("a"), put_op("z")];
            let txn = pb::TxnRequest {
                success,
                ..Default::default()
            };
            if writer.txn(txn).await.is_err() {
                return;
            }
        }
    });
    eventually("something is written", || async {
        ensure!(client.get("z").await?.is_some(), "nothing yet");
        Ok(())
    })
    .await?;
    let restored = saved_and_restored(cluster).await;
    writing.abort();
    let (etcd, _) = restored?;
    let (a, z) = (etcd.client.get("a").await?, etcd.client.get("z").await?);
    assert!(a.is_some() && a == z, "{a:?} and {z:?}");
    Ok(())
}

async fn every_member_has_the_same_hashes(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    change(&[&client], 5, 200).await?;
    let revision = client.revision().await?;
    let mut hashes = Vec::new();
    for index in 0..cluster.len() {
        let client = cluster.client_of(index)?;
        let keys = eventually("a member has caught up", || async {
            hash_kv(&client, revision).await
        })
        .await?;
        hashes.push((keys, client.hash(pb::HashRequest {}).await?.hash));
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    Ok(())
}

async fn a_downgrade_is_checked(cluster: &mut Cluster) -> Claim {
    let client = cluster.client_of(0)?;
    let status = client.status().await?;
    let (cluster_version, _) = status
        .storage_version
        .rsplit_once('.')
        .context("it has three parts")?;
    let minor = cluster_version.split('.').nth(1);
    let minor: i64 = minor.context("it has a minor version")?.parse()?;
    let ask = |version: String| {
        let action = pb::downgrade_request::DowngradeAction::Validate.into();
        client.downgrade(pb::DowngradeRequest { action, version })
    };
    eventually("the cluster's version is known", || async {
        Ok(ask(format!("3.{}", minor - 1)).await?)
    })
    .await?;
    for good in [format!("3.{}", minor - 1), format!("3.{}.9", minor - 1)] {
        assert_eq!(ask(good).await?.version, cluster_version);
    }
    let action = pb::downgrade_request::DowngradeAction::Cancel.into();
    let version = String::new();
    let cancel = pb::DowngradeRequest { action, version };
    assert_eq!(client.downgrade(cancel).await?.version, cluster_version);
    let target = "etcdserver: invalid downgrade target version";
    for bad in [format!("3.{minor}"), format!("3.{}.0", minor - 2)] {
        let no = refused(ask(bad).await);
        assert_eq!(no, (Code::InvalidArgument, target.to_owned()));
    }
    let format = "etcdserver: wrong downgrade target version format";
    for bad in ["", "3", "x"] {
        let no = refused(ask(bad.to_owned()).await);
        assert_eq!(no, (Code::InvalidArgument, format.to_owned()));
    }
    Ok(())
}

#[test]
fn a_reader_that_stalls_keeps_nobody_from_another_snapshot_for_ever() {
    claims::run(async {
        if process::oracle().is_some() {
            return Ok(()); // etcd sends any number of them.
        }
        let cluster = Cluster::start(Kind::Processes(1)).await?;
        let client = cluster.client()?;
        for number in 0..200 {
            let key = format!("k{number}");
            client.put(put(&key, &"v".repeat(100_000))).await?;
        }
        let begin = || async {
            let client = cluster.client()?;
            let mut service = MaintenanceClient::new(client.channel());
            Ok(service.snapshot(pb::SnapshotRequest {}).await?)
        };
        let (one, two) = (begin().await?, begin().await?);
        let third: Result<_> = begin().await;
        let refusal = third.err().context("two at a time")?;
        assert!(
            refusal.to_string().contains("too many requests"),
            "{refusal}"
        );
        drop((one, two));
        eventually("there is room again", || async {
            let mut pieces = begin().await?.into_inner();
            tokio::time::timeout(Duration::from_secs(10), pieces.message()).await??;
            Ok(())
        })
        .await?;
        Ok(())
    });
}
