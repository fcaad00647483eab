//! Alarms: raised and ended by name, where they show, and what stands while one does.

use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{delete, op, put, range, txn};
use coord_e2e::clients::http;
use coord_e2e::cluster::claims::{Claim, refused};
use coord_e2e::cluster::{Cluster, eventually};
use coord_e2e::on_each_cluster;
use coord_proto::etcd::etcdserverpb as pb;
use pb::AlarmType::{self, Corrupt, Nospace};
use pb::alarm_request::AlarmAction;
use tonic::Code;

on_each_cluster!(
    an_alarm_stands_until_it_is_ended_by_name,
    a_full_store_refuses_what_stores,
    a_corrupt_cluster_refuses_changes,
    alarms_show_wherever_somebody_looks,
);

/// Of no member: every cluster has it.
const MEMBER: u64 = 7;

async fn alarm(
    client: &Client,
    action: AlarmAction,
    alarm: AlarmType,
) -> Result<Vec<(u64, AlarmType)>, tonic::Status> {
    let request = pb::AlarmRequest {
        action: action.into(),
        member_id: if action == AlarmAction::Get {
            0
        } else {
            MEMBER
        },
        alarm: alarm.into(),
    };
    let answer = client.alarm(request).await?;
    let mut alarms: Vec<_> = answer
        .alarms
        .iter()
        .map(|alarm| (alarm.member_id, alarm.alarm()))
        .collect();
    alarms.sort();
    Ok(alarms)
}

async fn an_alarm_stands_until_it_is_ended_by_name(cluster: &mut Cluster) -> Claim {
    use AlarmAction::{Activate, Deactivate, Get};
    let client = cluster.client()?;
    assert_eq!(alarm(&client, Get, AlarmType::None).await?, []);
    for _ in 0..2 {
        let raised = alarm(&client, Activate, Corrupt).await?;
        assert_eq!(raised, [(MEMBER, Corrupt)], "raised before or not");
    }
    alarm(&client, Activate, Nospace).await?;
    assert_eq!(alarm(&client, Activate, AlarmType::None).await?, []);
    for index in 0..cluster.len() {
        let client = cluster.client_of(index)?;
        let all = alarm(&client, Get, AlarmType::None).await?;
        assert_eq!(all, [(MEMBER, Nospace), (MEMBER, Corrupt)]);
        assert_eq!(alarm(&client, Get, Corrupt).await?, [(MEMBER, Corrupt)]);
    }
    let other = pb::AlarmRequest {
        action: Deactivate.into(),
        member_id: MEMBER + 1,
        alarm: Corrupt.into(),
    };
    assert_eq!(client.alarm(other).await?.alarms, []);
    assert_eq!(
        alarm(&client, Deactivate, Corrupt).await?,
        [(MEMBER, Corrupt)]
    );
    assert_eq!(alarm(&client, Deactivate, Corrupt).await?, []);
    alarm(&client, Deactivate, Nospace).await?;
    assert_eq!(alarm(&client, Get, AlarmType::None).await?, []);
    client.put(put("a", "1")).await?;
    Ok(())
}

async fn a_full_store_refuses_what_stores(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    alarm(&client, AlarmAction::Activate, Nospace).await?;
    let full = (
        Code::ResourceExhausted,
        "etcdserver: mvcc: database space exceeded".to_owned(),
    );
    assert_eq!(refused(client.put(put("a", "2")).await), full);
    let puts = txn([], [op(put("a", "2"))], []);
    assert_eq!(refused(client.txn(puts).await), full);
    let grant = pb::LeaseGrantRequest { id: 0, ttl: 60 };
    assert_eq!(refused(client.lease_grant(grant).await), full);
    assert_eq!(client.get("a").await?, Some("1".into()));
    client.delete(delete("a")).await?;
    client.compact(client.revision().await?).await?;
    Ok(())
}

async fn a_corrupt_cluster_refuses_changes(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    let grant = pb::LeaseGrantRequest { id: 9, ttl: 60 };
    client.lease_grant(grant).await?;
    alarm(&client, AlarmAction::Activate, Corrupt).await?;
    let corrupt = (Code::DataLoss, "etcdserver: corrupt cluster".to_owned());
    assert_eq!(refused(client.put(put("a", "2")).await), corrupt);
    assert_eq!(refused(client.delete(delete("a")).await), corrupt);
    let puts = txn([], [op(put("a", "2"))], []);
    assert_eq!(refused(client.txn(puts).await), corrupt);
    assert_eq!(refused(client.compact(2).await), corrupt);
    let grant = pb::LeaseGrantRequest { id: 10, ttl: 60 };
    assert_eq!(refused(client.lease_grant(grant).await), corrupt);
    let revoke = pb::LeaseRevokeRequest { id: 9 };
    assert_eq!(refused(client.lease_revoke(revoke).await), corrupt);
    // Reads go past what applies changes.
    assert_eq!(client.range(range("a")).await?.count, 1);
    alarm(&client, AlarmAction::Deactivate, Corrupt).await?;
    client.put(put("a", "2")).await?;
    Ok(())
}

async fn alarms_show_wherever_somebody_looks(cluster: &mut Cluster) -> Claim {
    let client = cluster.client_of(0)?;
    alarm(&client, AlarmAction::Activate, Corrupt).await?;
    let errors = client.status().await?.errors;
    // etcd has a space too many here and there.
    let words = |error: &String| error.split_whitespace().collect::<Vec<_>>().join(" ");
    let errors: Vec<_> = errors.iter().map(words).collect();
    assert_eq!(errors, [format!("memberID:{MEMBER} alarm:CORRUPT")]);
    let page = http::request("GET", &cluster.endpoint(0), "/health").await?;
    let json: serde_json::Value = serde_json::from_str(page.body())?;
    assert_eq!(
        (page.status, json["reason"].as_str()),
        (503, Some("ALARM CORRUPT"))
    );
    let ready = http::request("GET", &cluster.endpoint(0), "/readyz/data_corruption").await?;
    assert_eq!(ready.status, 503);
    alarm(&client, AlarmAction::Deactivate, Corrupt).await?;
    eventually("it is well again", || async {
        let page = http::request("GET", &cluster.endpoint(0), "/health").await?;
        anyhow::ensure!(page.status == 200, "/health says {}", page.status);
        Ok(())
    })
    .await?;
    Ok(())
}
