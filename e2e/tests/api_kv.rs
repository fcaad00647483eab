//! KV: put, delete and compaction, as clients of etcd rely on them. Reads have `api_range`.

use coord_e2e::clients::etcd::answer::{keys, revision, values};
use coord_e2e::clients::etcd::request::{delete, delete_to, everything, put, range};
use coord_e2e::cluster::Cluster;
use coord_e2e::cluster::claims::{Claim, refused};
use coord_e2e::on_each_cluster;
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb::KeyValue;
use tonic::Code;

on_each_cluster!(
    a_fresh_store_is_at_revision_one,
    a_put_is_read_back_with_its_revisions,
    each_write_takes_one_revision,
    a_same_value_put_is_a_new_version,
    a_deleted_key_starts_over_at_version_one,
    an_empty_key_is_refused,
    a_put_returns_what_it_replaced_if_asked,
    ignore_value_keeps_the_value_and_bumps_the_version,
    ignored_fields_must_not_be_given,
    an_unknown_lease_is_refused_and_changes_nothing,
    a_delete_counts_and_returns_what_it_removed,
    a_delete_that_matches_nothing_takes_no_revision,
    a_range_delete_is_one_revision,
    compaction_drops_history_and_keeps_what_is_current,
    compaction_is_refused_twice_and_ahead_of_time,
    a_key_deleted_before_compaction_stays_deleted,
    values_of_any_bytes_and_a_megabyte_are_kept,
    a_request_above_the_limit_is_refused,
    the_header_names_cluster_member_and_term,
);

async fn a_fresh_store_is_at_revision_one(cluster: &mut Cluster) -> Claim {
    let answer = cluster.client()?.range(range("a")).await?;
    assert_eq!((answer.kvs.len(), answer.count, answer.more), (0, 0, false));
    assert_eq!(revision(&answer.header), 1);
    Ok(())
}

async fn a_put_is_read_back_with_its_revisions(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let answer = client.put(put("a", "1")).await?;
    assert_eq!(revision(&answer.header), 2);
    assert_eq!(answer.prev_kv, None);
    client.fill(&[("b", "x"), ("a", "2")]).await?;
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
        (answer.count, answer.more, revision(&answer.header)),
        (1, false, 4)
    );
    Ok(())
}

async fn each_write_takes_one_revision(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for expected in 2..12 {
        assert_eq!(revision(&client.put(put("a", "1")).await?.header), expected);
    }
    assert_eq!(revision(&client.delete(delete("a")).await?.header), 12);
    assert_eq!(client.revision().await?, 12);
    Ok(())
}

async fn a_same_value_put_is_a_new_version(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.fill(&[("a", "1"), ("a", "1")]).await?;
    let kvs = client.range(range("a")).await?.kvs;
    assert_eq!((kvs[0].version, kvs[0].mod_revision), (2, 3));
    Ok(())
}

async fn a_deleted_key_starts_over_at_version_one(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.fill(&[("a", "1"), ("a", "2")]).await?;
    client.delete(delete("a")).await?;
    assert_eq!(client.range(range("a")).await?.count, 0);
    client.fill(&[("a", "3")]).await?;
    let kvs = client.range(range("a")).await?.kvs;
    assert_eq!(
        (kvs[0].version, kvs[0].create_revision, kvs[0].mod_revision),
        (1, 5, 5)
    );
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
    client
        .fill(&[("a", "1"), ("b", "2"), ("c", "3"), ("d", "4")])
        .await?;
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
    assert_eq!(keys(&client.range(everything()).await?.kvs), ["d"]);
    Ok(())
}

async fn a_delete_that_matches_nothing_takes_no_revision(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.fill(&[("a", "1")]).await?;
    let answer = client.delete(delete_to("b", "z")).await?;
    assert_eq!((answer.deleted, revision(&answer.header)), (0, 2));
    assert_eq!(client.revision().await?, 2);
    Ok(())
}

async fn a_range_delete_is_one_revision(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.fill(&[("a", "1"), ("b", "2"), ("c", "3")]).await?;
    let answer = client.delete(delete_to("a", "z")).await?;
    assert_eq!((answer.deleted, revision(&answer.header)), (3, 5));
    assert_eq!(
        client
            .range(pb::RangeRequest {
                revision: 4,
                ..everything()
            })
            .await?
            .count,
        3
    );
    Ok(())
}

const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";
const FUTURE: &str = "etcdserver: mvcc: required revision is a future revision";

async fn compaction_drops_history_and_keeps_what_is_current(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client
        .fill(&[("a", "1"), ("b", "1"), ("a", "2"), ("a", "3")])
        .await?;
    let answer = client.compact(4).await?;
    assert_eq!(revision(&answer.header), 5);
    for revision in 1..4 {
        let request = pb::RangeRequest {
            revision,
            ..everything()
        };
        assert_eq!(
            refused(client.range(request).await),
            (Code::OutOfRange, COMPACTED.into()),
            "at {revision}"
        );
    }
    // Values that were current at the compacted revision can still be read, at it and above.
    let at = async |revision| {
        client
            .range(pb::RangeRequest {
                revision,
                ..everything()
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
    client.fill(&[("a", "1"), ("a", "2")]).await?;
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
    client.fill(&[("a", "1"), ("b", "2")]).await?;
    client.delete(delete("a")).await?;
    client.fill(&[("c", "3")]).await?;
    client.compact(4).await?;
    assert_eq!(keys(&client.range(everything()).await?.kvs), ["b", "c"]);
    let at_floor = client
        .range(pb::RangeRequest {
            revision: 4,
            ..everything()
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
