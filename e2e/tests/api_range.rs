//! KV: what a range selects, sorts, filters and counts, now and at old revisions.

use coord_e2e::clients::etcd::answer::{keys, revision, values};
use coord_e2e::clients::etcd::request::{delete, everything, prefix, put, range, range_to};
use coord_e2e::cluster::Cluster;
use coord_e2e::cluster::claims::{Claim, refused};
use coord_e2e::on_each_cluster;
use coord_proto::etcd::etcdserverpb as pb;
use pb::kv_client::KvClient;
use pb::range_request::{SortOrder, SortTarget};
use tonic::Code;

on_each_cluster!(
    a_range_is_half_open_and_in_key_order,
    a_zero_byte_end_means_every_key_from_there,
    an_end_at_or_before_the_start_is_an_empty_range,
    a_limit_cuts_and_says_more_while_count_counts_all,
    keys_only_and_count_only_leave_out_the_rest,
    an_old_revision_reads_as_it_was,
    sorting_is_by_any_field_in_both_directions,
    revision_filters_are_inclusive_and_leave_count_alone,
    an_unknown_sort_is_refused,
    a_future_revision_is_refused,
    a_serializable_read_is_answered,
    a_streamed_range_comes_in_chunks_of_one_moment,
    a_streamed_range_knows_limits_and_counts,
    a_streamed_range_that_only_a_whole_one_can_answer_is_refused,
);

async fn a_range_is_half_open_and_in_key_order(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client
        .fill(&[("c", "3"), ("a", "1"), ("b", "2"), ("bb", "22"), ("d", "4")])
        .await?;
    let answer = client.range(range_to("a", "d")).await?;
    assert_eq!(keys(&answer.kvs), ["a", "b", "bb", "c"]);
    assert_eq!(answer.count, 4);
    assert_eq!(keys(&client.range(prefix("b")).await?.kvs), ["b", "bb"]);
    Ok(())
}

async fn a_zero_byte_end_means_every_key_from_there(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.fill(&[("a", "1"), ("b", "2"), ("zz", "3")]).await?;
    client
        .put(pb::PutRequest {
            key: vec![0xff, 0xff].into(),
            ..put("", "4")
        })
        .await?;
    assert_eq!(client.range(range_to("b", "\0")).await?.count, 3);
    assert_eq!(client.range(range_to("\0", "\0")).await?.count, 4);
    Ok(())
}

async fn an_end_at_or_before_the_start_is_an_empty_range(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.fill(&[("a", "1"), ("b", "2")]).await?;
    for end in ["a", "b"] {
        let answer = client.range(range_to("b", end)).await?;
        assert_eq!((answer.kvs.len(), answer.count), (0, 0), "[b, {end})");
    }
    Ok(())
}

async fn a_limit_cuts_and_says_more_while_count_counts_all(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.fill(&[("a", "1"), ("b", "2"), ("c", "3")]).await?;
    for (limit, returned, more) in [
        (0, 3, false),
        (1, 1, true),
        (2, 2, true),
        (3, 3, false),
        (4, 3, false),
    ] {
        let answer = client
            .range(pb::RangeRequest {
                limit,
                ..everything()
            })
            .await?;
        assert_eq!(
            (answer.kvs.len(), answer.more, answer.count),
            (returned, more, 3),
            "limit {limit}"
        );
    }
    Ok(())
}

async fn keys_only_and_count_only_leave_out_the_rest(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.fill(&[("a", "1"), ("b", "2")]).await?;
    let answer = client
        .range(pb::RangeRequest {
            keys_only: true,
            ..everything()
        })
        .await?;
    assert_eq!(
        (keys(&answer.kvs), values(&answer.kvs)),
        (vec!["a".into(), "b".into()], vec![String::new(); 2])
    );
    assert_eq!((answer.kvs[1].mod_revision, answer.kvs[1].version), (3, 1));
    let answer = client
        .range(pb::RangeRequest {
            count_only: true,
            ..everything()
        })
        .await?;
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 2, false));
    Ok(())
}

async fn an_old_revision_reads_as_it_was(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.fill(&[("a", "1"), ("b", "2"), ("a", "3")]).await?;
    client.delete(delete("b")).await?;
    for (at, expected) in [
        (1, vec![]),
        (2, vec!["1"]),
        (3, vec!["1", "2"]),
        (4, vec!["3", "2"]),
        (5, vec!["3"]),
        (0, vec!["3"]),
    ] {
        let answer = client
            .range(pb::RangeRequest {
                revision: at,
                ..everything()
            })
            .await?;
        assert_eq!(values(&answer.kvs), expected, "at {at}");
        assert_eq!(answer.count, expected.len() as i64, "at {at}");
        // The header says what is newest, whatever was asked for.
        assert_eq!(revision(&answer.header), 5);
    }
    let negative = client
        .range(pb::RangeRequest {
            revision: -1,
            ..everything()
        })
        .await?;
    assert_eq!(values(&negative.kvs), ["3"]);
    let limited = client
        .range(pb::RangeRequest {
            revision: 4,
            limit: 1,
            ..everything()
        })
        .await?;
    assert_eq!(
        (values(&limited.kvs), limited.more, limited.count),
        (vec!["3".to_owned()], true, 2)
    );
    Ok(())
}

async fn sorting_is_by_any_field_in_both_directions(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    // Versions: a 1, b 3, c 2. Created: b, c, a. Changed: c, b, a. Values: b < a < c.
    client
        .fill(&[
            ("b", "9"),
            ("c", "9"),
            ("b", "9"),
            ("c", "3"),
            ("b", "1"),
            ("a", "2"),
        ])
        .await?;
    let by = |order: SortOrder, target: SortTarget| pb::RangeRequest {
        sort_order: order.into(),
        sort_target: target.into(),
        ..everything()
    };
    for (target, ascending) in [
        (SortTarget::Key, ["a", "b", "c"]),
        (SortTarget::Version, ["a", "c", "b"]),
        (SortTarget::Create, ["b", "c", "a"]),
        (SortTarget::Mod, ["c", "b", "a"]),
        (SortTarget::Value, ["b", "a", "c"]),
    ] {
        let mut descending = ascending;
        descending.reverse();
        for (order, expected) in [
            (SortOrder::Ascend, ascending),
            (SortOrder::Descend, descending),
            (SortOrder::None, ascending),
        ] {
            let answer = client.range(by(order, target)).await?;
            assert_eq!(keys(&answer.kvs), expected, "{target:?} {order:?}");
        }
    }
    let first = client
        .range(pb::RangeRequest {
            limit: 1,
            ..by(SortOrder::Descend, SortTarget::Mod)
        })
        .await?;
    assert_eq!(
        (keys(&first.kvs), first.more, first.count),
        (vec!["a".to_owned()], true, 3)
    );
    Ok(())
}

async fn revision_filters_are_inclusive_and_leave_count_alone(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client
        .fill(&[("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")])
        .await?;
    for (what, request, expected) in [
        (
            "min mod",
            pb::RangeRequest {
                min_mod_revision: 4,
                ..everything()
            },
            vec!["a", "c"],
        ),
        (
            "max mod",
            pb::RangeRequest {
                max_mod_revision: 4,
                ..everything()
            },
            vec!["b", "c"],
        ),
        (
            "min create",
            pb::RangeRequest {
                min_create_revision: 3,
                ..everything()
            },
            vec!["b", "c"],
        ),
        (
            "max create",
            pb::RangeRequest {
                max_create_revision: 2,
                ..everything()
            },
            vec!["a"],
        ),
        (
            "both",
            pb::RangeRequest {
                min_create_revision: 3,
                max_mod_revision: 3,
                ..everything()
            },
            vec!["b"],
        ),
    ] {
        let answer = client.range(request).await?;
        assert_eq!(keys(&answer.kvs), expected, "{what}");
        assert_eq!(answer.count, 3, "{what}");
    }
    let limited = client
        .range(pb::RangeRequest {
            min_create_revision: 3,
            limit: 1,
            ..everything()
        })
        .await?;
    assert_eq!(
        (keys(&limited.kvs), limited.more),
        (vec!["b".to_owned()], true)
    );
    Ok(())
}

async fn an_unknown_sort_is_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for request in [
        pb::RangeRequest {
            sort_order: 7,
            ..everything()
        },
        pb::RangeRequest {
            sort_target: 7,
            ..everything()
        },
    ] {
        assert_eq!(
            refused(client.range(request).await),
            (
                Code::InvalidArgument,
                "etcdserver: invalid sort option".into()
            )
        );
    }
    Ok(())
}

async fn a_future_revision_is_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    assert_eq!(
        refused(
            client
                .range(pb::RangeRequest {
                    revision: 2,
                    ..range("a")
                })
                .await
        ),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision".into()
        )
    );
    Ok(())
}

async fn a_serializable_read_is_answered(cluster: &mut Cluster) -> Claim {
    let client = cluster.client_of(0)?;
    client.fill(&[("a", "1")]).await?;
    // Its own write was answered by this member, which therefore has it.
    let answer = client
        .range(pb::RangeRequest {
            serializable: true,
            ..range("a")
        })
        .await?;
    assert_eq!(values(&answer.kvs), ["1"]);
    Ok(())
}

/// The chunks of a range; `between` runs after the first.
async fn streamed(
    cluster: &Cluster,
    request: pb::RangeRequest,
    between: impl AsyncFnOnce() -> Claim,
) -> Result<Vec<pb::RangeResponse>, coord_e2e::cluster::claims::Failure> {
    let mut service = KvClient::new(cluster.client_of(0)?.channel());
    let mut stream = service.range_stream(request).await?.into_inner();
    let mut chunks = Vec::new();
    let mut between = Some(between);
    while let Some(chunk) = stream.message().await? {
        chunks.push(chunk.range_response.expect("each chunk has an answer"));
        if let Some(between) = between.take() {
            between().await?;
        }
    }
    Ok(chunks)
}

async fn a_streamed_range_comes_in_chunks_of_one_moment(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for number in 0..60 {
        let key = format!("k{number:03}");
        client.put(put(&key, &"v".repeat(50_000))).await?;
    }
    let newest = client.revision().await?;
    let chunks = streamed(cluster, prefix("k"), async || {
        client.put(put("k000", "later")).await?;
        client.put(put("k059", "later")).await?;
        Ok(())
    })
    .await?;
    let found: Vec<_> = chunks.iter().flat_map(|chunk| keys(&chunk.kvs)).collect();
    let whole = pb::RangeRequest {
        revision: newest,
        ..prefix("k")
    };
    let whole = client.range(whole).await?;
    assert_eq!(found, keys(&whole.kvs));
    assert!(
        chunks
            .iter()
            .flat_map(|chunk| &chunk.kvs)
            .all(|kv| kv.value.len() == 50_000)
    );
    assert_eq!(chunks[0].kvs.len(), 10);
    let (last, before) = chunks.split_last().expect("there is one");
    for chunk in before {
        assert!(chunk.header.is_none() && chunk.count == 0 && !chunk.more);
    }
    assert_eq!(
        (revision(&last.header), last.count, last.more),
        (newest, 60, false)
    );
    Ok(())
}

async fn a_streamed_range_knows_limits_and_counts(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for number in 0..40 {
        client.put(put(&format!("k{number:03}"), "v")).await?;
    }
    let newest = client.revision().await?;
    for (limit, number, more) in [
        (0, 40, false),
        (25, 25, true),
        (40, 40, false),
        (3, 3, true),
    ] {
        let request = pb::RangeRequest {
            limit,
            ..prefix("k")
        };
        let chunks = streamed(cluster, request, async || Ok(())).await?;
        let found: usize = chunks.iter().map(|chunk| chunk.kvs.len()).sum();
        let last = chunks.last().expect("there is one");
        assert_eq!(
            (found, last.more, last.count),
            (number, more, 40),
            "limit {limit}"
        );
    }
    let request = pb::RangeRequest {
        count_only: true,
        ..prefix("k")
    };
    let counted = streamed(cluster, request, async || Ok(())).await?;
    assert_eq!((counted.len(), counted[0].count), (1, 40));
    let nothing = streamed(cluster, prefix("x"), async || Ok(())).await?;
    assert_eq!((nothing.len(), nothing[0].count), (1, 0));
    assert_eq!(revision(&nothing[0].header), newest);
    Ok(())
}

async fn a_streamed_range_that_only_a_whole_one_can_answer_is_refused(
    cluster: &mut Cluster,
) -> Claim {
    let mut service = KvClient::new(cluster.client_of(0)?.channel());
    let sorted = pb::RangeRequest {
        sort_order: SortOrder::Descend.into(),
        ..prefix("k")
    };
    let filtered = pb::RangeRequest {
        min_mod_revision: 2,
        ..prefix("k")
    };
    for request in [sorted, filtered] {
        let refused = match service.range_stream(request).await {
            // etcd says so with its first message.
            Ok(answer) => refused(answer.into_inner().message().await),
            refusal => self::refused(refusal),
        };
        assert_eq!(refused.0, Code::Unimplemented, "{}", refused.1);
    }
    Ok(())
}
