//! KV: range, put, delete and compaction, as clients of etcd rely on them.

use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{delete, delete_to, prefix, put, range, range_to};
use coord_e2e::cluster::Cluster;
use coord_e2e::cluster::claims::{Claim, refused};
use coord_e2e::on_each_cluster;
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb::KeyValue;
use pb::range_request::{SortOrder, SortTarget};
use tonic::{Code, Status};

on_each_cluster!(
    a_fresh_store_is_at_revision_one,
    a_put_is_read_back_with_its_revisions,
    each_write_takes_one_revision,
    a_same_value_put_is_a_new_version,
    a_deleted_key_starts_over_at_version_one,
    a_range_is_half_open_and_in_key_order,
    a_zero_byte_end_means_every_key_from_there,
    an_end_at_or_before_the_start_is_an_empty_range,
    a_limit_cuts_and_says_more_while_count_counts_all,
    keys_only_and_count_only_leave_out_the_rest,
    an_old_revision_reads_as_it_was,
    sorting_is_by_any_field_in_both_directions,
    revision_filters_are_inclusive_and_leave_count_alone,
    an_unknown_sort_is_refused,
    an_empty_key_is_refused,
    a_put_returns_what_it_replaced_if_asked,
    ignore_value_keeps_the_value_and_bumps_the_version,
    ignored_fields_must_not_be_given,
    an_unknown_lease_is_refused_and_changes_nothing,
    a_delete_counts_and_returns_what_it_removed,
    a_delete_that_matches_nothing_takes_no_revision,
    a_range_delete_is_one_revision,
    a_future_revision_is_refused,
    compaction_drops_history_and_keeps_what_is_current,
    compaction_is_refused_twice_and_ahead_of_time,
    a_key_deleted_before_compaction_stays_deleted,
    values_of_any_bytes_and_a_megabyte_are_kept,
    a_request_above_the_limit_is_refused,
    a_serializable_read_is_answered,
    the_header_names_cluster_member_and_term,
);

fn keys(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter()
        .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
        .collect()
}

fn values(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter()
        .map(|kv| String::from_utf8_lossy(&kv.value).into_owned())
        .collect()
}

fn revision(header: Option<pb::ResponseHeader>) -> i64 {
    header.expect("every answer has a header").revision
}

/// Puts each pair, one revision after the other; a fresh store is at 1, so the first is at 2.
async fn fill(client: &Client, pairs: &[(&str, &str)]) -> Result<(), Status> {
    for (key, value) in pairs {
        client.put(put(key, value)).await?;
    }
    Ok(())
}

async fn a_fresh_store_is_at_revision_one(cluster: &mut Cluster) -> Claim {
    let answer = cluster.client()?.range(range("a")).await?;
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 0, false));
    assert_eq!(revision(answer.header), 1);
    Ok(())
}

async fn a_put_is_read_back_with_its_revisions(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let answer = client.put(put("a", "1")).await?;
    assert_eq!(revision(answer.header), 2);
    assert_eq!(answer.prev_kv, None);
    fill(&client, &[("b", "x"), ("a", "2")]).await?;
    let answer = client.range(range("a")).await?;
    let expected = KeyValue {
        key: "a".into(),
        value: "2".into(),
        create_revision: 2,
        mod_revision: 4,
        version: 2,
        lease: 0,
    };
    assert_eq!(answer.kvs, [expected]);
    assert_eq!(
        (answer.count, answer.more, revision(answer.header)),
        (1, false, 4)
    );
    Ok(())
}

async fn each_write_takes_one_revision(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for expected in 2..12 {
        assert_eq!(revision(client.put(put("a", "1")).await?.header), expected);
    }
    assert_eq!(revision(client.delete(delete("a")).await?.header), 12);
    assert_eq!(client.revision().await?, 12);
    Ok(())
}

async fn a_same_value_put_is_a_new_version(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1"), ("a", "1")]).await?;
    let kvs = client.range(range("a")).await?.kvs;
    assert_eq!((kvs[0].version, kvs[0].mod_revision), (2, 3));
    Ok(())
}

async fn a_deleted_key_starts_over_at_version_one(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1"), ("a", "2")]).await?;
    client.delete(delete("a")).await?;
    assert_eq!(client.range(range("a")).await?.count, 0);
    fill(&client, &[("a", "3")]).await?;
    let kvs = client.range(range("a")).await?.kvs;
    assert_eq!(
        (kvs[0].version, kvs[0].create_revision, kvs[0].mod_revision),
        (1, 5, 5)
    );
    Ok(())
}

async fn a_range_is_half_open_and_in_key_order(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(
        &client,
        &[("c", "3"), ("a", "1"), ("b", "2"), ("bb", "22"), ("d", "4")],
    )
    .await?;
    let answer = client.range(range_to("a", "d")).await?;
    assert_eq!(keys(&answer.kvs), ["a", "b", "bb", "c"]);
    assert_eq!(answer.count, 4);
    assert_eq!(keys(&client.range(prefix("b")).await?.kvs), ["b", "bb"]);
    Ok(())
}

async fn a_zero_byte_end_means_every_key_from_there(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1"), ("b", "2"), ("zz", "3")]).await?;
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
    fill(&client, &[("a", "1"), ("b", "2")]).await?;
    for end in ["a", "b"] {
        let answer = client.range(range_to("b", end)).await?;
        assert_eq!((answer.kvs.len(), answer.count), (0, 0), "[b, {end})");
    }
    Ok(())
}

async fn a_limit_cuts_and_says_more_while_count_counts_all(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1"), ("b", "2"), ("c", "3")]).await?;
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
                ..prefix_all()
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

fn prefix_all() -> pb::RangeRequest {
    range_to("\0", "\0")
}

async fn keys_only_and_count_only_leave_out_the_rest(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1"), ("b", "2")]).await?;
    let answer = client
        .range(pb::RangeRequest {
            keys_only: true,
            ..prefix_all()
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
            ..prefix_all()
        })
        .await?;
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 2, false));
    Ok(())
}

async fn an_old_revision_reads_as_it_was(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1"), ("b", "2"), ("a", "3")]).await?;
    client.delete(delete("b")).await?;
    for (revision, expected) in [
        (1, vec![]),
        (2, vec!["1"]),
        (3, vec!["1", "2"]),
        (4, vec!["3", "2"]),
        (5, vec!["3"]),
        (0, vec!["3"]),
    ] {
        let answer = client
            .range(pb::RangeRequest {
                revision,
                ..prefix_all()
            })
            .await?;
        assert_eq!(values(&answer.kvs), expected, "at {revision}");
        assert_eq!(answer.count, expected.len() as i64, "at {revision}");
        // The header says what is newest, whatever was asked for.
        assert_eq!(self::revision(answer.header), 5);
    }
    let negative = client
        .range(pb::RangeRequest {
            revision: -1,
            ..prefix_all()
        })
        .await?;
    assert_eq!(values(&negative.kvs), ["3"]);
    let limited = client
        .range(pb::RangeRequest {
            revision: 4,
            limit: 1,
            ..prefix_all()
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
    fill(
        &client,
        &[
            ("b", "9"),
            ("c", "9"),
            ("b", "9"),
            ("c", "3"),
            ("b", "1"),
            ("a", "2"),
        ],
    )
    .await?;
    let by = |order: SortOrder, target: SortTarget| pb::RangeRequest {
        sort_order: order.into(),
        sort_target: target.into(),
        ..prefix_all()
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
    fill(&client, &[("a", "1"), ("b", "2"), ("c", "3"), ("a", "4")]).await?;
    for (what, request, expected) in [
        (
            "min mod",
            pb::RangeRequest {
                min_mod_revision: 4,
                ..prefix_all()
            },
            vec!["a", "c"],
        ),
        (
            "max mod",
            pb::RangeRequest {
                max_mod_revision: 4,
                ..prefix_all()
            },
            vec!["b", "c"],
        ),
        (
            "min create",
            pb::RangeRequest {
                min_create_revision: 3,
                ..prefix_all()
            },
            vec!["b", "c"],
        ),
        (
            "max create",
            pb::RangeRequest {
                max_create_revision: 2,
                ..prefix_all()
            },
            vec!["a"],
        ),
        (
            "both",
            pb::RangeRequest {
                min_create_revision: 3,
                max_mod_revision: 3,
                ..prefix_all()
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
            ..prefix_all()
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
            ..prefix_all()
        },
        pb::RangeRequest {
            sort_target: 7,
            ..prefix_all()
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

async fn an_empty_key_is_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let expected = (
        Code::InvalidArgument,
        "etcdserver: key is not provided".to_owned(),
    );
    assert_eq!(refused(client.range(range("")).await), expected);
    assert_eq!(refused(client.put(put("", "1")).await), expected);
    assert_eq!(refused(client.delete(delete("")).await), expected);
    Ok(())
}

async fn a_put_returns_what_it_replaced_if_asked(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let with_previous = |value| pb::PutRequest {
        prev_kv: true,
        ..put("a", value)
    };
    assert_eq!(client.put(with_previous("1")).await?.prev_kv, None);
    let previous = client
        .put(with_previous("2"))
        .await?
        .prev_kv
        .expect("there was a value");
    assert_eq!(
        (
            previous.value.as_ref(),
            previous.mod_revision,
            previous.version
        ),
        (&b"1"[..], 2, 1)
    );
    Ok(())
}

async fn ignore_value_keeps_the_value_and_bumps_the_version(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = client
        .lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 0 })
        .await?
        .id;
    client
        .put(pb::PutRequest {
            lease,
            ..put("a", "1")
        })
        .await?;
    client
        .put(pb::PutRequest {
            ignore_value: true,
            ..put("a", "")
        })
        .await?;
    let kv = client.range(range("a")).await?.kvs.remove(0);
    assert_eq!((kv.value.as_ref(), kv.version, kv.lease), (&b"1"[..], 2, 0));

    client
        .put(pb::PutRequest {
            lease,
            ..put("a", "2")
        })
        .await?;
    client
        .put(pb::PutRequest {
            ignore_lease: true,
            ..put("a", "3")
        })
        .await?;
    let kv = client.range(range("a")).await?.kvs.remove(0);
    assert_eq!(
        (kv.value.as_ref(), kv.version, kv.lease),
        (&b"3"[..], 4, lease)
    );
    Ok(())
}

async fn ignored_fields_must_not_be_given(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let refusal = async |request| refused(client.put(request).await);
    assert_eq!(
        refusal(pb::PutRequest {
            ignore_value: true,
            ..put("a", "1")
        })
        .await,
        (
            Code::InvalidArgument,
            "etcdserver: value is provided".into()
        )
    );
    assert_eq!(
        refusal(pb::PutRequest {
            ignore_lease: true,
            lease: 5,
            ..put("a", "1")
        })
        .await,
        (
            Code::InvalidArgument,
            "etcdserver: lease is provided".into()
        )
    );
    for request in [
        pb::PutRequest {
            ignore_value: true,
            ..put("missing", "")
        },
        pb::PutRequest {
            ignore_lease: true,
            ..put("missing", "1")
        },
    ] {
        assert_eq!(
            refusal(request).await,
            (Code::InvalidArgument, "etcdserver: key not found".into())
        );
    }
    assert_eq!(client.revision().await?, 1);
    Ok(())
}

async fn an_unknown_lease_is_refused_and_changes_nothing(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    assert_eq!(
        refused(
            client
                .put(pb::PutRequest {
                    lease: 123,
                    ..put("a", "1")
                })
                .await
        ),
        (
            Code::NotFound,
            "etcdserver: requested lease not found".into()
        )
    );
    assert_eq!(
        (client.get("a").await?, client.revision().await?),
        (None, 1)
    );
    Ok(())
}

async fn a_delete_counts_and_returns_what_it_removed(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")]).await?;
    let answer = client.delete(delete("a")).await?;
    assert_eq!((answer.deleted, answer.prev_kvs.len()), (1, 0));
    let answer = client
        .delete(pb::DeleteRangeRequest {
            prev_kv: true,
            ..delete_to("b", "d")
        })
        .await?;
    assert_eq!(
        (answer.deleted, values(&answer.prev_kvs)),
        (2, vec!["2".into(), "3".into()])
    );
    assert_eq!(keys(&client.range(prefix_all()).await?.kvs), ["d"]);
    Ok(())
}

async fn a_delete_that_matches_nothing_takes_no_revision(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1")]).await?;
    let answer = client.delete(delete_to("b", "z")).await?;
    assert_eq!((answer.deleted, revision(answer.header)), (0, 2));
    assert_eq!(client.revision().await?, 2);
    Ok(())
}

async fn a_range_delete_is_one_revision(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1"), ("b", "2"), ("c", "3")]).await?;
    let answer = client.delete(delete_to("a", "z")).await?;
    assert_eq!((answer.deleted, revision(answer.header)), (3, 5));
    assert_eq!(
        client
            .range(pb::RangeRequest {
                revision: 4,
                ..prefix_all()
            })
            .await?
            .count,
        3
    );
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

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

async fn compaction_drops_history_and_keeps_what_is_current(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1"), ("b", "1"), ("a", "2"), ("a", "3")]).await?;
    let answer = client.compact(4).await?;
    assert_eq!(revision(answer.header), 5);
    for revision in 1..4 {
        let request = pb::RangeRequest {
            revision,
            ..prefix_all()
        };
        assert_eq!(
            refused(client.range(request).await),
            (Code::OutOfRange, COMPACTED.into()),
            "at {revision}"
        );
    }
    // What was current at the compacted revision can still be read, at it and above.
    let at = async |revision| {
        client
            .range(pb::RangeRequest {
                revision,
                ..prefix_all()
            })
            .await
    };
    assert_eq!(values(&at(4).await?.kvs), ["2", "1"]);
    assert_eq!(values(&at(5).await?.kvs), ["3", "1"]);
    assert_eq!(values(&at(0).await?.kvs), ["3", "1"]);
    Ok(())
}

async fn compaction_is_refused_twice_and_ahead_of_time(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1"), ("a", "2")]).await?;
    client.compact(2).await?;
    assert_eq!(
        refused(client.compact(2).await),
        (Code::OutOfRange, COMPACTED.into())
    );
    assert_eq!(
        refused(client.compact(1).await),
        (Code::OutOfRange, COMPACTED.into())
    );
    assert_eq!(
        refused(client.compact(4).await),
        (Code::OutOfRange, FUTURE.into())
    );
    client
        .compact_with(pb::CompactionRequest {
            revision: 3,
            physical: false,
        })
        .await?;
    assert_eq!(client.get("a").await?, Some("2".into()));
    Ok(())
}

async fn a_key_deleted_before_compaction_stays_deleted(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    fill(&client, &[("a", "1"), ("b", "2")]).await?;
    client.delete(delete("a")).await?;
    fill(&client, &[("c", "3")]).await?;
    client.compact(4).await?;
    assert_eq!(keys(&client.range(prefix_all()).await?.kvs), ["b", "c"]);
    let at_floor = client
        .range(pb::RangeRequest {
            revision: 4,
            ..prefix_all()
        })
        .await?;
    assert_eq!(
        (keys(&at_floor.kvs), at_floor.count),
        (vec!["b".to_owned()], 1)
    );
    Ok(())
}

async fn values_of_any_bytes_and_a_megabyte_are_kept(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let large: Vec<u8> = (0..1_048_576_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for (key, value) in [
        (vec![0, 1, 0], vec![0xff, 0, 0xfe]),
        (vec![0xff; 3], Vec::new()),
        (vec![b'a'], large),
    ] {
        client
            .put(pb::PutRequest {
                key: key.clone().into(),
                value: value.clone().into(),
                ..put("", "")
            })
            .await?;
        let found = client
            .range(pb::RangeRequest {
                key: key.into(),
                ..range("")
            })
            .await?
            .kvs;
        assert_eq!(found.len(), 1);
        assert!(
            found[0].value == value,
            "a value of {} bytes came back changed",
            value.len()
        );
    }
    Ok(())
}

async fn a_request_above_the_limit_is_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let large = pb::PutRequest {
        value: vec![b'x'; 1_572_864 + 100].into(),
        ..put("a", "")
    };
    assert_eq!(
        refused(client.put(large).await),
        (
            Code::InvalidArgument,
            "etcdserver: request is too large".into()
        )
    );
    assert_eq!(client.get("a").await?, None);
    Ok(())
}

async fn a_serializable_read_is_answered(cluster: &mut Cluster) -> Claim {
    let client = cluster.client_of(0)?;
    fill(&client, &[("a", "1")]).await?;
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

async fn the_header_names_cluster_member_and_term(cluster: &mut Cluster) -> Claim {
    let mut clusters = Vec::new();
    let mut members = Vec::new();
    for index in 0..cluster.len() {
        let header = cluster
            .client_of(index)?
            .range(range("a"))
            .await?
            .header
            .expect("every answer has a header");
        assert!(
            header.cluster_id != 0 && header.member_id != 0 && header.raft_term > 0,
            "{header:?}"
        );
        clusters.push(header.cluster_id);
        members.push(header.member_id);
    }
    assert!(
        clusters.iter().all(|id| *id == clusters[0]),
        "members name clusters {clusters:?}"
    );
    members.sort_unstable();
    members.dedup();
    assert_eq!(members.len(), cluster.len());
    Ok(())
}
