//! Watch: streams and watchers, where they start, what they are refused, their progress.

use std::time::Duration;

use coord_e2e::clients::etcd::Watch;
use coord_e2e::clients::etcd::answer::{revision, revision_of, shown};
use coord_e2e::clients::etcd::request::{
    delete, put, range_to, watch, watch_everything, watch_prefix,
};
use coord_e2e::cluster::claims::Claim;
use coord_e2e::cluster::{Cluster, eventually};
use coord_e2e::on_each_cluster;
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb::Event;

on_each_cluster!(
    a_watch_is_created_before_its_first_event,
    a_watch_sees_its_range_and_nothing_else,
    a_watch_on_every_member_sees_the_same,
    a_past_start_replays_history_then_goes_live,
    a_future_start_sends_nothing_earlier,
    a_start_below_compaction_is_cancelled_with_the_floor,
    a_start_at_the_compacted_revision_is_served,
    a_watcher_that_compaction_ended_is_cancelled_once_more,
    a_client_that_closed_its_side_is_told_of_changes_as_before,
    watchers_of_one_stream_have_ids_of_their_own,
    a_used_id_is_refused_and_the_stream_goes_on,
    a_cancelled_watcher_stops_and_others_go_on,
    cancelling_an_unknown_watcher_is_answered_by_nothing,
    an_empty_range_is_refused,
    an_empty_key_watches_from_the_first,
    manual_progress_comes_after_the_events_before_it,
    manual_progress_on_an_idle_stream_is_prompt,
    watchers_resume_where_they_stopped,
);

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
    assert_eq!((created.watch_id, revision(&created.header)), (0, 2));
    assert_eq!(shown(&stream.events(1).await?), ["a=0@2"]);
    Ok(())
}

async fn a_watch_sees_its_range_and_nothing_else(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut one = client.watching(watch("b")).await?;
    let mut some = client.watching(watch_prefix("b")).await?;
    let mut from = client
        .watching(pb::WatchCreateRequest {
            range_end: "\0".into(),
            ..watch("bb")
        })
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
        streams.push(
            cluster
                .client_of(index)?
                .watching(watch_prefix("k"))
                .await?,
        );
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
    let mut stream = client
        .watching(pb::WatchCreateRequest {
            start_revision: 12,
            ..watch("a")
        })
        .await?;
    client.put(put("a", "live")).await?;
    let events = stream.events(11).await?;
    let revisions: Vec<_> = events.iter().map(revision_of).collect();
    assert_eq!(revisions, (12..=22).collect::<Vec<_>>());
    Ok(())
}

async fn a_future_start_sends_nothing_earlier(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = client
        .watching(pb::WatchCreateRequest {
            start_revision: 5,
            ..watch("a")
        })
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
        ..watch_everything()
    };
    let mut stream = client.watching(start(4)).await?;
    // The delete at the compacted revision itself is still there to be seen.
    assert_eq!(shown(&stream.events(2).await?), ["-a@4", "c=3@5"]);
    Ok(())
}

async fn a_watcher_that_compaction_ended_is_cancelled_once_more(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for _ in 0..5 {
        client.put(put("a", "x")).await?;
    }
    client.compact(5).await?;
    let mut stream = client.watch();
    let past = pb::WatchCreateRequest {
        start_revision: 3,
        watch_id: 7,
        ..watch("a")
    };
    stream.create(past.clone()).await?;
    assert_eq!(stream.next().await?.compact_revision, 5);
    // Its id is its client's until the client gives it back.
    let again = stream.create(past).await?;
    assert!(again.created && again.canceled, "{again:?}");
    stream.cancel(7);
    let cancelled = stream.next().await?;
    assert!(cancelled.canceled && !cancelled.created, "{cancelled:?}");
    assert_eq!((cancelled.watch_id, cancelled.compact_revision), (7, 0));
    stream.cancel(7);
    let chosen = pb::WatchCreateRequest {
        watch_id: 7,
        ..watch("a")
    };
    assert_eq!(stream.create(chosen).await?.watch_id, 7);
    Ok(())
}

async fn a_client_that_closed_its_side_is_told_of_changes_as_before(
    cluster: &mut Cluster,
) -> Claim {
    let client = cluster.client()?;
    let mut stream = client.watching(watch("a")).await?;
    stream.close_requests();
    assert!(stream.within(Duration::from_millis(300)).await?.is_none());
    for number in 0..100 {
        client.put(put("a", &number.to_string())).await?;
    }
    assert_eq!(stream.events(100).await?.len(), 100);
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
    let mut stream = client
        .watching(pb::WatchCreateRequest {
            range_end: "\0".into(),
            ..watch("")
        })
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
                return Ok((revision(&response.header), events));
            }
            events.extend(response.events);
        }
    }
    anyhow::bail!("no progress in time")
}

async fn manual_progress_comes_after_the_events_before_it(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut stream = client.watching(watch_prefix("k")).await?;
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
                // Every event up to the promised revision has been delivered.
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
    let mut stream = client.watching(watch("quiet")).await?;
    client.put(put("other", "1")).await?;
    let (revision, events) = eventually("progress reaches the newest revision", || async {
        let mut stream = client.watching(watch("quiet")).await?;
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

async fn watchers_resume_where_they_stopped(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let mut next = 2;
    for round in 0..5 {
        let at = cluster.client_of(round % cluster.len())?;
        let mut stream = at
            .watching(pb::WatchCreateRequest {
                start_revision: next,
                ..watch("a")
            })
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
    let mut stream = client
        .watching(pb::WatchCreateRequest {
            start_revision: next,
            ..watch("a")
        })
        .await?;
    let rest = stream.events((total - next + 1) as usize).await?;
    assert_eq!(rest.last().map(revision_of), Some(total));
    Ok(())
}
