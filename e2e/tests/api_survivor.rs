//! Clusters that something happened to which no quorum mends: a member that differs from the others, with etcd's corruption checks asked
//! for; and a survivor that is forced to go on alone.

use std::time::Duration;

use anyhow::{Context, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{prefix, put, range};
use coord_e2e::clients::{http, programs};
use coord_e2e::cluster::claims::{self, Claim, refused};
use coord_e2e::cluster::process::{self, Program};
use coord_e2e::cluster::{Cluster, Flags, Kind, eventually, within};
use coord_proto::etcd::etcdserverpb as pb;
use futures::FutureExt;
use pb::AlarmType::Corrupt;
use pb::alarm_request::AlarmAction;
use tonic::Code;

const KEYS: i64 = 50;
/// A planted divergence is found this soon.
const FOUND_MAX: Duration = Duration::from_secs(60);

/// Runs a body on three processes with these flags.
fn on_three(flags: Flags<'_>, body: impl AsyncFnOnce(&mut Cluster) -> Claim) {
    claims::run(async {
        let mut cluster = Cluster::start_with(Kind::Processes(3), flags).await?;
        body(&mut cluster).await
    });
}

#[test]
fn a_member_that_differs_has_the_alarm_corrupt_where_checks_are_asked_for() {
    // Not in the test's own time: it may have to be built first.
    process::failpoints_program().expect("the server with planted bugs can be built");
    on_three(&[("corrupt-check-time", "10s")], differs);
}

#[test]
fn members_that_agree_start_with_the_check_at_the_start() {
    on_three(
        &[(
            "feature-gates",
            "InitialCorruptCheck=true,CompactHashCheck=true",
        )],
        agree,
    );
}

#[test]
fn a_survivor_that_is_forced_keeps_everything_and_the_others_are_refused() {
    on_three(&[], survives);
}

#[test]
fn a_forced_start_that_is_killed_in_the_middle_can_be_done_again() {
    on_three(&[], is_killed_in_the_middle);
}

#[test]
fn a_learner_that_is_forced_is_a_cluster_of_one() {
    claims::holds(Kind::Processes(1), learner);
}

async fn puts(client: &Client, name: &str) -> anyhow::Result<()> {
    for number in 0..KEYS {
        client.put(put(&format!("{name}{number}"), "x")).await?;
    }
    Ok(())
}

async fn id_of(client: &Client) -> anyhow::Result<u64> {
    let header = client.status().await?.header;
    Ok(header.context("every answer has a header")?.member_id)
}

/// Everything that is stored, with its revisions.
async fn contents(client: &Client) -> anyhow::Result<Vec<coord_proto::etcd::mvccpb::KeyValue>> {
    let all = pb::RangeRequest {
        range_end: "\0".into(),
        serializable: true,
        ..range("\0")
    };
    Ok(client.range(all).await?.kvs)
}

/// A member that applies the proposals of an entry in another order than the others: what it has differs as soon as an entry has two that are
/// about one key.
async fn differs(cluster: &mut Cluster) -> Claim {
    let wrong = cluster.follower().await?;
    let id = id_of(&cluster.client_of(wrong)?).await?;
    cluster.stop(wrong).await?;
    cluster.set_program(Program {
        path: Some(process::failpoints_program()?),
        environment: vec![(
            "COORD_FAILPOINT".to_owned(),
            "reordered-envelope".to_owned(),
        )],
    });
    cluster.restart(wrong).await?;
    let leader = cluster.leader().await?;
    let client = cluster.client_of(leader)?;
    within(FOUND_MAX, "the member that differs ends", || async {
        let puts = (0..16).map(|number| client.put(put("same", &number.to_string())).map(drop));
        futures::future::join_all(puts).await;
        ensure!(!cluster.runs(wrong), "it runs");
        Ok(())
    })
    .await?;
    let (_, said) = cluster.ended(wrong).await?;
    assert!(
        said.contains("this member's applied log is not its leader's: "),
        "{said}"
    );
    let get = pb::AlarmRequest {
        action: AlarmAction::Get.into(),
        ..pb::AlarmRequest::default()
    };
    within(FOUND_MAX, "the alarm stands", || async {
        let alarms = client.alarm(get).await?.alarms;
        let alarms: Vec<_> = alarms
            .iter()
            .map(|alarm| (alarm.member_id, alarm.alarm()))
            .collect();
        ensure!(alarms == [(id, Corrupt)], "{alarms:?}");
        Ok(())
    })
    .await?;
    let etcdctl = |words: &[&str]| -> anyhow::Result<String> {
        let mut command = std::process::Command::new(programs::etcdctl()?);
        command
            .arg(format!("--endpoints={}", cluster.endpoint(leader)))
            .args(words);
        Ok(programs::etcdctl_said(&command.output()?))
    };
    assert_eq!(
        etcdctl(&["alarm", "list"])?.trim(),
        format!("memberID:{id} alarm:CORRUPT")
    );
    let corrupt = (Code::DataLoss, "etcdserver: corrupt cluster".to_owned());
    assert_eq!(refused(client.put(put("n", "x")).await), corrupt);
    assert_eq!(
        client.range(range("same")).await?.count,
        1,
        "reads go on, as in etcd"
    );
    let page = http::request("GET", &cluster.endpoint(leader), "/readyz/data_corruption").await?;
    assert_eq!(page.status, 503);
    etcdctl(&["alarm", "disarm"])?;
    assert_eq!(etcdctl(&["alarm", "list"])?.trim(), "");
    client.put(put("n", "x")).await?;
    Ok(())
}

async fn agree(cluster: &mut Cluster) -> Claim {
    puts(&cluster.client()?, "k").await?;
    for member in 0..cluster.len() {
        cluster.stop(member).await?;
        cluster.restart(member).await?;
        assert!(cluster.has_said(member, "initial corruption checking passed; no corruption"));
    }
    let get = pb::AlarmRequest::default();
    assert_eq!(cluster.client()?.alarm(get).await?.alarms, []);
    Ok(())
}

async fn survives(cluster: &mut Cluster) -> Claim {
    puts(&cluster.client()?, "k").await?;
    let survivor = cluster.follower().await?;
    let others: Vec<usize> = (0..3).filter(|member| *member != survivor).collect();
    let before = contents(&cluster.client_of(survivor)?).await?;
    let id = id_of(&cluster.client_of(survivor)?).await?;
    cluster.kill_all(&[0, 1, 2]).await?;
    cluster.set_flag(survivor, "force-new-cluster", "true");
    cluster.restart(survivor).await?;
    let client = cluster.client_of(survivor)?;
    assert_eq!(contents(&client).await?, before);
    let members: Vec<u64> = client
        .members()
        .await?
        .iter()
        .map(|member| member.id)
        .collect();
    assert_eq!(members, [id]);
    puts(&client, "after").await?;
    // The others have a quorum of what was the cluster, and hear from the survivor that they are no members.
    for other in &others {
        cluster.spawn(*other)?;
    }
    for other in &others {
        let (_, said) = cluster.ended(*other).await?;
        assert!(said.contains("was removed from its cluster"), "{said}");
    }
    // Again, and then without: nothing changes any more.
    for is_forced in ["true", "false"] {
        cluster.stop(survivor).await?;
        cluster.set_flag(survivor, "force-new-cluster", is_forced);
        cluster.restart(survivor).await?;
        let client = cluster.client_of(survivor)?;
        assert_eq!(client.range(prefix("after")).await?.count, KEYS);
        assert_eq!(client.members().await?.len(), 1);
    }
    // It grows as any other.
    for other in others.into_iter().rev() {
        cluster.forget(other);
    }
    let client = cluster.client_of(0)?;
    let prepared = cluster.prepare("next")?;
    let add = pb::MemberAddRequest {
        peer_ur_ls: vec![prepared.peer_url.clone()],
        is_learner: false,
    };
    client.member_add(add).await?;
    let next = cluster.join(prepared)?;
    cluster.ready(next).await?;
    assert_eq!(
        cluster.client_of(next)?.range(prefix("after")).await?.count,
        KEYS
    );
    Ok(())
}

async fn is_killed_in_the_middle(cluster: &mut Cluster) -> Claim {
    puts(&cluster.client()?, "k").await?;
    let survivor = cluster.follower().await?;
    let before = contents(&cluster.client_of(survivor)?).await?;
    cluster.kill_all(&[0, 1, 2]).await?;
    cluster.set_flag(survivor, "force-new-cluster", "true");
    for round in 0..12u64 {
        cluster.spawn(survivor)?;
        tokio::time::sleep(Duration::from_millis(round * 12)).await;
        cluster.kill(survivor).await?;
    }
    cluster.restart(survivor).await?;
    let client = cluster.client_of(survivor)?;
    assert_eq!(contents(&client).await?, before);
    assert_eq!(client.members().await?.len(), 1);
    puts(&client, "after").await?;
    cluster.kill(survivor).await?;
    cluster.set_flag(survivor, "force-new-cluster", "false");
    cluster.restart(survivor).await?;
    let client = cluster.client_of(survivor)?;
    assert_eq!(client.range(prefix("after")).await?.count, KEYS);
    Ok(())
}

async fn learner(cluster: &mut Cluster) -> Claim {
    let first = cluster.client_of(0)?;
    puts(&first, "k").await?;
    let prepared = cluster.prepare("m1")?;
    let add = pb::MemberAddRequest {
        peer_ur_ls: vec![prepared.peer_url.clone()],
        is_learner: true,
    };
    first.member_add(add).await?;
    let learner = cluster.join(prepared)?;
    cluster.ready(learner).await?;
    let all = first.range(prefix("k")).await?.kvs;
    eventually("it has caught up", || async {
        let found = contents(&cluster.client_of(learner)?).await?;
        ensure!(found == all, "{} keys", found.len());
        Ok(())
    })
    .await?;
    cluster.kill_all(&[0, learner]).await?;
    cluster.set_flag(learner, "force-new-cluster", "true");
    cluster.restart(learner).await?;
    let client = cluster.client_of(learner)?;
    assert_eq!(client.range(prefix("k")).await?.count, KEYS);
    assert!(cluster.has_said(learner, "this member was a learner"));
    let members = client.members().await?;
    assert!(members.len() == 1 && !members[0].is_learner, "{members:?}");
    client.put(put("after", "x")).await?;
    Ok(())
}
