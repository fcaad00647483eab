//! Watch: what events hold; every one once, in order, whole revisions.

use std::collections::BTreeMap;

use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::answer::{revision_of, shown};
use coord_e2e::clients::etcd::request::{delete, delete_to, op, put, txn, watch, watch_prefix};
use coord_e2e::cluster::Cluster;
use coord_e2e::cluster::claims::Claim;
use coord_e2e::on_each_cluster;
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb::Event;
use pb::watch_create_request::FilterType;

on_each_cluster!(
    events_come_in_order_with_their_revisions,
    a_delete_event_carries_key_and_revision_only,
    filters_drop_puts_or_deletes,
    previous_values_come_with_changes_and_not_with_creations,
    previous_values_come_from_history_too,
    events_of_one_transaction_come_together,
    a_slow_watcher_catches_up_without_a_gap,
    many_watchers_see_every_event,
    lease_expiry_is_seen_as_one_revision,
);

async fn events_come_in_order_with_their_revisions(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = client.watching(watch("a")).await?;
    for number in 0..50 {
        client.put(put("a", &number.to_string())).await?;
    }
    let events = stream.events(50).await?;
    let expected: Vec<_> = (0..50)
        .map(|number| format!("a={number}@{}", number + 2))
        .collect();
    assert_eq!(shown(&events), expected);
    let last = events[49].kv.as_ref().expect("every event has a key");
    assert_eq!((last.create_revision, last.version), (2, 50));
    Ok(())
}

async fn a_delete_event_carries_key_and_revision_only(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = client.watching(watch("a")).await?;
    client.put(put("a", "1")).await?;
    client.delete(delete("a")).await?;
    let events = stream.events(2).await?;
    assert_eq!(shown(&events), ["a=1@2", "-a@3"]);
    let kv = events[1].kv.as_ref().expect("every event has a key");
    assert_eq!(
        (kv.create_revision, kv.version, kv.lease, kv.value.len()),
        (0, 0, 0, 0)
    );
    assert_eq!(events[1].prev_kv, None);
    Ok(())
}

async fn filters_drop_puts_or_deletes(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let filtered = |filter: FilterType| pb::WatchCreateRequest {
        filters: vec![filter.into()],
        ..watch("a")
    };
    let mut deletes = client.watching(filtered(FilterType::Noput)).await?;
    let mut puts = client.watching(filtered(FilterType::Nodelete)).await?;
    for number in 0..3 {
        client.put(put("a", &number.to_string())).await?;
        client.delete(delete("a")).await?;
    }
    assert_eq!(shown(&deletes.events(3).await?), ["-a@3", "-a@5", "-a@7"]);
    assert_eq!(shown(&puts.events(3).await?), ["a=0@2", "a=1@4", "a=2@6"]);
    Ok(())
}

/// The previous values that the events carry.
fn previous(events: &[Event]) -> Vec<Option<String>> {
    events
        .iter()
        .map(|event| {
            event
                .prev_kv
                .as_ref()
                .map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
        })
        .collect()
}

async fn change_with_previous(client: &Client) -> anyhow::Result<()> {
    client.put(put("a", "1")).await?;
    client.put(put("a", "2")).await?;
    client.delete(delete("a")).await?;
    client.put(put("a", "3")).await?;
    Ok(())
}

async fn previous_values_come_with_changes_and_not_with_creations(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = client
        .watching(pb::WatchCreateRequest {
            prev_kv: true,
            ..watch("a")
        })
        .await?;
    change_with_previous(&client).await?;
    let events = stream.events(4).await?;
    assert_eq!(
        previous(&events),
        [None, Some("1".into()), Some("2".into()), None]
    );
    let deleted = events[2]
        .prev_kv
        .as_ref()
        .expect("a delete has a previous value");
    assert_eq!(
        (
            deleted.create_revision,
            deleted.mod_revision,
            deleted.version
        ),
        (2, 3, 2)
    );
    Ok(())
}

async fn previous_values_come_from_history_too(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    change_with_previous(&client).await?;
    let request = pb::WatchCreateRequest {
        prev_kv: true,
        start_revision: 2,
        ..watch("a")
    };
    let mut stream = client.watching(request).await?;
    assert_eq!(
        previous(&stream.events(4).await?),
        [None, Some("1".into()), Some("2".into()), None]
    );
    Ok(())
}

async fn events_of_one_transaction_come_together(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("k/old", "x")).await?;
    let mut live = client.watching(watch_prefix("k/")).await?;
    let ops: Vec<_> = (0..100)
        .map(|number| op(put(&format!("k/{number:03}"), "x")))
        .collect();
    client
        .txn(txn([], [ops, vec![op(delete("k/old"))]].concat(), []))
        .await?;
    client.delete(delete_to("k/000", "k/050")).await?;
    let replay = pb::WatchCreateRequest {
        start_revision: 3,
        ..watch_prefix("k/")
    };
    let mut replayed = client.watching(replay).await?;
    for stream in [&mut live, &mut replayed] {
        let mut by_revision: BTreeMap<i64, Vec<usize>> = BTreeMap::new();
        let mut seen = 0;
        while seen < 151 {
            let response = stream.next().await?;
            seen += response.events.len();
            let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
            for event in &response.events {
                *counts.entry(revision_of(event)).or_default() += 1;
            }
            for (revision, count) in counts {
                by_revision.entry(revision).or_default().push(count);
            }
        }
        assert_eq!(by_revision, BTreeMap::from([(3, vec![101]), (4, vec![50])]));
    }
    Ok(())
}

async fn a_slow_watcher_catches_up_without_a_gap(cluster: &mut Cluster) -> Claim {
    const EVENTS: usize = 300;
    let client = cluster.client()?;
    let mut slow = client.watching(watch_prefix("k")).await?;
    let mut quick = client.watching(watch_prefix("k")).await?;
    // 30 MB that the slow one does not read: more than connections and queues hold.
    let large = "v".repeat(100_000);
    for number in 0..EVENTS {
        client.put(put(&format!("k{number}"), &large)).await?;
        assert_eq!(revision_of(&quick.events(1).await?[0]), number as i64 + 2);
    }
    let revisions: Vec<_> = slow.events(EVENTS).await?.iter().map(revision_of).collect();
    assert_eq!(revisions, (2..2 + EVENTS as i64).collect::<Vec<_>>());
    client.put(put("k", "live")).await?;
    assert_eq!(
        shown(&slow.events(1).await?),
        [format!("k=live@{}", EVENTS + 2)]
    );
    Ok(())
}

async fn many_watchers_see_every_event(cluster: &mut Cluster) -> Claim {
    const STREAMS: usize = 10;
    const EACH: usize = 50;
    const EVENTS: usize = 10;
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        let mut stream = cluster.client_of(number % cluster.len())?.watch();
        for _ in 0..EACH {
            stream.create(watch_prefix("k")).await?;
        }
        streams.push(stream);
    }
    let client = cluster.client()?;
    for number in 0..EVENTS {
        client.put(put(&format!("k{number}"), "x")).await?;
    }
    for stream in &mut streams {
        let mut seen: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
        let mut count = 0;
        while count < EACH * EVENTS {
            let response = stream.next().await?;
            count += response.events.len();
            seen.entry(response.watch_id)
                .or_default()
                .extend(response.events.iter().map(revision_of));
        }
        let expected: Vec<_> = (2..2 + EVENTS as i64).collect();
        assert_eq!(seen.len(), EACH);
        assert!(
            seen.values().all(|revisions| *revisions == expected),
            "{seen:?}"
        );
    }
    Ok(())
}

async fn lease_expiry_is_seen_as_one_revision(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = client
        .lease_grant(pb::LeaseGrantRequest { ttl: 2, id: 0 })
        .await?
        .id;
    for key in ["k2", "k1", "k3"] {
        client
            .put(pb::PutRequest {
                lease,
                ..put(key, "x")
            })
            .await?;
    }
    let mut stream = client
        .watching(pb::WatchCreateRequest {
            prev_kv: true,
            ..watch_prefix("k")
        })
        .await?;
    let response = stream.next().await?;
    assert_eq!(shown(&response.events), ["-k1@5", "-k2@5", "-k3@5"]);
    assert_eq!(previous(&response.events), vec![Some("x".to_owned()); 3]);
    Ok(())
}
