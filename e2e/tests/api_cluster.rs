//! Cluster: members join as learners, are promoted, updated, listed and removed.

use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{prefix, put, range};
use coord_e2e::clients::http;
use coord_e2e::cluster::claims::{self, Claim, refused};
use coord_e2e::cluster::{Cluster, Kind, eventually};
use coord_e2e::on_three_processes;
use coord_proto::etcd::etcdserverpb as pb;
use tonic::{Code, Status};

on_three_processes!(
    every_member_lists_the_same_members,
    wrong_additions_are_refused,
    unknown_members_are_refused,
    an_unstarted_learner_is_not_promoted,
    addresses_are_updated,
    a_member_is_removed_and_stops,
    a_removed_leader_is_succeeded,
);

#[test]
fn a_cluster_of_one_grows_to_three_through_learners() {
    claims::holds(Kind::Processes(1), grows_to_three);
}

#[test]
fn a_learner_serves_only_what_it_may() {
    claims::holds(Kind::Processes(1), learner_serves);
}

#[test]
fn a_member_that_was_removed_may_come_back_as_a_new_one() {
    claims::holds(Kind::Processes(3), comes_back_as_a_new_one);
}

async fn id_of(cluster: &Cluster, index: usize) -> anyhow::Result<u64> {
    let header = cluster.client_of(index)?.status().await?.header;
    Ok(header.expect("every answer has a header").member_id)
}

/// Asks for a change, again while the cluster says that it is not healthy enough: etcd does for five seconds after start.
async fn when_healthy<T>(
    ask: impl AsyncFn() -> Result<T, Status>,
) -> anyhow::Result<Result<T, Status>> {
    eventually("the cluster takes changes", || async {
        match ask().await {
            Err(status) if status.code() == Code::Unavailable => Err(status.into()),
            answer => Ok(answer),
        }
    })
    .await
}

/// A request to add a member, again while the cluster is not ready for a change.
async fn add(
    client: &Client,
    peer_url: &str,
    is_learner: bool,
) -> anyhow::Result<pb::MemberAddResponse> {
    eventually("a member is added", || async {
        let request = pb::MemberAddRequest {
            peer_ur_ls: vec![peer_url.to_owned()],
            is_learner,
        };
        Ok(client.member_add(request).await?)
    })
    .await
}

async fn promote(client: &Client, id: u64) -> anyhow::Result<Vec<pb::Member>> {
    let promoted = eventually("the learner is in sync and promoted", || async {
        Ok(client
            .member_promote(pb::MemberPromoteRequest { id })
            .await?)
    });
    Ok(promoted.await?.members)
}

async fn every_member_lists_the_same_members(cluster: &mut Cluster) -> Claim {
    let mut lists = Vec::new();
    for index in 0..cluster.len() {
        for linearizable in [true, false] {
            let answer = cluster
                .client_of(index)?
                .member_list(pb::MemberListRequest { linearizable })
                .await?;
            assert_eq!(answer.header.map(|header| header.revision), Some(0));
            let mut members = answer.members;
            members.sort_by(|a, b| a.name.cmp(&b.name));
            lists.push(members);
        }
    }
    assert!(lists.iter().all(|list| *list == lists[0]), "{lists:?}");
    for (index, member) in lists[0].iter().enumerate() {
        assert_eq!(member.name, cluster.name(index));
        assert_eq!(member.client_ur_ls, [cluster.endpoint(index)]);
        assert_eq!(member.id, id_of(cluster, index).await?);
        assert!(!member.is_learner && member.peer_ur_ls.len() == 1);
    }
    assert_eq!(lists[0].len(), 3);
    Ok(())
}

async fn wrong_additions_are_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let add = async |url: &str, is_learner| {
        client
            .member_add(pb::MemberAddRequest {
                peer_ur_ls: vec![url.to_owned()],
                is_learner,
            })
            .await
    };
    for url in [
        "not a url",
        "ftp://127.0.0.1:2380",
        "http://127.0.0.1:2380/path",
        "http://127.0.0.1:2380/",
        "http://127.0.0.1",
    ] {
        assert_eq!(
            refused(add(url, true).await),
            (
                Code::InvalidArgument,
                "etcdserver: given member URLs are invalid".into()
            ),
            "{url}"
        );
    }
    let taken = client.members().await?[0].peer_ur_ls[0].clone();
    assert_eq!(
        refused(when_healthy(async || add(&taken, true).await).await?),
        (
            Code::FailedPrecondition,
            "etcdserver: Peer URLs already exists".into()
        )
    );
    let (first, second) = (cluster.prepare("m3")?, cluster.prepare("m4")?);
    self::add(&client, &first.peer_url, true).await?;
    assert_eq!(
        refused(add(&second.peer_url, true).await),
        (
            Code::FailedPrecondition,
            "etcdserver: too many learner members in cluster".into()
        )
    );
    assert_eq!(client.members().await?.len(), 4);
    Ok(())
}

async fn unknown_members_are_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let expected = (Code::NotFound, "etcdserver: member not found".to_owned());
    let peer_ur_ls = vec![cluster.prepare("m3")?.peer_url];
    assert_eq!(
        refused(
            client
                .member_remove(pb::MemberRemoveRequest { id: 12 })
                .await
        ),
        expected
    );
    assert_eq!(
        refused(
            client
                .member_update(pb::MemberUpdateRequest { id: 12, peer_ur_ls })
                .await
        ),
        expected
    );
    assert_eq!(
        refused(
            client
                .member_promote(pb::MemberPromoteRequest { id: 12 })
                .await
        ),
        expected
    );
    let voter = id_of(cluster, 0).await?;
    assert_eq!(
        refused(
            client
                .member_promote(pb::MemberPromoteRequest { id: voter })
                .await
        ),
        (
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member".into()
        )
    );
    Ok(())
}

async fn an_unstarted_learner_is_not_promoted(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let prepared = cluster.prepare("m3")?;
    let answer = add(&client, &prepared.peer_url, true).await?;
    let member = answer.member.expect("the new member");
    assert!(
        member.is_learner && member.name.is_empty() && member.client_ur_ls.is_empty(),
        "{member:?}"
    );
    assert_eq!(
        (member.peer_ur_ls, answer.members.len()),
        (vec![prepared.peer_url.clone()], 4)
    );
    assert_eq!(
        refused(
            client
                .member_promote(pb::MemberPromoteRequest { id: member.id })
                .await
        ),
        (
            Code::FailedPrecondition,
            "etcdserver: can only promote a learner member which is in sync with leader".into()
        )
    );
    // A learner counts for no quorum: one voter of three may be down.
    let follower = cluster.follower().await?;
    cluster.kill(follower).await?;
    let client = cluster.client_of(cluster.leader().await?)?;
    client.put(put("a", "1")).await?;
    Ok(())
}

async fn addresses_are_updated(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let follower = cluster.follower().await?;
    let id = id_of(cluster, follower).await?;
    let members = client.members().await?;
    let old = members
        .iter()
        .find(|member| member.id == id)
        .expect("it is a member")
        .peer_ur_ls[0]
        .clone();
    let new = cluster.prepare("other")?.peer_url;
    let peer_ur_ls = vec![old, new];
    let request = pb::MemberUpdateRequest {
        id,
        peer_ur_ls: peer_ur_ls.clone(),
    };
    let answer = client.member_update(request).await?;
    assert_eq!(answer.members.len(), 3);
    let members = client.members().await?;
    let mut found = members
        .iter()
        .find(|member| member.id == id)
        .expect("it is still a member")
        .peer_ur_ls
        .clone();
    found.sort();
    let mut expected = peer_ur_ls;
    expected.sort();
    assert_eq!(found, expected);
    client.put(put("a", "1")).await?;
    assert_eq!(
        cluster.client_of(follower)?.get("a").await?,
        Some("1".into())
    );
    Ok(())
}

async fn a_member_is_removed_and_stops(cluster: &mut Cluster) -> Claim {
    let follower = cluster.follower().await?;
    let leader = cluster.leader().await?;
    let client = cluster.client_of(leader)?;
    client.put(put("a", "1")).await?;
    let id = id_of(cluster, follower).await?;
    let answer =
        when_healthy(async || client.member_remove(pb::MemberRemoveRequest { id }).await).await??;
    assert_eq!(answer.members.len(), 2);
    assert!(answer.members.iter().all(|member| member.id != id));
    cluster.ended(follower).await?;
    client.put(put("a", "2")).await?;
    assert_eq!(
        refused(client.member_remove(pb::MemberRemoveRequest { id }).await),
        (Code::NotFound, "etcdserver: member not found".into())
    );
    Ok(())
}

async fn a_removed_leader_is_succeeded(cluster: &mut Cluster) -> Claim {
    let leader = cluster.leader().await?;
    let other = cluster.client_of((leader + 1) % cluster.len())?;
    other.put(put("a", "1")).await?;
    let id = id_of(cluster, leader).await?;
    when_healthy(async || other.member_remove(pb::MemberRemoveRequest { id }).await).await??;
    cluster.ended(leader).await?;
    assert_ne!(cluster.leader().await?, leader);
    eventually("the next leader takes writes", || async {
        Ok(other.put(put("a", "2")).await?)
    })
    .await?;
    assert_eq!(other.members().await?.len(), 2);
    Ok(())
}

async fn grows_to_three(cluster: &mut Cluster) -> Claim {
    let first = cluster.client_of(0)?;
    for number in 0..100 {
        first.put(put(&format!("k{number}"), "x")).await?;
    }
    for name in ["m1", "m2"] {
        let prepared = cluster.prepare(name)?;
        let id = add(&first, &prepared.peer_url, true)
            .await?
            .member
            .expect("the new member")
            .id;
        let index = cluster.join(prepared)?;
        cluster.ready(index).await?;
        let members = promote(&first, id).await?;
        assert!(
            members.iter().all(|member| !member.is_learner),
            "{members:?}"
        );
        assert_eq!(members.len(), index + 1);
        let found = eventually("the new voter serves linearizable reads", || async {
            Ok(cluster.client_of(index)?.range(prefix("k")).await?)
        })
        .await?;
        assert_eq!(found.count, 100, "on {name}");
        assert_eq!(id_of(cluster, index).await?, id);
    }
    let named = eventually("every member has published its name", || async {
        let members = first.members().await?;
        anyhow::ensure!(
            members.iter().all(|member| !member.name.is_empty()),
            "{members:?}"
        );
        Ok(members)
    })
    .await?;
    let mut names: Vec<_> = named.into_iter().map(|member| member.name).collect();
    names.sort();
    assert_eq!(names, ["m0", "m1", "m2"]);
    // Three voters: the first one is not needed any more.
    cluster.kill(0).await?;
    let rest = cluster.client_of(1)?;
    eventually("the others go on", || async {
        Ok(rest.put(put("after", "1")).await?)
    })
    .await?;
    cluster.restart(0).await?;
    assert_eq!(cluster.client_of(0)?.get("after").await?, Some("1".into()));
    Ok(())
}

async fn learner_serves(cluster: &mut Cluster) -> Claim {
    let voter = cluster.client_of(0)?;
    voter.put(put("a", "1")).await?;
    let prepared = cluster.prepare("m1")?;
    add(&voter, &prepared.peer_url, true).await?;
    let index = cluster.join(prepared)?;
    cluster.ready(index).await?;
    let learner = cluster.client_of(index)?;
    let serializable = pb::RangeRequest {
        serializable: true,
        ..range("a")
    };
    eventually("the learner has the data", || async {
        let found = learner.range(serializable.clone()).await?;
        anyhow::ensure!(found.count == 1, "not yet");
        Ok(())
    })
    .await?;
    assert!(learner.status().await?.is_learner);
    // It is well, and not there for clients.
    for (path, status) in [("/health", 200), ("/livez", 200), ("/readyz", 503)] {
        let page = http::request("GET", &cluster.endpoint(index), path).await?;
        assert_eq!(page.status, status, "{path}: {}", page.body());
    }
    let expected = (
        Code::FailedPrecondition,
        "etcdserver: rpc not supported for learner".to_owned(),
    );
    assert_eq!(refused(learner.range(range("a")).await), expected);
    assert_eq!(refused(learner.put(put("a", "2")).await), expected);
    assert_eq!(
        refused(
            learner
                .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 })
                .await
        ),
        expected
    );
    let members = voter.members().await?;
    assert_eq!(members.iter().filter(|member| member.is_learner).count(), 1);
    Ok(())
}

async fn comes_back_as_a_new_one(cluster: &mut Cluster) -> Claim {
    let gone = cluster.follower().await?;
    let id = id_of(cluster, gone).await?;
    let name = cluster.name(gone).to_owned();
    let client = cluster.client_of(cluster.leader().await?)?;
    client.put(put("a", "1")).await?;
    when_healthy(async || client.member_remove(pb::MemberRemoveRequest { id }).await).await??;
    cluster.ended(gone).await?;
    std::fs::remove_dir_all(cluster.data_dir(gone))?;
    cluster.forget(gone);
    let prepared = cluster.prepare(&name)?;
    let new = add(&client, &prepared.peer_url, true)
        .await?
        .member
        .expect("the new member")
        .id;
    assert_ne!(new, id);
    let index = cluster.join(prepared)?;
    cluster.ready(index).await?;
    promote(&client, new).await?;
    let value = eventually("the new member serves", || async {
        Ok(cluster.client_of(index)?.get("a").await?)
    })
    .await?;
    assert_eq!(value, Some("1".into()));
    Ok(())
}
