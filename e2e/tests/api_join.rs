//! Becoming a member: waiting to be added, catching up before the vote, and what a member that lost its disk is told.

use std::time::Duration;

use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::put;
use coord_e2e::clients::http;
use coord_e2e::cluster::claims::{self, Claim, refused};
use coord_e2e::cluster::{Cluster, Kind, eventually};
use coord_e2e::on_three_processes;
use coord_proto::etcd::etcdserverpb as pb;
use tonic::Code;

on_three_processes!(
    a_wiped_founder_is_refused_under_its_old_id_and_comes_back_under_a_new_one,
    a_removed_member_says_why_it_stops,
);

#[test]
fn a_member_that_was_not_added_yet_waits() {
    claims::holds(Kind::Processes(1), waits_to_be_added);
}

#[test]
fn a_learner_that_is_behind_is_not_promoted() {
    claims::holds(Kind::Processes(1), not_promoted_while_behind);
}

#[test]
fn a_wiped_joiner_is_refused_under_its_old_id() {
    claims::holds(Kind::Processes(1), wiped_joiner);
}

async fn add_learner(client: &Client, peer_url: &str) -> anyhow::Result<u64> {
    eventually("a learner is added", || async {
        let request = pb::MemberAddRequest {
            peer_ur_ls: vec![peer_url.to_owned()],
            is_learner: true,
        };
        let added = client.member_add(request).await?;
        Ok(added.member.expect("the new member").id)
    })
    .await
}

async fn promote(client: &Client, id: u64) -> anyhow::Result<()> {
    eventually("the learner is promoted", || async {
        client
            .member_promote(pb::MemberPromoteRequest { id })
            .await?;
        Ok(())
    })
    .await
}

async fn remove(client: &Client, id: u64) -> anyhow::Result<()> {
    eventually("a member is removed", || async {
        client.member_remove(pb::MemberRemoveRequest { id }).await?;
        Ok(())
    })
    .await
}

async fn id_of(cluster: &Cluster, index: usize) -> anyhow::Result<u64> {
    let header = cluster.client_of(index)?.status().await?.header;
    Ok(header.expect("every answer has a header").member_id)
}

async fn waits_to_be_added(cluster: &mut Cluster) -> Claim {
    let first = cluster.client_of(0)?;
    first.put(put("a", "1")).await?;
    let prepared = cluster.prepare("m1")?;
    let peer_url = prepared.peer_url.clone();
    let index = cluster.join(prepared)?;
    let endpoint = cluster.endpoint(index);
    let page = eventually("it says what it waits for", || async {
        http::request("GET", &endpoint, "/readyz").await
    })
    .await?;
    assert_eq!(page.status, 503);
    assert!(
        page.body().contains("waiting to be added to the cluster"),
        "{}",
        page.text
    );
    let alive = http::request("GET", &endpoint, "/livez").await?;
    assert_eq!(alive.status, 200);
    let (code, _) = refused(cluster.client_of(index)?.put(put("a", "2")).await);
    assert_eq!(code, Code::Unavailable, "clients turn to another member");
    let id = add_learner(&first, &peer_url).await?;
    cluster.ready(index).await?;
    assert_eq!(id_of(cluster, index).await?, id);
    Ok(())
}

async fn not_promoted_while_behind(cluster: &mut Cluster) -> Claim {
    let first = cluster.client_of(0)?;
    let prepared = cluster.prepare("m1")?;
    let id = add_learner(&first, &prepared.peer_url).await?;
    let index = cluster.join(prepared)?;
    cluster.ready(index).await?;
    cluster.pause(index)?;
    // More entries than a learner may be behind. Several puts may share one.
    let before = first.status().await?.raft_index;
    while first.status().await?.raft_index <= before + 1000 {
        for number in 0..100 {
            first.put(put("a", &number.to_string())).await?;
        }
    }
    first.put(put("a", "last")).await?;
    let request = pb::MemberPromoteRequest { id };
    assert_eq!(
        refused(first.member_promote(request).await),
        (
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader".into()
        )
    );
    cluster.resume(index)?;
    promote(&first, id).await?;
    let learner = cluster.client_of(index)?;
    let value = eventually("the new voter serves", || async {
        Ok(learner.get("a").await?)
    })
    .await?;
    assert_eq!(value, Some("last".into()));
    Ok(())
}

/// Asserts the words of a member that lost its disk: come back as a new one.
fn says_how_to_come_back(said: &str) {
    assert!(
        said.contains("remove it from the cluster") && said.contains("add it again"),
        "{said}"
    );
}

async fn a_wiped_founder_is_refused_under_its_old_id_and_comes_back_under_a_new_one(
    cluster: &mut Cluster,
) -> Claim {
    let wiped = cluster.follower().await?;
    let id = id_of(cluster, wiped).await?;
    let name = cluster.name(wiped).to_owned();
    let client = cluster.client_of(cluster.leader().await?)?;
    client.put(put("a", "1")).await?;
    cluster.kill(wiped).await?;
    std::fs::remove_dir_all(cluster.data_dir(wiped))?;
    cluster.spawn(wiped)?;
    let (status, said) = cluster.ended(wiped).await?;
    assert!(!status.expect("a process").success());
    says_how_to_come_back(&said);
    // The rest is not disturbed.
    client.put(put("a", "2")).await?;

    remove(&client, id).await?;
    cluster.forget(wiped);
    let prepared = cluster.prepare(&name)?;
    let new = add_learner(&client, &prepared.peer_url).await?;
    assert_ne!(new, id);
    let index = cluster.join(prepared)?;
    cluster.ready(index).await?;
    promote(&client, new).await?;
    let fresh = cluster.client_of(index)?;
    let value = eventually("the new member serves", || async {
        Ok(fresh.get("a").await?)
    })
    .await?;
    assert_eq!(value, Some("2".into()));
    Ok(())
}

async fn wiped_joiner(cluster: &mut Cluster) -> Claim {
    let first = cluster.client_of(0)?;
    for name in ["m1", "m2"] {
        let prepared = cluster.prepare(name)?;
        let id = add_learner(&first, &prepared.peer_url).await?;
        let index = cluster.join(prepared)?;
        cluster.ready(index).await?;
        promote(&first, id).await?;
    }
    first.put(put("a", "1")).await?;
    cluster.kill(2).await?;
    std::fs::remove_dir_all(cluster.data_dir(2))?;
    cluster.spawn(2)?;
    let (status, said) = cluster.ended(2).await?;
    assert!(!status.expect("a process").success());
    says_how_to_come_back(&said);
    // It has not voted, and the others did not mind: with the wiped one away two of three go on.
    first.put(put("a", "2")).await?;
    assert_eq!(cluster.client_of(1)?.get("a").await?, Some("2".into()));
    Ok(())
}

async fn a_removed_member_says_why_it_stops(cluster: &mut Cluster) -> Claim {
    let follower = cluster.follower().await?;
    let id = id_of(cluster, follower).await?;
    let client = cluster.client_of(cluster.leader().await?)?;
    // While it is away, so that nobody but its peers can tell it.
    cluster.pause(follower)?;
    remove(&client, id).await?;
    client.put(put("a", "1")).await?;
    cluster.resume(follower)?;
    let (status, said) = cluster.ended(follower).await?;
    assert!(!status.expect("a process").success());
    assert!(said.contains("was removed from its cluster"), "{said}");
    // And again at the next start.
    tokio::time::timeout(Duration::from_secs(60), async {
        cluster.spawn(follower)?;
        let (_, said) = cluster.ended(follower).await?;
        anyhow::ensure!(said.contains("was removed from its cluster"), "{said}");
        anyhow::Ok(())
    })
    .await??;
    Ok(())
}
