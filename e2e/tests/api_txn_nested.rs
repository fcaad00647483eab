//! Txn: transactions in transactions, and compares over ranges of keys.

use coord_e2e::clients::etcd::answer::{keys, revision, shown};
use coord_e2e::clients::etcd::request::{
    compare, delete_to, op, prefix, put, range, range_to, txn, watch,
};
use coord_e2e::cluster::Cluster;
use coord_e2e::cluster::claims::{Claim, refused};
use coord_e2e::on_each_cluster;
use coord_proto::etcd::etcdserverpb as pb;
use pb::compare::CompareResult::{Equal, Greater, Less, NotEqual};
use pb::compare::TargetUnion::{Lease, ModRevision, Value, Version};
use pb::response_op::Response;
use tonic::Code;

on_each_cluster!(
    each_transaction_inside_takes_its_own_branch,
    all_compares_look_at_what_stood_before,
    changes_of_all_depths_are_one_revision_in_order,
    operations_see_what_was_done_before_them_at_any_depth,
    a_refusal_deep_inside_changes_nothing,
    a_key_changes_once_along_any_path,
    operations_are_counted_with_those_inside,
    a_compare_over_a_range_holds_for_every_key,
    a_compare_over_no_keys_is_as_with_a_missing_one,
    a_compare_over_many_keys_is_decided,
);

fn inner(response: &pb::ResponseOp) -> &pb::TxnResponse {
    match response.response.as_ref() {
        Some(Response::ResponseTxn(inner)) => inner,
        other => panic!("not the answer to a transaction: {other:?}"),
    }
}

fn ranged(response: &pb::ResponseOp) -> &pb::RangeResponse {
    match response.response.as_ref() {
        Some(Response::ResponseRange(range)) => range,
        other => panic!("not the answer to a range: {other:?}"),
    }
}

async fn each_transaction_inside_takes_its_own_branch(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.fill(&[("a", "1"), ("b", "2")]).await?;
    let there = |key: &str| compare(key, Greater, Version(0));
    let deepest = txn([there("c")], [op(put("x", "c"))], [op(put("x", "no c"))]);
    let middle = txn(
        [there("b")],
        [op(put("y", "b")), op(deepest)],
        [op(put("y", "no b"))],
    );
    let other = txn([there("nope")], [], [op(range("a"))]);
    let all = txn([there("a")], [op(middle), op(put("z", "a")), op(other)], []);
    let answer = client.txn(all).await?;
    assert!(answer.succeeded && answer.responses.len() == 3);
    let middle = inner(&answer.responses[0]);
    assert!(middle.succeeded && middle.responses.len() == 2);
    let deepest = inner(&middle.responses[1]);
    assert!(!deepest.succeeded && deepest.responses.len() == 1);
    let other = inner(&answer.responses[2]);
    assert!(!other.succeeded);
    assert_eq!(keys(&ranged(&other.responses[0]).kvs), ["a"]);
    for (key, value) in [("x", "no c"), ("y", "b"), ("z", "a")] {
        assert_eq!(client.get(key).await?, Some(value.into()), "{key}");
    }
    // Only the outermost says whose answer it is, and at which revision.
    let header = answer.header.as_ref().expect("it has one");
    assert!(header.member_id > 0 && header.revision > 0);
    assert_eq!(middle.header, Some(pb::ResponseHeader::default()));
    Ok(())
}

async fn all_compares_look_at_what_stood_before(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let missing = compare("a", Equal, Version(0));
    let inside = txn(
        [missing],
        [op(put("b", "a was missing"))],
        [op(put("b", "a was there"))],
    );
    client
        .txn(txn([], [op(put("a", "1")), op(inside)], []))
        .await?;
    assert_eq!(client.get("b").await?, Some("a was missing".into()));
    Ok(())
}

async fn changes_of_all_depths_are_one_revision_in_order(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("d", "0")).await?;
    let before = client.revision().await?;
    let create = pb::WatchCreateRequest {
        range_end: "z".into(),
        start_revision: before + 1,
        ..watch("a")
    };
    let mut watch = client.watching(create).await?;
    let deep = txn([], [op(put("c", "3")), op(delete_to("d", "e"))], []);
    let middle = txn([], [op(put("b", "2")), op(deep)], []);
    let answer = client
        .txn(txn(
            [],
            [op(put("e", "1")), op(middle), op(put("a", "4"))],
            [],
        ))
        .await?;
    assert_eq!(revision(&answer.header), before + 1);
    let events = watch.events(5).await?;
    assert_eq!(shown(&events).len(), 5);
    let order: Vec<_> = events
        .iter()
        .map(|event| event.kv.as_ref().expect("each has one"))
        .map(|kv| {
            (
                String::from_utf8_lossy(&kv.key).into_owned(),
                kv.mod_revision,
            )
        })
        .collect();
    let expected = ["e", "b", "c", "d", "a"].map(|key| (key.to_owned(), before + 1));
    assert_eq!(order, expected);
    Ok(())
}

async fn operations_see_what_was_done_before_them_at_any_depth(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client
        .fill(&[("k1", "old"), ("k2", "old"), ("k3", "old")])
        .await?;
    let before = client.revision().await?;
    let inside = txn(
        [],
        [
            op(range_to("k", "l")),
            op(put("k2", "new")),
            op(range_to("k", "l")),
        ],
        [],
    );
    let all = txn(
        [],
        [
            op(put("k1", "new")),
            op(inside),
            op(delete_to("k3", "k4")),
            op(prefix("k")),
        ],
        [],
    );
    let answer = client.txn(all).await?;
    let values = |range: &pb::RangeResponse| -> Vec<String> {
        let values = range.kvs.iter().map(|kv| &kv.value);
        values
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .collect()
    };
    let inside = inner(&answer.responses[1]);
    let first = ranged(&inside.responses[0]);
    assert_eq!(values(first), ["new", "old", "old"]);
    assert_eq!(revision(&first.header), before + 1);
    assert_eq!(values(ranged(&inside.responses[2])), ["new", "new", "old"]);
    assert_eq!(values(ranged(&answer.responses[3])), ["new", "new"]);
    Ok(())
}

async fn a_refusal_deep_inside_changes_nothing(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    let before = client.revision().await?;
    let unknown = pb::PutRequest {
        lease: 12345,
        ..put("b", "2")
    };
    let inside = txn([], [op(txn([], [op(unknown)], []))], []);
    let answer = client
        .txn(txn([], [op(put("a", "2")), op(inside)], []))
        .await;
    assert_eq!(refused(answer).0, Code::NotFound);
    assert_eq!(client.get("a").await?, Some("1".into()));
    assert_eq!(client.revision().await?, before);
    // In a branch that is not taken nobody looks.
    let unknown = pb::PutRequest {
        lease: 12345,
        ..put("b", "2")
    };
    let inside = txn([], [], [op(unknown)]);
    client
        .txn(txn([], [op(put("a", "2")), op(inside)], []))
        .await?;
    Ok(())
}

async fn a_key_changes_once_along_any_path(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let puts = |key: &str| op(put(key, "1"));
    let inside =
        |success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>| op(txn([], success, failure));
    for ops in [
        vec![puts("a"), inside(vec![puts("a")], vec![])],
        vec![
            inside(vec![puts("a")], vec![]),
            inside(vec![], vec![puts("a")]),
        ],
        vec![op(delete_to("a", "c")), inside(vec![puts("b")], vec![])],
        vec![inside(vec![op(delete_to("a", "c"))], vec![]), puts("b")],
    ] {
        let text = "etcdserver: duplicate key given in txn request";
        let twice = refused(client.txn(txn([], ops, [])).await);
        assert_eq!(twice, (Code::InvalidArgument, text.to_owned()));
    }
    let either = vec![inside(vec![puts("a")], vec![puts("a")])];
    client.txn(txn([], either, [])).await?;
    Ok(())
}

async fn operations_are_counted_with_those_inside(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let puts = |number: usize| -> Vec<pb::RequestOp> {
        (0..number)
            .map(|key| op(put(&format!("k{key}"), "1")))
            .collect()
    };
    let inside = |number: usize| txn([], [op(txn([], puts(number), []))], []);
    client.txn(inside(127)).await?;
    let many = refused(client.txn(inside(128)).await);
    let text = "etcdserver: too many operations in txn request";
    assert_eq!(many, (Code::InvalidArgument, text.to_owned()));
    // As deep as any client can say: nothing stops for it.
    let deep = (0..40).fold(txn([], [op(put("deep", "1"))], []), |inner, _| {
        txn([], [op(inner)], [])
    });
    client.txn(deep).await?;
    assert_eq!(client.get("deep").await?, Some("1".into()));
    let deeper = (0..120).fold(txn([], [op(put("deep", "2"))], []), |inner, _| {
        txn([], [op(inner)], [])
    });
    let _ = client.txn(deeper).await;
    client.put(put("after", "1")).await?;
    Ok(())
}

fn over(key: &str, end: &str, compare: pb::Compare) -> pb::Compare {
    pb::Compare {
        key: key.to_owned().into(),
        range_end: end.to_owned().into(),
        ..compare
    }
}

async fn holds(cluster: &Cluster, compare: pb::Compare) -> Result<bool, tonic::Status> {
    let client = cluster.client().expect("its endpoints are URLs");
    Ok(client.txn(txn([compare], [], [])).await?.succeeded)
}

async fn a_compare_over_a_range_holds_for_every_key(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client
        .fill(&[("k1", "a"), ("k2", "a"), ("k3", "b"), ("l", "z")])
        .await?;
    let newest = client.revision().await?;
    for (end, compare, expected) in [
        ("k3", compare("", Equal, Value("a".into())), true),
        ("k4", compare("", Equal, Value("a".into())), false),
        ("k4", compare("", Less, Value("c".into())), true),
        ("\0", compare("", Less, Value("c".into())), false),
        ("k4", compare("", NotEqual, Value("c".into())), true),
        ("k4", compare("", Equal, Version(1)), true),
        ("\0", compare("", Less, ModRevision(newest + 1)), true),
        ("\0", compare("", Less, ModRevision(newest)), false),
        ("k4", compare("", Equal, Lease(0)), true),
    ] {
        let compare = over("k", end, compare);
        let shown = format!("{compare:?}");
        assert_eq!(holds(cluster, compare).await?, expected, "{shown}");
    }
    Ok(())
}

async fn a_compare_over_no_keys_is_as_with_a_missing_one(cluster: &mut Cluster) -> Claim {
    cluster.client()?.put(put("z", "1")).await?;
    for (compare, expected) in [
        (compare("", Equal, Version(0)), true),
        (compare("", Greater, Version(0)), false),
        (compare("", Equal, Value("".into())), false),
        (compare("", NotEqual, Value("x".into())), false),
    ] {
        for end in ["b", "a", "A"] {
            let compare = over("a", end, compare.clone());
            let shown = format!("{compare:?}");
            assert_eq!(holds(cluster, compare).await?, expected, "{shown}");
        }
    }
    Ok(())
}

async fn a_compare_over_many_keys_is_decided(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for batch in 0..20 {
        let puts = (0..100).map(|key| op(put(&format!("k{batch:02}{key:02}"), "v")));
        client.txn(txn([], puts.collect::<Vec<_>>(), [])).await?;
    }
    let all = |value: &str| over("k", "l", compare("", Equal, Value(value.to_owned().into())));
    let swap = txn([all("v")], [op(put("k1950", "w"))], []);
    assert!(client.txn(swap.clone()).await?.succeeded);
    assert!(!client.txn(swap).await?.succeeded);
    Ok(())
}
