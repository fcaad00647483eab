//! The Lock and Election services, and that they stand in one queue with the recipes of etcd's client libraries.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{put, range};
use coord_e2e::clients::programs;
use coord_e2e::cluster::claims::{Claim, refused};
use coord_e2e::cluster::{Cluster, eventually};
use coord_e2e::{on_each_cluster, on_three_processes};
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::v3electionpb::election_client::ElectionClient;
use coord_proto::etcd::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest,
};
use coord_proto::etcd::v3lockpb::lock_client::LockClient;
use coord_proto::etcd::v3lockpb::{LockRequest, UnlockRequest};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

on_each_cluster!(
    a_lock_is_held_by_one_after_the_other,
    a_lock_is_named_as_client_libraries_name_it,
    a_lease_locks_once_however_often_it_asks,
    a_lock_goes_on_when_its_lease_ends,
    a_caller_that_goes_away_gives_its_place_up,
    a_lock_without_a_lease_brings_one,
    a_lock_under_an_unknown_lease_is_refused,
    waiting_ends_when_the_waiters_lease_does,
    one_leads_after_the_other,
    a_leader_proclaims_and_observers_hear_it,
    a_campaign_of_the_leader_proclaims,
    whoever_does_not_lead_is_told_so,
);

on_three_processes!(a_lock_and_etcdctls_stand_in_one_queue);

fn lock_of(client: &Client) -> LockClient<tonic::transport::Channel> {
    LockClient::new(client.channel())
}

fn election_of(client: &Client) -> ElectionClient<tonic::transport::Channel> {
    ElectionClient::new(client.channel())
}

async fn lease(client: &Client) -> Result<i64> {
    let grant = pb::LeaseGrantRequest { ttl: 60, id: 0 };
    Ok(client.lease_grant(grant).await?.id)
}

/// Locks, and answers the key.
async fn lock(client: &Client, name: &str, lease: i64) -> Result<String, Status> {
    let request = LockRequest {
        name: name.to_owned().into(),
        lease,
    };
    let answer = lock_of(client).lock(request).await?.into_inner();
    assert!(answer.header.is_some_and(|header| header.revision > 1));
    Ok(text(&answer.key))
}

async fn unlock(client: &Client, key: &str) -> Result<(), Status> {
    let key = key.to_owned().into();
    lock_of(client).unlock(UnlockRequest { key }).await?;
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A lock that is waited for meanwhile.
fn waiting(client: &Client, name: &str, lease: i64) -> JoinHandle<Result<String, Status>> {
    let (client, name) = (client.clone(), name.to_owned());
    tokio::spawn(async move { lock(&client, &name, lease).await })
}

async fn is_there(client: &Client, key: &str) -> Result<()> {
    eventually("it stands in the queue", || async {
        ensure!(client.get(key).await?.is_some(), "no {key}");
        Ok(())
    })
    .await
}

async fn is_gone(client: &Client, key: &str) -> Result<()> {
    eventually("it has left the queue", || async {
        ensure!(client.get(key).await?.is_none(), "{key} is there");
        Ok(())
    })
    .await
}

async fn a_lock_is_held_by_one_after_the_other(cluster: &mut Cluster) -> Claim {
    let (one, other) = (cluster.client_of(0)?, cluster.client_of(cluster.len() - 1)?);
    let leases = [lease(&one).await?, lease(&other).await?, lease(&one).await?];
    let first = lock(&one, "l", leases[0]).await?;
    let second = waiting(&other, "l", leases[1]);
    is_there(&one, &format!("l/{:x}", leases[1])).await?;
    let third = waiting(&one, "l", leases[2]);
    is_there(&one, &format!("l/{:x}", leases[2])).await?;
    assert!(!second.is_finished() && !third.is_finished());
    unlock(&one, &first).await?;
    let second = second.await??;
    assert!(!third.is_finished(), "two hold it");
    unlock(&other, &second).await?;
    let third = third.await??;
    unlock(&one, &third).await?;
    // Another name is another lock.
    lock(&one, "l2", leases[0]).await?;
    lock(&one, "l3", leases[1]).await?;
    Ok(())
}

/// etcdctl locks by the recipe of etcd's Go client.
async fn a_lock_and_etcdctls_stand_in_one_queue(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut etcdctl = Command::new(programs::etcdctl()?)
        .arg(format!("--endpoints={}", cluster.endpoints().join(",")))
        .args(["lock", "l"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let said = etcdctl.stdout.take().context("stdout was piped")?;
    let mut said = BufReader::new(said).lines();
    let key = tokio::time::timeout(Duration::from_secs(30), said.next_line()).await??;
    let key = key.context("it says its key")?;
    assert!(key.starts_with("l/"), "{key}");
    let lease = lease(&client).await?;
    let next = waiting(&client, "l", lease);
    is_there(&client, &format!("l/{lease:x}")).await?;
    assert!(!next.is_finished(), "two hold it");
    let id = etcdctl.id().and_then(|id| i32::try_from(id).ok());
    let id = id.and_then(Pid::from_raw).context("it runs")?;
    kill_process(id, Signal::INT)?;
    next.await??;
    is_gone(&client, &key).await?;
    Ok(())
}

async fn a_lock_is_named_as_client_libraries_name_it(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = lease(&client).await?;
    let key = lock(&client, "name", lease).await?;
    assert_eq!(key, format!("name/{lease:x}"));
    let found = client.range(range(&key)).await?.kvs;
    assert_eq!((found[0].lease, found[0].value.as_ref()), (lease, &b""[..]));
    Ok(())
}

async fn a_lease_locks_once_however_often_it_asks(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = lease(&client).await?;
    let first = lock(&client, "l", lease).await?;
    let revision = client.revision().await?;
    assert_eq!(lock(&client, "l", lease).await?, first);
    assert_eq!(client.revision().await?, revision);
    Ok(())
}

async fn a_lock_goes_on_when_its_lease_ends(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let (id, other) = (lease(&client).await?, lease(&client).await?);
    lock(&client, "l", id).await?;
    let next = waiting(&client, "l", other);
    is_there(&client, &format!("l/{other:x}")).await?;
    client.lease_revoke(pb::LeaseRevokeRequest { id }).await?;
    next.await??;
    Ok(())
}

async fn a_caller_that_goes_away_gives_its_place_up(cluster: &mut Cluster) -> Claim {
    let client = cluster.client_of(0)?;
    let (id, other) = (lease(&client).await?, lease(&client).await?);
    let held = lock(&client, "l", id).await?;
    let next = waiting(&client, "l", other);
    let place = format!("l/{other:x}");
    is_there(&client, &place).await?;
    next.abort();
    is_gone(&client, &place).await?;
    assert!(client.get(&held).await?.is_some());
    Ok(())
}

async fn a_lock_without_a_lease_brings_one(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let key = lock(&client, "l", 0).await?;
    let id = client.range(range(&key)).await?.kvs[0].lease;
    let ask = pb::LeaseTimeToLiveRequest { id, keys: false };
    assert_eq!(client.lease_time_to_live(ask).await?.granted_ttl, 60);
    Ok(())
}

async fn a_lock_under_an_unknown_lease_is_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let why = refused(lock(&client, "l", 12345).await);
    // The words of the lease's own refusal without its code: etcd's recipes go through its client library.
    let words = "etcdserver: requested lease not found".to_owned();
    assert_eq!(why, (Code::Unknown, words));
    assert_eq!(client.get("l/3039").await?, None);
    Ok(())
}

async fn waiting_ends_when_the_waiters_lease_does(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let (first, id) = (lease(&client).await?, lease(&client).await?);
    let held = lock(&client, "l", first).await?;
    let next = waiting(&client, "l", id);
    is_there(&client, &format!("l/{id:x}")).await?;
    client.lease_revoke(pb::LeaseRevokeRequest { id }).await?;
    unlock(&client, &held).await?;
    let refusal = refused(next.await?);
    let expired = "mutex: session is expired".to_owned();
    assert_eq!(refusal, (Code::Unknown, expired));
    Ok(())
}

async fn campaign(client: &Client, lease: i64, value: &str) -> Result<CampaignResponse, Status> {
    let request = CampaignRequest {
        name: "e".into(),
        lease,
        value: value.to_owned().into(),
    };
    Ok(election_of(client).campaign(request).await?.into_inner())
}

async fn leader(client: &Client) -> Result<String, Status> {
    let request = LeaderRequest { name: "e".into() };
    let answer = election_of(client).leader(request).await?.into_inner();
    Ok(text(&answer.kv.expect("there is a leader").value))
}

async fn one_leads_after_the_other(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let leases = [lease(&client).await?, lease(&client).await?];
    let first = campaign(&client, leases[0], "one").await?;
    let key = first.leader.context("it has a key")?;
    assert_eq!(text(&key.key), format!("e/{:x}", leases[0]));
    assert_eq!((key.name.as_ref(), key.lease), (&b"e"[..], leases[0]));
    assert_eq!(first.header.context("it has one")?.revision, key.rev);
    assert_eq!(leader(&client).await?, "one");
    let (again, lease) = (client.clone(), leases[1]);
    let next = tokio::spawn(async move { campaign(&again, lease, "two").await });
    is_there(&client, &format!("e/{:x}", leases[1])).await?;
    assert_eq!(leader(&client).await?, "one");
    assert!(!next.is_finished());
    let leader_key = Some(key);
    let resign = ResignRequest { leader: leader_key };
    election_of(&client).resign(resign).await?;
    next.await??;
    assert_eq!(leader(&client).await?, "two");
    Ok(())
}

async fn a_leader_proclaims_and_observers_hear_it(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let (told, mut heard) = mpsc::unbounded_channel();
    let mut election = election_of(&client);
    // Apart, because etcd answers such a call with its first message.
    tokio::spawn(async move {
        let request = LeaderRequest { name: "e".into() };
        let mut stream = election.observe(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            let kv = message.kv.unwrap_or_default();
            told.send(text(&kv.value))
                .map_err(|_| Status::cancelled(""))?;
        }
        Ok::<_, Status>(())
    });
    let mut hear = async || -> Result<String> {
        let value = tokio::time::timeout(Duration::from_secs(20), heard.recv());
        value.await?.context("it goes on")
    };
    let leases = [lease(&client).await?, lease(&client).await?];
    let key = campaign(&client, leases[0], "a").await?.leader;
    assert_eq!(hear().await?, "a");
    for value in ["b", "c"] {
        let proclaim = ProclaimRequest {
            leader: key.clone(),
            value: value.into(),
        };
        election_of(&client).proclaim(proclaim).await?;
        assert_eq!(hear().await?, value);
    }
    // A key beside the leader's says nothing.
    client.put(put("e/zzz", "no leader")).await?;
    let resign = ResignRequest { leader: key };
    election_of(&client).resign(resign).await?;
    assert_eq!(hear().await?, "no leader", "the next in the queue leads");
    Ok(())
}

async fn a_campaign_of_the_leader_proclaims(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = lease(&client).await?;
    let first = campaign(&client, lease, "a").await?.leader;
    let second = campaign(&client, lease, "b").await?.leader;
    assert_eq!(first, second);
    assert_eq!(leader(&client).await?, "b");
    Ok(())
}

async fn whoever_does_not_lead_is_told_so(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let none = refused(leader(&client).await);
    assert_eq!(none, (Code::Unknown, "election: no leader".to_owned()));
    let lease = lease(&client).await?;
    let key = campaign(&client, lease, "a").await?.leader;
    let key = key.context("it has a key")?;
    let wrong = LeaderKey { rev: 1, ..key };
    let proclaim = |leader| {
        let value = "b".into();
        let request = ProclaimRequest { leader, value };
        let mut election = election_of(&client);
        async move { election.proclaim(request).await }
    };
    let not = refused(proclaim(Some(wrong.clone())).await);
    assert_eq!(not, (Code::Unknown, "election: not leader".to_owned()));
    let missing = "\"leader\" field must be provided".to_owned();
    let not = refused(proclaim(None).await);
    assert_eq!(not, (Code::Unknown, missing.clone()));
    let resign = |leader| {
        let mut election = election_of(&client);
        async move { election.resign(ResignRequest { leader }).await }
    };
    assert_eq!(refused(resign(None).await), (Code::Unknown, missing));
    // It is no leader's business any more.
    resign(Some(wrong)).await?;
    assert_eq!(leader(&client).await?, "a");
    Ok(())
}
