//! Watch: every event once, in order, whole revisions, from any kept revision.

use std::collections::BTreeMap;
use std::time::Duration;

use coord_e2e::clients::etcd::request::{
    delete, delete_to, op, put, range_to, txn, watch, watch_prefix,
};
use coord_e2e::clients::etcd::{Client, Watch};
use coord_e2e::cluster::claims::Claim;
use coord_e2e::cluster::{Cluster, eventually};
use coord_e2e::on_each_cluster;
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb::Event;
use coord_proto::etcd::mvccpb::event::EventType;
use pb::watch_create_request::FilterType;

on_each_cluster!(
    a_watch_is_created_before_its_first_event,
    events_come_in_order_with_their_revisions,
    a_delete_event_carries_key_and_revision_only,
    a_watch_sees_its_range_and_nothing_else,
    a_watch_on_every_member_sees_the_same,
    a_past_start_replays_history_then_goes_live,
    a_future_start_sends_nothing_earlier,
    a_start_below_compaction_is_cancelled_with_the_floor,
    a_start_at_the_compacted_revision_is_served,
    filters_drop_puts_or_deletes,
    previous_values_come_with_changes_and_not_with_creations,
    previous_values_come_from_history_too,
    events_of_one_transaction_come_together,
    watchers_of_one_stream_have_ids_of_their_own,
    a_used_id_is_refused_and_the_stream_goes_on,
    a_cancelled_watcher_stops_and_others_go_on,
    cancelling_an_unknown_watcher_is_answered_by_nothing,
    an_empty_range_is_refused,
    an_empty_key_watches_from_the_first,
    manual_progress_comes_after_the_events_before_it,
    manual_progress_on_an_idle_stream_is_prompt,
    a_slow_watcher_catches_up_without_a_gap,
    many_watchers_see_every_event,
    watchers_resume_where_they_stopped,
    lease_expiry_is_seen_as_one_revision,
);

/// `key=value@revision` of a put, `-key@revision` of a delete.
fn shown(events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| {
            let kv = event.kv.as_ref().expect("every event has a key");
            let (key, value) = (
                String::from_utf8_lossy(&kv.key),
                String::from_utf8_lossy(&kv.value),
            );
            match event.r#type() {
                EventType::Put => format!("{key}={value}@{}", kv.mod_revision),
                EventType::Delete => format!("-{key}@{}", kv.mod_revision),
            }
        })
        .collect()
}

fn revision_of(event: &Event) -> i64 {
    event
        .kv
        .as_ref()
        .expect("every event has a key")
        .mod_revision
}

fn header_revision(response: &pb::WatchResponse) -> i64 {
    response
        .header
        .as_ref()
        .expect("every response has a header")
        .revision
}

/// A stream with one watcher.
async fn watching(client: &Client, request: pb::WatchCreateRequest) -> anyhow::Result<Watch> {
    let mut stream = client.watch();
    let created = stream.create(request).await?;
    anyhow::ensure!(!created.canceled, "refused: {created:?}");
    Ok(stream)
}

async fn a_watch_is_created_before_its_first_event(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "0")).await?;
    let mut stream = client.watch();
    let created = stream
        .create(pb::WatchCreateRequest {
            start_revision: 2,
            ..watch("a")
        })
        .await?;
    assert!(created.created && !created.canceled && created.events.is_empty());
    assert_eq!((created.watch_id, header_revision(&created)), (0, 2));
    assert_eq!(shown(&stream.events(1).await?), ["a=0@2"]);
    Ok(())
}

async fn events_come_in_order_with_their_revisions(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = watching(&client, watch("a")).await?;
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
    let mut stream = watching(&client, watch("a")).await?;
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

async fn a_watch_sees_its_range_and_nothing_else(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut one = watching(&client, watch("b")).await?;
    let mut some = watching(&client, watch_prefix("b")).await?;
    let mut from = watching(
        &client,
        pb::WatchCreateRequest {
            range_end: "\0".into(),
            ..watch("bb")
        },
    )
    .await?;
    for key in ["a", "b", "bb", "c"] {
        client.put(put(key, "x")).await?;
    }
    client.put(put("b", "end")).await?;
    client.put(put("zz", "end")).await?;
    assert_eq!(shown(&one.events(2).await?), ["b=x@3", "b=end@6"]);
    assert_eq!(
        shown(&some.events(3).await?),
        ["b=x@3", "bb=x@4", "b=end@6"]
    );
    assert_eq!(
        shown(&from.events(3).await?),
        ["bb=x@4", "c=x@5", "zz=end@7"]
    );
    Ok(())
}

async fn a_watch_on_every_member_sees_the_same(cluster: &mut Cluster) -> Claim {
    let mut streams = Vec::new();
    for index in 0..cluster.len() {
        streams.push(watching(&cluster.client_of(index)?, watch_prefix("k")).await?);
    }
    let client = cluster.client()?;
    for number in 0..30 {
        client
            .put(put(&format!("k{}", number % 7), &number.to_string()))
            .await?;
    }
    let first = shown(&streams[0].events(30).await?);
    for stream in &mut streams[1..] {
        assert_eq!(shown(&stream.events(30).await?), first);
    }
    Ok(())
}

async fn a_past_start_replays_history_then_goes_live(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for number in 0..20 {
        client.put(put("a", &number.to_string())).await?;
    }
    let mut stream = watching(
        &client,
        pb::WatchCreateRequest {
            start_revision: 12,
            ..watch("a")
        },
    )
    .await?;
    client.put(put("a", "live")).await?;
    let events = stream.events(11).await?;
    let revisions: Vec<_> = events.iter().map(revision_of).collect();
    assert_eq!(revisions, (12..=22).collect::<Vec<_>>());
    Ok(())
}

async fn a_future_start_sends_nothing_earlier(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = watching(
        &client,
        pb::WatchCreateRequest {
            start_revision: 5,
            ..watch("a")
        },
    )
    .await?;
    for number in 2..8 {
        client.put(put("a", &number.to_string())).await?;
    }
    assert_eq!(shown(&stream.events(3).await?), ["a=5@5", "a=6@6", "a=7@7"]);
    Ok(())
}

async fn a_start_below_compaction_is_cancelled_with_the_floor(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for _ in 0..5 {
        client.put(put("a", "x")).await?;
    }
    client.compact(5).await?;
    let mut stream = client.watch();
    let created = stream
        .create(pb::WatchCreateRequest {
            start_revision: 3,
            ..watch("a")
        })
        .await?;
    assert!(created.created && !created.canceled, "{created:?}");
    let cancelled = stream.next().await?;
    assert!(
        cancelled.canceled && cancelled.events.is_empty(),
        "{cancelled:?}"
    );
    assert_eq!(
        (cancelled.watch_id, cancelled.compact_revision),
        (created.watch_id, 5)
    );
    // The stream still serves others.
    stream
        .create(pb::WatchCreateRequest {
            start_revision: 6,
            ..watch("a")
        })
        .await?;
    assert_eq!(shown(&stream.events(1).await?), ["a=x@6"]);
    Ok(())
}

async fn a_start_at_the_compacted_revision_is_served(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    client.put(put("b", "2")).await?;
    client.delete(delete("a")).await?;
    client.put(put("c", "3")).await?;
    client.compact(4).await?;
    let start = |start_revision| pb::WatchCreateRequest {
        start_revision,
        ..watch_prefix_all()
    };
    let mut stream = watching(&client, start(4)).await?;
    // The delete at the compacted revision itself is still there to be seen.
    assert_eq!(shown(&stream.events(2).await?), ["-a@4", "c=3@5"]);
    Ok(())
}

fn watch_prefix_all() -> pb::WatchCreateRequest {
    pb::WatchCreateRequest {
        range_end: "\0".into(),
        ..watch("\0")
    }
}

async fn filters_drop_puts_or_deletes(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let filtered = |filter: FilterType| pb::WatchCreateRequest {
        filters: vec![filter.into()],
        ..watch("a")
    };
    let mut deletes = watching(&client, filtered(FilterType::Noput)).await?;
    let mut puts = watching(&client, filtered(FilterType::Nodelete)).await?;
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
    let mut stream = watching(
        &client,
        pb::WatchCreateRequest {
            prev_kv: true,
            ..watch("a")
        },
    )
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
    let mut stream = watching(&client, request).await?;
    assert_eq!(
        previous(&stream.events(4).await?),
        [None, Some("1".into()), Some("2".into()), None]
    );
    Ok(())
}

async fn events_of_one_transaction_come_together(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("k/old", "x")).await?;
    let mut live = watching(&client, watch_prefix("k/")).await?;
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
    let mut replayed = watching(&client, replay).await?;
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

async fn watchers_of_one_stream_have_ids_of_their_own(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = client.watch();
    assert_eq!(stream.create(watch("a")).await?.watch_id, 0);
    assert_eq!(stream.create(watch("b")).await?.watch_id, 1);
    let chosen = pb::WatchCreateRequest {
        watch_id: 7,
        ..watch("c")
    };
    assert_eq!(stream.create(chosen).await?.watch_id, 7);
    assert_eq!(stream.create(watch("a")).await?.watch_id, 2);
    client.put(put("c", "1")).await?;
    assert_eq!(stream.next().await?.watch_id, 7);
    client.put(put("a", "1")).await?;
    let mut ids = [stream.next().await?.watch_id, stream.next().await?.watch_id];
    ids.sort_unstable();
    assert_eq!(ids, [0, 2]);
    Ok(())
}

async fn a_used_id_is_refused_and_the_stream_goes_on(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = client.watch();
    let chosen = |key| pb::WatchCreateRequest {
        watch_id: 7,
        ..watch(key)
    };
    stream.create(chosen("a")).await?;
    let refused = stream.create(chosen("b")).await?;
    assert!(
        refused.created && refused.canceled && refused.watch_id == -1,
        "{refused:?}"
    );
    assert_eq!(
        refused.cancel_reason,
        "mvcc: duplicate watch ID provided on the WatchStream"
    );
    client.put(put("a", "1")).await?;
    assert_eq!(shown(&stream.events(1).await?), ["a=1@2"]);
    Ok(())
}

async fn a_cancelled_watcher_stops_and_others_go_on(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = client.watch();
    let first = stream.create(watch("a")).await?.watch_id;
    let second = stream.create(watch("a")).await?.watch_id;
    stream.cancel(first);
    let answer = stream.next().await?;
    assert!(answer.canceled && answer.watch_id == first, "{answer:?}");
    client.put(put("a", "1")).await?;
    let response = stream.next().await?;
    assert_eq!(
        (response.watch_id, shown(&response.events)),
        (second, vec!["a=1@2".to_owned()])
    );
    client.put(put("a", "2")).await?;
    assert_eq!(stream.next().await?.watch_id, second);
    Ok(())
}

async fn cancelling_an_unknown_watcher_is_answered_by_nothing(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = client.watch();
    stream.cancel(99);
    stream.send(pb::watch_request::RequestUnion::CreateRequest(watch("a")));
    let first = stream.next().await?;
    assert!(first.created && !first.canceled, "{first:?}");
    Ok(())
}

async fn an_empty_range_is_refused(cluster: &mut Cluster) -> Claim {
    let mut stream = cluster.client()?.watch();
    let refused = stream
        .create(pb::WatchCreateRequest {
            range_end: "a".into(),
            ..watch("b")
        })
        .await?;
    assert!(
        refused.created && refused.canceled && refused.watch_id == -1,
        "{refused:?}"
    );
    assert_eq!(refused.cancel_reason, "mvcc: watcher range is empty");
    Ok(())
}

async fn an_empty_key_watches_from_the_first(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = watching(
        &client,
        pb::WatchCreateRequest {
            range_end: "\0".into(),
            ..watch("")
        },
    )
    .await?;
    client.put(put("a", "1")).await?;
    client.put(put("z", "2")).await?;
    assert_eq!(shown(&stream.events(2).await?), ["a=1@2", "z=2@3"]);
    Ok(())
}

/// Asks for progress until it is answered: a server stays silent while a watcher of the stream lags.
/// Returns the revision, and the events that came before it.
async fn progress(stream: &mut Watch) -> anyhow::Result<(i64, Vec<Event>)> {
    let mut events = Vec::new();
    for _ in 0..100 {
        stream.request_progress();
        while let Some(response) = stream.within(Duration::from_millis(200)).await? {
            if response.events.is_empty() && !response.created && !response.canceled {
                anyhow::ensure!(
                    response.watch_id == -1,
                    "progress of all has id -1: {response:?}"
                );
                return Ok((header_revision(&response), events));
            }
            events.extend(response.events);
        }
    }
    anyhow::bail!("no progress in time")
}

async fn manual_progress_comes_after_the_events_before_it(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = watching(&client, watch_prefix("k")).await?;
    for number in 0..200 {
        client.put(put(&format!("k{number}"), "x")).await?;
        if number % 20 == 19 {
            let at_least = number + 2;
            let mut reached = 0;
            let mut seen = Vec::new();
            while reached < at_least {
                let (revision, events) = progress(&mut stream).await?;
                seen.extend(events);
                reached = revision;
                // Whatever progress promises has been delivered.
                let delivered = seen.last().map_or(0, revision_of);
                assert_eq!(
                    delivered, reached,
                    "progress at {reached} overtook an event"
                );
            }
            assert_eq!(seen.len(), 20);
        }
    }
    Ok(())
}

async fn manual_progress_on_an_idle_stream_is_prompt(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = watching(&client, watch("quiet")).await?;
    client.put(put("other", "1")).await?;
    let (revision, events) = eventually("progress reaches the newest revision", || async {
        let mut stream = watching(&client, watch("quiet")).await?;
        progress(&mut stream).await
    })
    .await?;
    assert_eq!((revision, events.len()), (2, 0));
    // Also on a stream that was there before the write, and again and again.
    for _ in 0..20 {
        assert_eq!(progress(&mut stream).await?.0, 2);
    }
    Ok(())
}

async fn a_slow_watcher_catches_up_without_a_gap(cluster: &mut Cluster) -> Claim {
    const EVENTS: usize = 300;
    let client = cluster.client()?;
    let mut slow = watching(&client, watch_prefix("k")).await?;
    let mut quick = watching(&client, watch_prefix("k")).await?;
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

async fn watchers_resume_where_they_stopped(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut next = 2;
    for round in 0..5 {
        let at = cluster.client_of(round % cluster.len())?;
        let mut stream = watching(
            &at,
            pb::WatchCreateRequest {
                start_revision: next,
                ..watch("a")
            },
        )
        .await?;
        for number in 0..4 {
            client.put(put("a", &format!("{round}.{number}"))).await?;
        }
        // Two of four are read: the rest is for the next stream, on another member.
        let events = stream.events_at_least(2).await?;
        let revisions: Vec<_> = events.iter().map(revision_of).collect();
        assert_eq!(
            revisions,
            (next..next + revisions.len() as i64).collect::<Vec<_>>()
        );
        next += revisions.len() as i64;
    }
    let total = client.range(range_to("a", "b")).await?.kvs[0].mod_revision;
    let mut stream = watching(
        &client,
        pb::WatchCreateRequest {
            start_revision: next,
            ..watch("a")
        },
    )
    .await?;
    let rest = stream.events((total - next + 1) as usize).await?;
    assert_eq!(rest.last().map(revision_of), Some(total));
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
    let mut stream = watching(
        &client,
        pb::WatchCreateRequest {
            prev_kv: true,
            ..watch_prefix("k")
        },
    )
    .await?;
    let response = stream.next().await?;
    assert_eq!(shown(&response.events), ["-k1@5", "-k2@5", "-k3@5"]);
    assert_eq!(previous(&response.events), vec![Some("x".to_owned()); 3]);
    Ok(())
}
