//! Lease: what it promises about time, and what happens to its keys.

use std::time::Duration;

use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{op, prefix, put, range, txn, watch, watch_prefix};
use coord_e2e::cluster::claims::{Claim, refused};
use coord_e2e::cluster::{Cluster, eventually};
use coord_e2e::{on_each_cluster, on_three_processes};
use coord_proto::etcd::etcdserverpb as pb;
use tokio::time::Instant;
use tonic::{Code, Status};

on_each_cluster!(
    a_grant_names_the_lease_and_takes_no_revision,
    a_chosen_id_is_used_once,
    a_short_time_to_live_is_raised_to_the_minimum,
    a_time_to_live_beyond_reason_is_refused,
    time_to_live_tells_what_is_left_and_which_keys,
    an_unknown_lease_has_time_to_live_minus_one,
    granted_leases_are_listed_until_they_end,
    revoke_deletes_attached_keys_in_one_revision,
    revoke_without_keys_takes_no_revision,
    revoking_an_unknown_lease_is_refused,
    keepalive_renews_to_the_full_time,
    keepalive_of_an_unknown_lease_answers_zero_and_goes_on,
    a_lease_expires_but_not_before_its_time,
    a_renewed_lease_outlives_its_first_time,
    a_put_without_lease_detaches_the_key,
    a_key_moves_to_the_lease_of_its_last_put,
    a_transaction_attaches_keys_too,
);

on_three_processes!(
    a_lease_is_renewed_through_any_member,
    a_lease_survives_the_loss_of_its_leader
);

async fn grant(client: &Client, ttl: i64) -> Result<i64, Status> {
    Ok(client
        .lease_grant(pb::LeaseGrantRequest { ttl, id: 0 })
        .await?
        .id)
}

async fn attach(client: &Client, key: &str, lease: i64) -> Result<(), Status> {
    client
        .put(pb::PutRequest {
            lease,
            ..put(key, "x")
        })
        .await?;
    Ok(())
}

async fn time_to_live(client: &Client, id: i64) -> Result<pb::LeaseTimeToLiveResponse, Status> {
    client
        .lease_time_to_live(pb::LeaseTimeToLiveRequest { id, keys: true })
        .await
}

async fn revoke(client: &Client, id: i64) -> Result<pb::LeaseRevokeResponse, Status> {
    client.lease_revoke(pb::LeaseRevokeRequest { id }).await
}

const NOT_FOUND: &str = "etcdserver: requested lease not found";

async fn a_grant_names_the_lease_and_takes_no_revision(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let first = client
        .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 })
        .await?;
    let second = client
        .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 })
        .await?;
    assert!(
        first.id > 0 && second.id > 0 && first.id != second.id,
        "{first:?} {second:?}"
    );
    assert_eq!((first.ttl, first.error.as_str()), (60, ""));
    assert_eq!(client.revision().await?, 1);
    Ok(())
}

async fn a_chosen_id_is_used_once(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let request = pb::LeaseGrantRequest { ttl: 60, id: 4711 };
    assert_eq!(client.lease_grant(request).await?.id, 4711);
    assert_eq!(
        refused(client.lease_grant(request).await),
        (
            Code::FailedPrecondition,
            "etcdserver: lease already exists".into()
        )
    );
    revoke(&client, 4711).await?;
    assert_eq!(client.lease_grant(request).await?.id, 4711);
    Ok(())
}

async fn a_short_time_to_live_is_raised_to_the_minimum(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    // One and a half election timeouts, in whole seconds.
    for ttl in [1, 0, -5] {
        let granted = client
            .lease_grant(pb::LeaseGrantRequest { ttl, id: 0 })
            .await;
        assert_eq!(granted?.ttl, 2, "asked for {ttl}");
    }
    Ok(())
}

async fn a_time_to_live_beyond_reason_is_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let most = pb::LeaseGrantRequest {
        ttl: 9_000_000_000,
        id: 0,
    };
    assert_eq!(client.lease_grant(most).await?.ttl, 9_000_000_000);
    assert_eq!(
        refused(
            client
                .lease_grant(pb::LeaseGrantRequest {
                    ttl: 9_000_000_001,
                    id: 0
                })
                .await
        ),
        (Code::OutOfRange, "etcdserver: too large lease TTL".into())
    );
    Ok(())
}

async fn time_to_live_tells_what_is_left_and_which_keys(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = grant(&client, 100).await?;
    for key in ["b", "a", "c"] {
        attach(&client, key, lease).await?;
    }
    let mut answer = time_to_live(&client, lease).await?;
    answer.keys.sort();
    assert_eq!((answer.id, answer.granted_ttl), (lease, 100));
    assert!(
        (90..=100).contains(&answer.ttl),
        "{} s left of 100",
        answer.ttl
    );
    assert_eq!(answer.keys, ["a", "b", "c"]);
    let without = client
        .lease_time_to_live(pb::LeaseTimeToLiveRequest {
            id: lease,
            keys: false,
        })
        .await?;
    assert!(without.keys.is_empty());
    Ok(())
}

async fn an_unknown_lease_has_time_to_live_minus_one(cluster: &mut Cluster) -> Claim {
    let answer = time_to_live(&cluster.client()?, 99).await?;
    assert_eq!(
        (answer.ttl, answer.granted_ttl, answer.keys.len()),
        (-1, 0, 0)
    );
    Ok(())
}

async fn granted_leases_are_listed_until_they_end(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let list = async || {
        let leases = client.lease_leases(pb::LeaseLeasesRequest {}).await?.leases;
        let mut ids: Vec<_> = leases.iter().map(|lease| lease.id).collect();
        ids.sort_unstable();
        Ok::<_, Status>(ids)
    };
    assert!(list().await?.is_empty());
    for id in [30, 10, 20] {
        client
            .lease_grant(pb::LeaseGrantRequest { ttl: 60, id })
            .await?;
    }
    assert_eq!(list().await?, [10, 20, 30]);
    revoke(&client, 20).await?;
    assert_eq!(list().await?, [10, 30]);
    Ok(())
}

async fn revoke_deletes_attached_keys_in_one_revision(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = grant(&client, 600).await?;
    for key in ["k3", "k1", "k2"] {
        attach(&client, key, lease).await?;
    }
    client.put(put("k4", "stays")).await?;
    let mut stream = client.watch();
    stream.create(watch_prefix("k")).await?;
    let answer = revoke(&client, lease).await?;
    assert_eq!(answer.header.map(|header| header.revision), Some(6));
    let response = stream.next().await?;
    let events: Vec<_> = response
        .events
        .iter()
        .filter_map(|event| event.kv.as_ref())
        .collect();
    assert_eq!(
        events.iter().map(|kv| kv.key.as_ref()).collect::<Vec<_>>(),
        [b"k1", b"k2", b"k3"]
    );
    assert!(events.iter().all(|kv| kv.mod_revision == 6), "{events:?}");
    let left = client.range(prefix("k")).await?;
    assert_eq!((left.count, left.kvs[0].key.as_ref()), (1, &b"k4"[..]));
    Ok(())
}

async fn revoke_without_keys_takes_no_revision(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = grant(&client, 600).await?;
    revoke(&client, lease).await?;
    assert_eq!(client.revision().await?, 1);
    Ok(())
}

async fn revoking_an_unknown_lease_is_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    assert_eq!(
        refused(revoke(&client, 99).await),
        (Code::NotFound, NOT_FOUND.into())
    );
    let lease = grant(&client, 600).await?;
    revoke(&client, lease).await?;
    assert_eq!(
        refused(revoke(&client, lease).await),
        (Code::NotFound, NOT_FOUND.into())
    );
    Ok(())
}

async fn keepalive_renews_to_the_full_time(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = grant(&client, 5).await?;
    eventually("a second of the lease is used up", || async {
        let left = time_to_live(&client, lease).await?.ttl;
        anyhow::ensure!(left < 4, "{left} s are left");
        Ok(())
    })
    .await?;
    let mut stream = client.keep_alive();
    for _ in 0..3 {
        let answer = stream.renew(lease).await?;
        assert_eq!((answer.id, answer.ttl), (lease, 5));
    }
    let left = time_to_live(&client, lease).await?.ttl;
    assert!(left >= 4, "{left} s are left after a renewal");
    Ok(())
}

async fn keepalive_of_an_unknown_lease_answers_zero_and_goes_on(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = grant(&client, 60).await?;
    let mut stream = client.keep_alive();
    let answer = stream.renew(99).await?;
    assert_eq!((answer.id, answer.ttl), (99, 0));
    assert_eq!(stream.renew(lease).await?.ttl, 60);
    revoke(&client, lease).await?;
    assert_eq!(stream.renew(lease).await?.ttl, 0);
    Ok(())
}

async fn a_lease_expires_but_not_before_its_time(cluster: &mut Cluster) -> Claim {
    const TTL: Duration = Duration::from_secs(2);
    let client = cluster.client()?;
    let mut stream = client.watch();
    stream.create(watch("a")).await?;
    let granted = Instant::now();
    let lease = grant(&client, TTL.as_secs() as i64).await?;
    attach(&client, "a", lease).await?;
    assert_eq!(stream.events(1).await?.len(), 1);
    let expiry = stream.events(1).await?;
    let lived = granted.elapsed();
    assert_eq!(expiry[0].kv.as_ref().map(|kv| kv.mod_revision), Some(3));
    assert!(lived >= TTL, "expired after {lived:?}");
    assert!(lived < TTL * 4, "expired only after {lived:?}");
    assert_eq!(client.range(range("a")).await?.count, 0);
    assert_eq!(time_to_live(&client, lease).await?.ttl, -1);
    assert_eq!(client.keep_alive().renew(lease).await?.ttl, 0);
    Ok(())
}

async fn a_renewed_lease_outlives_its_first_time(cluster: &mut Cluster) -> Claim {
    const TTL: Duration = Duration::from_secs(2);
    let client = cluster.client()?;
    let mut deletion = client.watch();
    deletion.create(watch("a")).await?;
    let lease = grant(&client, TTL.as_secs() as i64).await?;
    attach(&client, "a", lease).await?;
    deletion.events(1).await?;
    let mut stream = client.keep_alive();
    let first = Instant::now();
    let mut renewed = Instant::now();
    while first.elapsed() < TTL * 2 {
        // A renewal each half second; what is waited for is time itself.
        if deletion.within(Duration::from_millis(500)).await?.is_some() {
            return Err("the key is gone although its lease was renewed".into());
        }
        let asked = Instant::now();
        assert_eq!(stream.renew(lease).await?.ttl, TTL.as_secs() as i64);
        renewed = asked;
    }
    deletion.events(1).await?;
    assert!(
        renewed.elapsed() >= TTL,
        "expired {:?} after its last renewal",
        renewed.elapsed()
    );
    Ok(())
}

async fn a_put_without_lease_detaches_the_key(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = grant(&client, 600).await?;
    attach(&client, "a", lease).await?;
    client.put(put("a", "kept")).await?;
    assert!(time_to_live(&client, lease).await?.keys.is_empty());
    revoke(&client, lease).await?;
    assert_eq!(client.get("a").await?, Some("kept".into()));
    Ok(())
}

async fn a_key_moves_to_the_lease_of_its_last_put(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let (first, second) = (grant(&client, 600).await?, grant(&client, 600).await?);
    attach(&client, "a", first).await?;
    attach(&client, "a", second).await?;
    assert!(time_to_live(&client, first).await?.keys.is_empty());
    assert_eq!(time_to_live(&client, second).await?.keys, ["a"]);
    revoke(&client, first).await?;
    assert_eq!(client.range(range("a")).await?.kvs[0].lease, second);
    revoke(&client, second).await?;
    assert_eq!(client.get("a").await?, None);
    Ok(())
}

async fn a_transaction_attaches_keys_too(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = grant(&client, 600).await?;
    let with_lease = |key| {
        op(pb::PutRequest {
            lease,
            ..put(key, "x")
        })
    };
    client
        .txn(txn(
            [],
            [with_lease("a"), with_lease("b"), op(put("c", "x"))],
            [],
        ))
        .await?;
    let mut keys = time_to_live(&client, lease).await?.keys;
    keys.sort();
    assert_eq!(keys, ["a", "b"]);
    revoke(&client, lease).await?;
    assert_eq!(
        client.range(prefix("a")).await?.count + client.range(prefix("b")).await?.count,
        0
    );
    assert_eq!(client.get("c").await?, Some("x".into()));
    Ok(())
}

async fn a_lease_is_renewed_through_any_member(cluster: &mut Cluster) -> Claim {
    let lease = grant(&cluster.client()?, 30).await?;
    for index in 0..cluster.len() {
        let client = cluster.client_of(index)?;
        assert_eq!(
            client.keep_alive().renew(lease).await?.ttl,
            30,
            "through member {index}"
        );
        let answer = time_to_live(&client, lease).await?;
        assert!(
            (28..=30).contains(&answer.ttl),
            "member {index} says that {} s are left",
            answer.ttl
        );
        assert_eq!(
            client
                .lease_leases(pb::LeaseLeasesRequest {})
                .await?
                .leases
                .len(),
            1
        );
    }
    Ok(())
}

async fn a_lease_survives_the_loss_of_its_leader(cluster: &mut Cluster) -> Claim {
    const TTL: Duration = Duration::from_secs(4);
    let leader = cluster.leader().await?;
    let other = cluster.client_of((leader + 1) % cluster.len())?;
    let granted = Instant::now();
    let lease = grant(&other, TTL.as_secs() as i64).await?;
    attach(&other, "a", lease).await?;
    let mut stream = other.watch();
    stream.create(watch("a")).await?;
    cluster.kill(leader).await?;
    cluster.leader().await?;
    // Nothing renews it, so it ends; but no new leader may end it early.
    let ended = stream.events(1).await?;
    assert_eq!(ended.len(), 1);
    assert!(
        granted.elapsed() >= TTL,
        "expired after {:?}",
        granted.elapsed()
    );
    assert!(
        granted.elapsed() < TTL * 4,
        "expired only after {:?}",
        granted.elapsed()
    );
    Ok(())
}
