//! Members without a quorum, and changes of the membership that must not cost one.

use std::time::{Duration, Instant};

use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::put;
use coord_e2e::clients::http;
use coord_e2e::cluster::claims::{self, Claim, refused};
use coord_e2e::cluster::{Cluster, Kind, eventually};
use coord_e2e::on_three_processes;
use coord_proto::etcd::etcdserverpb as pb;
use futures::StreamExt;
use tonic::{Code, Request, Status};

on_three_processes!(
    a_fourth_member_joins_although_one_of_three_has_died,
    a_member_that_moved_is_dialled_where_the_list_says,
    a_member_that_is_left_alone_says_that_it_has_no_leader,
);

#[test]
fn a_second_member_is_added_before_it_runs() {
    claims::holds(Kind::Processes(1), second_is_added);
}

#[test]
fn a_second_member_joins_although_the_first_was_killed_meanwhile() {
    claims::holds(Kind::Processes(1), second_joins_a_killed_first);
}

#[test]
fn a_member_with_data_starts_whatever_the_initial_flags_say() {
    claims::holds(Kind::Processes(1), initial_flags_are_ignored);
}

/// Adds a voter, again while the cluster says that it is not healthy enough: etcd does for five seconds after start. How
/// long the answer took.
async fn add(client: &Client, peer_url: &str) -> anyhow::Result<(pb::MemberAddResponse, Duration)> {
    eventually("a member is added", || async {
        let request = pb::MemberAddRequest {
            peer_ur_ls: vec![peer_url.to_owned()],
            is_learner: false,
        };
        let began = Instant::now();
        let added = client.member_add(request).await?;
        Ok((added, began.elapsed()))
    })
    .await
}

async fn writes(client: &Client) -> anyhow::Result<()> {
    eventually("writes pass", || async {
        client.put(put("a", "1")).await?;
        Ok(())
    })
    .await
}

async fn second_is_added(cluster: &mut Cluster) -> Claim {
    let first = cluster.client_of(0)?;
    first.put(put("before", "1")).await?;
    let prepared = cluster.prepare("m1")?;
    let (added, took) = add(&first, &prepared.peer_url).await?;
    assert!(
        took < Duration::from_secs(3),
        "etcd answers at once: {took:?}"
    );
    assert_eq!(added.members.len(), 2);
    let unstarted = added.member.expect("the new member");
    assert!(!unstarted.is_learner && unstarted.name.is_empty());
    let listed = first
        .member_list(pb::MemberListRequest {
            linearizable: false,
        })
        .await?;
    assert!(listed.members.contains(&unstarted), "{listed:?}");
    let again = pb::MemberAddRequest {
        peer_ur_ls: vec![prepared.peer_url.clone()],
        is_learner: false,
    };
    // etcd sends it with another code.
    let (_, why) = refused(first.member_add(again).await);
    assert_eq!(
        why,
        "etcdserver: re-configuration failed due to not enough started members"
    );
    let index = cluster.join(prepared)?;
    cluster.ready(index).await?;
    writes(&first).await?;
    writes(&cluster.client_of(index)?).await?;
    assert_eq!(
        cluster.client_of(index)?.get("before").await?,
        Some("1".into())
    );
    Ok(())
}

async fn second_joins_a_killed_first(cluster: &mut Cluster) -> Claim {
    let prepared = cluster.prepare("m1")?;
    add(&cluster.client_of(0)?, &prepared.peer_url).await?;
    cluster.kill(0).await?;
    cluster.spawn(0)?;
    let index = cluster.join(prepared)?;
    // An etcd ends if the first has not read its log yet.
    while !cluster.runs(index) || cluster.ready(index).await.is_err() {
        cluster.leave(index);
        cluster.spawn(index)?;
    }
    cluster.ready(0).await?;
    writes(&cluster.client_of(index)?).await?;
    Ok(())
}

async fn a_fourth_member_joins_although_one_of_three_has_died(cluster: &mut Cluster) -> Claim {
    let leader = cluster.leader().await?;
    let client = cluster.client_of(leader)?;
    let prepared = cluster.prepare("m3")?;
    add(&client, &prepared.peer_url).await?;
    let dies = cluster.follower().await?;
    cluster.kill(dies).await?;
    let index = cluster.join(prepared)?;
    cluster.ready(index).await?;
    writes(&client).await?;
    writes(&cluster.client_of(index)?).await?;
    Ok(())
}

async fn a_member_that_moved_is_dialled_where_the_list_says(cluster: &mut Cluster) -> Claim {
    let moves = cluster.follower().await?;
    let leader = cluster.leader().await?;
    let client = cluster.client_of(leader)?;
    let header = cluster.client_of(moves)?.status().await?.header;
    let id = header.expect("every answer has a header").member_id;
    let elsewhere = cluster.prepare("elsewhere")?;
    let request = pb::MemberUpdateRequest {
        id,
        peer_ur_ls: vec![elsewhere.peer_url.clone()],
    };
    client.member_update(request).await?;
    cluster.set_flag(moves, "listen-peer-urls", &elsewhere.peer_url);
    cluster.set_flag(moves, "initial-advertise-peer-urls", &elsewhere.peer_url);
    cluster.kill(moves).await?;
    cluster.restart(moves).await?;
    client.put(put("after", "1")).await?;
    let there = cluster.client_of(moves)?;
    let value = eventually("the member that moved serves", || async {
        Ok(there.get("after").await?)
    });
    assert_eq!(value.await?, Some("1".into()));
    // It counts for the quorum again.
    let other = (0..3).find(|index| *index != moves && *index != leader);
    cluster.kill(other.expect("there are three")).await?;
    writes(&client).await?;
    Ok(())
}

async fn a_member_that_is_left_alone_says_that_it_has_no_leader(cluster: &mut Cluster) -> Claim {
    let left = cluster.follower().await?;
    let endpoint = cluster.endpoint(left);
    let client = cluster.client_of(left)?;
    client.put(put("a", "1")).await?;
    let mut watch = pb::watch_client::WatchClient::connect(endpoint.clone()).await?;
    let create = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(
            pb::WatchCreateRequest {
                key: "a".into(),
                ..Default::default()
            },
        )),
    };
    let created = futures::stream::iter([create]).chain(futures::stream::pending());
    let mut events = watch.watch(with_leader(created)).await?.into_inner();
    assert!(
        events
            .message()
            .await?
            .is_some_and(|message| message.created)
    );
    let others: Vec<usize> = (0..3).filter(|index| *index != left).collect();
    cluster.kill_all(&others).await?;
    let no_leader = (Code::Unavailable, "etcdserver: no leader".to_owned());
    let ended = tokio::time::timeout(Duration::from_secs(30), events.message()).await?;
    assert_eq!(
        refused(ended),
        no_leader,
        "a watch that requires a leader ends"
    );
    let status = client.status().await?;
    assert_eq!(status.leader, 0);
    assert!(status.errors.contains(&no_leader.1), "{:?}", status.errors);
    let mut kv = pb::kv_client::KvClient::connect(endpoint.clone()).await?;
    let range = pb::RangeRequest {
        key: "a".into(),
        serializable: true,
        ..Default::default()
    };
    let asked = kv.range(with_leader(range.clone())).await;
    assert_eq!(refused(asked), no_leader);
    assert_eq!(
        kv.range(range).await?.into_inner().count,
        1,
        "others are served"
    );
    let metrics = http::request("GET", &endpoint, "/metrics").await?;
    for line in ["etcd_server_has_leader 0", "etcd_server_is_leader 0"] {
        assert!(metrics.body().lines().any(|it| it == line), "no {line}");
    }
    let health = http::request("GET", &endpoint, "/health").await?;
    assert_eq!(health.status, 503);
    assert!(health.body().contains("RAFT NO LEADER"), "{}", health.text);
    cluster.spawn(others[0])?;
    writes(&client).await?;
    let served: Result<_, Status> = kv
        .range(with_leader(pb::RangeRequest {
            key: "a".into(),
            ..Default::default()
        }))
        .await;
    assert_eq!(served?.into_inner().count, 1);
    Ok(())
}

/// A call that is only for a member that has a leader.
fn with_leader<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("hasleader", "true".parse().expect("it is ASCII"));
    request
}

async fn initial_flags_are_ignored(cluster: &mut Cluster) -> Claim {
    cluster.client()?.put(put("a", "1")).await?;
    for (name, value) in [
        ("initial-cluster-state", "existing"),
        ("initial-cluster", "somebody=http://127.0.0.1:1"),
    ] {
        cluster.stop(0).await?;
        cluster.set_flag(0, name, value);
        cluster.restart(0).await?;
        assert_eq!(
            cluster.client()?.get("a").await?,
            Some("1".into()),
            "{name}"
        );
    }
    Ok(())
}
