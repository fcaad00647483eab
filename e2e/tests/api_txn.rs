//! Txn: compares, branches, what one transaction sees of itself, and what is refused.

use coord_e2e::clients::etcd::answer::revision;
use coord_e2e::clients::etcd::request::{
    compare, delete, delete_to, op, put, range, range_to, txn, value,
};
use coord_e2e::cluster::Cluster;
use coord_e2e::cluster::claims::{Claim, refused};
use coord_e2e::on_each_cluster;
use coord_proto::etcd::etcdserverpb as pb;
use pb::compare::CompareResult::{self, Equal, Greater, Less, NotEqual};
use pb::compare::TargetUnion::{CreateRevision, Lease, ModRevision, Value, Version};
use pb::response_op::Response;
use tonic::Code;

on_each_cluster!(
    the_branch_follows_the_compares,
    every_target_compares_in_every_way,
    a_missing_key_compares_as_zero_but_has_no_value,
    all_compares_must_hold,
    an_empty_transaction_succeeds_without_a_revision,
    all_changes_share_one_revision_in_order,
    a_range_sees_the_puts_before_it,
    a_delete_sees_the_puts_before_it,
    a_transaction_that_only_reads_takes_no_revision,
    create_if_absent_has_one_winner,
    compare_and_swap_counts_without_loss,
    a_key_put_twice_is_refused,
    a_put_inside_a_deleted_range_is_refused,
    overlapping_deletes_are_fine,
    both_branches_may_put_the_same_key,
    too_many_operations_are_refused,
    a_failing_operation_changes_nothing,
    an_empty_operation_is_refused,
    a_range_at_an_old_revision_reads_as_it_was,
    a_range_below_the_first_revision_fails_the_branch_that_has_it,
    previous_values_come_back_in_a_transaction,
);

/// Whether a transaction with these compares takes the success branch.
async fn succeeds(cluster: &Cluster, compares: &[pb::Compare]) -> Result<bool, anyhow::Error> {
    Ok(cluster
        .client()?
        .txn(txn(compares, [], []))
        .await?
        .succeeded)
}

fn ranged(response: &pb::ResponseOp) -> &pb::RangeResponse {
    match response.response.as_ref() {
        Some(Response::ResponseRange(range)) => range,
        other => panic!("not the answer to a range: {other:?}"),
    }
}

fn deleted(response: &pb::ResponseOp) -> &pb::DeleteRangeResponse {
    match response.response.as_ref() {
        Some(Response::ResponseDeleteRange(delete)) => delete,
        other => panic!("not the answer to a delete: {other:?}"),
    }
}

fn was_put(response: &pb::ResponseOp) -> &pb::PutResponse {
    match response.response.as_ref() {
        Some(Response::ResponsePut(put)) => put,
        other => panic!("not the answer to a put: {other:?}"),
    }
}

async fn the_branch_follows_the_compares(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    for (expected, succeeded) in [("1", true), ("2", false)] {
        let request = txn(
            [value("a", Equal, expected)],
            [op(put("yes", "x")), op(range("a"))],
            [op(range("a"))],
        );
        let answer = client.txn(request).await?;
        assert_eq!(answer.succeeded, succeeded);
        let found = ranged(
            answer
                .responses
                .last()
                .expect("both branches end in a range"),
        );
        assert_eq!(found.kvs[0].value, "1");
        assert_eq!(answer.responses.len(), if succeeded { 2 } else { 1 });
    }
    assert_eq!(client.revision().await?, 3);
    Ok(())
}

async fn every_target_compares_in_every_way(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let lease = client
        .lease_grant(pb::LeaseGrantRequest { ttl: 600, id: 77 })
        .await?
        .id;
    client.put(put("other", "x")).await?;
    client.put(put("a", "l")).await?;
    // Version 2, created at 3, changed at 4, value "m", lease 77.
    client
        .put(pb::PutRequest {
            lease,
            ..put("a", "m")
        })
        .await?;
    let holds = |result: CompareResult, order: std::cmp::Ordering| match result {
        Equal => order.is_eq(),
        NotEqual => order.is_ne(),
        Greater => order.is_gt(),
        Less => order.is_lt(),
    };
    for result in [Equal, NotEqual, Greater, Less] {
        for (offset, order) in [
            (-1, std::cmp::Ordering::Greater),
            (0, std::cmp::Ordering::Equal),
            (1, std::cmp::Ordering::Less),
        ] {
            let text = ["l", "m", "n"][(offset + 1) as usize];
            for with in [
                Version(2 + offset),
                CreateRevision(3 + offset),
                ModRevision(4 + offset),
                Lease(77 + offset),
                Value(text.into()),
            ] {
                let expected = holds(result, order);
                let found = succeeds(cluster, &[compare("a", result, with.clone())]).await?;
                assert_eq!(found, expected, "{result:?} {with:?}");
            }
        }
    }
    Ok(())
}

async fn a_missing_key_compares_as_zero_but_has_no_value(cluster: &mut Cluster) -> Claim {
    for with in [Version(0), CreateRevision(0), ModRevision(0), Lease(0)] {
        assert!(
            succeeds(cluster, &[compare("none", Equal, with.clone())]).await?,
            "{with:?}"
        );
        assert!(
            !succeeds(cluster, &[compare("none", Greater, with.clone())]).await?,
            "{with:?}"
        );
    }
    assert!(succeeds(cluster, &[compare("none", Less, Version(1))]).await?);
    for result in [Equal, NotEqual, Greater, Less] {
        assert!(
            !succeeds(cluster, &[value("none", result, "")]).await?,
            "{result:?}"
        );
        assert!(
            !succeeds(cluster, &[value("none", result, "x")]).await?,
            "{result:?}"
        );
    }
    Ok(())
}

async fn all_compares_must_hold(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    client.put(put("b", "2")).await?;
    assert!(succeeds(cluster, &[value("a", Equal, "1"), value("b", Equal, "2")]).await?);
    assert!(!succeeds(cluster, &[value("a", Equal, "1"), value("b", Equal, "3")]).await?);
    Ok(())
}

async fn an_empty_transaction_succeeds_without_a_revision(cluster: &mut Cluster) -> Claim {
    let answer = cluster.client()?.txn(txn([], [], [])).await?;
    assert_eq!(
        (
            answer.succeeded,
            answer.responses.len(),
            revision(&answer.header)
        ),
        (true, 0, 1)
    );
    Ok(())
}

async fn all_changes_share_one_revision_in_order(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("old", "x")).await?;
    let request = txn(
        [],
        [op(put("b", "1")), op(delete("old")), op(put("a", "2"))],
        [],
    );
    let answer = client.txn(request).await?;
    assert_eq!(revision(&answer.header), 3);
    assert_eq!(deleted(&answer.responses[1]).deleted, 1);
    // A part's header carries the revision only, and all parts have the same.
    let part = was_put(&answer.responses[0])
        .header
        .as_ref()
        .expect("parts have headers");
    assert_eq!((part.revision, part.cluster_id, part.member_id), (3, 0, 0));
    let found = client.range(range_to("\0", "\0")).await?.kvs;
    assert_eq!(
        found
            .iter()
            .map(|kv| (kv.mod_revision, kv.create_revision))
            .collect::<Vec<_>>(),
        [(3, 3), (3, 3)]
    );
    Ok(())
}

async fn a_range_sees_the_puts_before_it(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let request = txn([], [op(range("a")), op(put("a", "1")), op(range("a"))], []);
    let answer = client.txn(request).await?;
    assert_eq!(ranged(&answer.responses[0]).count, 0);
    let after = ranged(&answer.responses[2]);
    assert_eq!(
        (after.kvs[0].value.as_ref(), after.kvs[0].mod_revision),
        (&b"1"[..], 2)
    );
    Ok(())
}

async fn a_delete_sees_the_puts_before_it(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    let request = txn(
        [],
        [
            op(delete_to("a", "c")),
            op(range_to("a", "z")),
            op(put("d", "4")),
            op(delete("e")),
        ],
        [],
    );
    let answer = client.txn(request).await?;
    assert_eq!(deleted(&answer.responses[0]).deleted, 1);
    assert_eq!(ranged(&answer.responses[1]).count, 0);
    assert_eq!(deleted(&answer.responses[3]).deleted, 0);
    assert_eq!(client.get("d").await?, Some("4".into()));
    Ok(())
}

async fn a_transaction_that_only_reads_takes_no_revision(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    let answer = client
        .txn(txn(
            [value("a", Equal, "1")],
            [op(range("a"))],
            [op(put("b", "1"))],
        ))
        .await?;
    assert_eq!(revision(&answer.header), 2);
    let answer = client.txn(txn([], [op(delete("none"))], [])).await?;
    assert_eq!((revision(&answer.header), client.revision().await?), (2, 2));
    Ok(())
}

async fn create_if_absent_has_one_winner(cluster: &mut Cluster) -> Claim {
    let mut attempts = Vec::new();
    for number in 0..16 {
        let client = cluster.client_of(number % cluster.len())?;
        attempts.push(async move {
            let create = op(put("a", &number.to_string()));
            client
                .txn(txn(
                    [compare("a", Equal, CreateRevision(0))],
                    [create],
                    [op(range("a"))],
                ))
                .await
        });
    }
    let answers = futures::future::try_join_all(attempts).await?;
    let winners: Vec<_> = (0..16)
        .filter(|number| answers[*number].succeeded)
        .collect();
    assert_eq!(winners.len(), 1, "winners {winners:?}");
    let held = winners[0].to_string();
    assert_eq!(cluster.client()?.get("a").await?, Some(held.clone()));
    for answer in answers.iter().filter(|answer| !answer.succeeded) {
        assert_eq!(ranged(&answer.responses[0]).kvs[0].value, held);
    }
    Ok(())
}

async fn compare_and_swap_counts_without_loss(cluster: &mut Cluster) -> Claim {
    const EACH: usize = 15;
    cluster.client()?.put(put("n", "0")).await?;
    let mut counters = Vec::new();
    for number in 0..6 {
        let client = cluster.client_of(number % cluster.len())?;
        counters.push(async move {
            for _ in 0..EACH {
                loop {
                    let kv = client.range(range("n")).await?.kvs.remove(0);
                    let next: usize = String::from_utf8_lossy(&kv.value).parse::<usize>()? + 1;
                    let unchanged = compare("n", Equal, ModRevision(kv.mod_revision));
                    if client
                        .txn(txn([unchanged], [op(put("n", &next.to_string()))], []))
                        .await?
                        .succeeded
                    {
                        break;
                    }
                }
            }
            anyhow::Ok(())
        });
    }
    futures::future::try_join_all(counters).await?;
    assert_eq!(
        cluster.client()?.get("n").await?,
        Some((6 * EACH).to_string())
    );
    Ok(())
}

const DUPLICATE: &str = "etcdserver: duplicate key given in txn request";

async fn a_key_put_twice_is_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let twice = [op(put("a", "1")), op(put("a", "2"))];
    let expected = (Code::InvalidArgument, DUPLICATE.to_owned());
    assert_eq!(
        refused(client.txn(txn([], twice.clone(), [])).await),
        expected
    );
    // Also on the branch that is not taken.
    assert_eq!(refused(client.txn(txn([], [], twice)).await), expected);
    assert_eq!(client.revision().await?, 1);
    Ok(())
}

async fn a_put_inside_a_deleted_range_is_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for ops in [
        [op(delete_to("a", "c")), op(put("b", "1"))],
        [op(put("b", "1")), op(delete_to("a", "c"))],
        [op(delete("b")), op(put("b", "1"))],
    ] {
        assert_eq!(
            refused(client.txn(txn([], ops, [])).await),
            (Code::InvalidArgument, DUPLICATE.into())
        );
    }
    client
        .txn(txn([], [op(delete_to("a", "b")), op(put("b", "1"))], []))
        .await?;
    Ok(())
}

async fn overlapping_deletes_are_fine(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    client.put(put("b", "2")).await?;
    let answer = client
        .txn(txn(
            [],
            [
                op(delete_to("a", "c")),
                op(delete("a")),
                op(delete_to("b", "z")),
            ],
            [],
        ))
        .await?;
    let counts: Vec<_> = answer
        .responses
        .iter()
        .map(|response| deleted(response).deleted)
        .collect();
    assert_eq!(counts, [2, 0, 0]);
    Ok(())
}

async fn both_branches_may_put_the_same_key(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client
        .txn(txn(
            [value("a", Equal, "x")],
            [op(put("b", "yes"))],
            [op(put("b", "no"))],
        ))
        .await?;
    assert_eq!(client.get("b").await?, Some("no".into()));
    Ok(())
}

async fn too_many_operations_are_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let puts = |count: usize| {
        (0..count)
            .map(|number| op(put(&format!("k{number:03}"), "x")))
            .collect::<Vec<_>>()
    };
    let compares = |count: usize| {
        (0..count)
            .map(|_| compare("k", Equal, Version(0)))
            .collect::<Vec<_>>()
    };
    let expected = (
        Code::InvalidArgument,
        "etcdserver: too many operations in txn request".to_owned(),
    );
    assert_eq!(refused(client.txn(txn([], puts(129), [])).await), expected);
    assert_eq!(refused(client.txn(txn([], [], puts(129))).await), expected);
    assert_eq!(
        refused(client.txn(txn(compares(129), [], [])).await),
        expected
    );
    let answer = client.txn(txn(compares(128), puts(128), puts(128))).await?;
    assert_eq!((answer.responses.len(), revision(&answer.header)), (128, 2));
    Ok(())
}

async fn a_failing_operation_changes_nothing(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    let before = op(put("a", "1"));
    let unknown_lease = pb::PutRequest {
        lease: 99,
        ..put("b", "2")
    };
    assert_eq!(
        refused(
            client
                .txn(txn([], [before.clone(), op(unknown_lease)], []))
                .await
        ),
        (
            Code::NotFound,
            "etcdserver: requested lease not found".into()
        )
    );
    let ignored = pb::PutRequest {
        ignore_value: true,
        ..put("missing", "")
    };
    assert_eq!(
        refused(client.txn(txn([], [before.clone(), op(ignored)], [])).await),
        (Code::InvalidArgument, "etcdserver: key not found".into())
    );
    let future = pb::RangeRequest {
        revision: 50,
        ..range("a")
    };
    assert_eq!(
        refused(client.txn(txn([], [before, op(future)], [])).await),
        (
            Code::OutOfRange,
            "etcdserver: mvcc: required revision is a future revision".into()
        )
    );
    assert_eq!(
        (client.get("a").await?, client.revision().await?),
        (None, 1)
    );
    Ok(())
}

async fn an_empty_operation_is_refused(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    assert_eq!(
        refused(
            client
                .txn(txn([], [pb::RequestOp { request: None }], []))
                .await
        ),
        (Code::InvalidArgument, "etcdserver: key not found".into())
    );
    let no_key = (
        Code::InvalidArgument,
        "etcdserver: key is not provided".to_owned(),
    );
    assert_eq!(
        refused(client.txn(txn([], [op(put("", "1"))], [])).await),
        no_key
    );
    assert_eq!(
        refused(
            client
                .txn(txn([compare("", Equal, Version(0))], [], []))
                .await
        ),
        no_key
    );
    Ok(())
}

async fn a_range_at_an_old_revision_reads_as_it_was(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    client.put(put("a", "2")).await?;
    let old = pb::RangeRequest {
        revision: 2,
        ..range("a")
    };
    let answer = client
        .txn(txn([], [op(put("b", "x")), op(old)], []))
        .await?;
    assert_eq!(ranged(&answer.responses[1]).kvs[0].value, "1");
    Ok(())
}

async fn a_range_below_the_first_revision_fails_the_branch_that_has_it(
    cluster: &mut Cluster,
) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    client.put(put("a", "2")).await?;
    client.compact(2).await?;
    let below = |revision| pb::RangeRequest {
        revision,
        ..range("a")
    };
    for revision in [-1, -2, i64::MIN] {
        // Alone it means now.
        let found = client.range(below(revision)).await?.kvs;
        assert_eq!(found[0].value.as_ref(), b"2");
        for branch in [
            vec![op(below(revision))],
            vec![op(put("b", "1")), op(below(revision))],
        ] {
            let refusal = refused(client.txn(txn([], branch.clone(), [])).await);
            let text = "etcdserver: mvcc: required revision has been compacted";
            assert_eq!(refusal, (Code::OutOfRange, text.to_owned()));
            assert!(client.txn(txn([], [], branch)).await?.succeeded);
        }
    }
    assert_eq!(
        (client.get("b").await?, client.revision().await?),
        (None, 3)
    );
    Ok(())
}

async fn previous_values_come_back_in_a_transaction(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    client.put(put("b", "2")).await?;
    let ops = [
        op(pb::PutRequest {
            prev_kv: true,
            ..put("a", "3")
        }),
        op(pb::DeleteRangeRequest {
            prev_kv: true,
            ..delete("b")
        }),
    ];
    let answer = client.txn(txn([], ops, [])).await?;
    assert_eq!(
        was_put(&answer.responses[0])
            .prev_kv
            .as_ref()
            .map(|kv| kv.value.as_ref()),
        Some(&b"1"[..])
    );
    assert_eq!(deleted(&answer.responses[1]).prev_kvs[0].value, "2");
    Ok(())
}
