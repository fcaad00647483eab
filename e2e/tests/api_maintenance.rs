//! Maintenance, and the pages beside the API: status, defragmentation, moving the leader, health, version, metrics.

use coord_e2e::clients::etcd::request::{put, range};
use coord_e2e::clients::http;
use coord_e2e::cluster::claims::{Claim, refused};
use coord_e2e::cluster::{Cluster, eventually, process};
use coord_e2e::{on_each_cluster, on_three_processes};
use coord_proto::etcd::etcdserverpb as pb;
use pb::downgrade_request::DowngradeAction;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request};

on_each_cluster!(
    status_describes_the_member_that_is_asked,
    status_counts_what_is_stored,
    every_member_says_the_same_version_everywhere,
    defragmentation_succeeds_and_changes_nothing,
    health_pages_say_that_a_member_is_well,
    health_pages_answer_get_only,
    an_unknown_page_is_not_found,
    metrics_carry_the_names_that_dashboards_use,
    grpc_health_says_serving,
    what_is_not_there_yet_is_refused_by_name,
);

on_three_processes!(
    leadership_moves_to_the_member_that_is_named,
    only_the_leader_moves_leadership,
    readiness_needs_a_quorum,
);

async fn status_describes_the_member_that_is_asked(cluster: &mut Cluster) -> Claim {
    let leader = cluster.leader().await?;
    let mut leaders = Vec::new();
    for index in 0..cluster.len() {
        let status = cluster.client_of(index)?.status().await?;
        let header = status.header.as_ref().expect("every answer has a header");
        assert_eq!(status.leader == header.member_id, index == leader);
        assert!(status.raft_term > 0 && status.raft_index > 0, "{status:?}");
        assert!(status.raft_applied_index <= status.raft_index, "{status:?}");
        assert!(!status.is_learner && status.errors.is_empty(), "{status:?}");
        leaders.push(status.leader);
    }
    assert!(leaders.iter().all(|id| *id == leaders[0]), "{leaders:?}");
    Ok(())
}

async fn status_counts_what_is_stored(cluster: &mut Cluster) -> Claim {
    let client = cluster.client_of(0)?;
    let before = client.status().await?;
    for number in 0..40 {
        client
            .put(put(&format!("k{number}"), &"v".repeat(50_000)))
            .await?;
    }
    let after = eventually("the size grows with what is stored", || async {
        let after = client.status().await?;
        anyhow::ensure!(
            after.db_size >= 2_000_000,
            "{} bytes for two million stored",
            after.db_size
        );
        Ok(after)
    })
    .await?;
    assert!(
        after.db_size_in_use > 0 && after.db_size_in_use <= after.db_size,
        "{after:?}"
    );
    assert!(after.raft_applied_index >= before.raft_applied_index + 40);
    Ok(())
}

async fn every_member_says_the_same_version_everywhere(cluster: &mut Cluster) -> Claim {
    for index in 0..cluster.len() {
        let version = cluster.client_of(index)?.status().await?.version;
        let parts: Vec<_> = version
            .split('.')
            .map(str::parse::<u32>)
            .collect::<Result<_, _>>()?;
        assert!(
            parts.len() == 3 && parts >= vec![3, 6, 0],
            "kube-apiserver needs 3.6 or newer: {version}"
        );
        let page = http::request("GET", &cluster.endpoint(index), "/version").await?;
        let json: serde_json::Value = serde_json::from_str(page.body())?;
        assert_eq!(
            (page.status, json["etcdserver"].as_str()),
            (200, Some(version.as_str()))
        );
        assert!(json["etcdcluster"].is_string(), "{json}");
    }
    Ok(())
}

async fn defragmentation_succeeds_and_changes_nothing(cluster: &mut Cluster) -> Claim {
    let client = cluster.client_of(0)?;
    client.put(put("a", "1")).await?;
    client.defragment(pb::DefragmentRequest {}).await?;
    assert_eq!(
        (client.get("a").await?, client.revision().await?),
        (Some("1".into()), 2)
    );
    Ok(())
}

async fn health_pages_say_that_a_member_is_well(cluster: &mut Cluster) -> Claim {
    for index in 0..cluster.len() {
        let endpoint = cluster.endpoint(index);
        for path in [
            "/health",
            "/health?serializable=true",
            "/health?exclude=NOSPACE",
        ] {
            let page = http::request("GET", &endpoint, path).await?;
            let json: serde_json::Value = serde_json::from_str(page.body())?;
            assert_eq!(
                (page.status, json["health"].as_str()),
                (200, Some("true")),
                "{path}"
            );
        }
        for path in [
            "/livez",
            "/livez/serializable_read",
            "/readyz",
            "/readyz?exclude=data_corruption",
        ] {
            let page = http::request("GET", &endpoint, path).await?;
            assert_eq!((page.status, page.body().trim()), (200, "ok"), "{path}");
        }
        let verbose = http::request("GET", &endpoint, "/readyz?verbose").await?;
        for check in ["serializable_read", "linearizable_read", "non_learner"] {
            assert!(
                verbose.body().contains(&format!("[+]{check} ok")),
                "{}",
                verbose.body()
            );
            let page = http::request("GET", &endpoint, &format!("/readyz/{check}")).await?;
            assert_eq!(page.status, 200, "{check}");
        }
    }
    Ok(())
}

async fn health_pages_answer_get_only(cluster: &mut Cluster) -> Claim {
    for path in ["/health", "/livez", "/readyz"] {
        assert_eq!(
            http::request("POST", &cluster.endpoint(0), path)
                .await?
                .status,
            405,
            "{path}"
        );
    }
    Ok(())
}

async fn an_unknown_page_is_not_found(cluster: &mut Cluster) -> Claim {
    for path in ["/", "/nope", "/readyz/nope"] {
        assert_eq!(
            http::request("GET", &cluster.endpoint(0), path)
                .await?
                .status,
            404,
            "{path}"
        );
    }
    Ok(())
}

async fn metrics_carry_the_names_that_dashboards_use(cluster: &mut Cluster) -> Claim {
    cluster.client_of(0)?.put(put("a", "1")).await?;
    let page = http::request("GET", &cluster.endpoint(0), "/metrics").await?;
    assert_eq!(page.status, 200);
    for name in [
        "etcd_server_has_leader 1",
        "etcd_server_is_leader",
        "etcd_server_leader_changes_seen_total",
        "etcd_server_proposals_committed_total",
        "etcd_server_proposals_applied_total",
        "etcd_server_proposals_pending",
        "etcd_server_proposals_failed_total",
        "etcd_server_quota_backend_bytes",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_disk_wal_fsync_duration_seconds_bucket",
        "grpc_server_handled_total{",
        "process_resident_memory_bytes",
    ] {
        assert!(
            page.text.contains(&format!("\n{name}")),
            "no {name} in\n{}",
            page.text
        );
    }
    Ok(())
}

async fn grpc_health_says_serving(cluster: &mut Cluster) -> Claim {
    // grpc.health.v1.Health/Check of the service "": an empty request; the answer is `status: SERVING`.
    let mut grpc = tonic::client::Grpc::new(cluster.client_of(0)?.channel());
    grpc.ready().await?;
    let path = PathAndQuery::from_static("/grpc.health.v1.Health/Check");
    let codec = tonic_prost::ProstCodec::<pb::StatusRequest, HealthAnswer>::default();
    let answer = grpc
        .unary(Request::new(pb::StatusRequest {}), path, codec)
        .await?;
    assert_eq!(answer.into_inner().status, 1);
    Ok(())
}

/// `grpc.health.v1.HealthCheckResponse`.
#[derive(Clone, PartialEq, prost::Message)]
struct HealthAnswer {
    #[prost(int32, tag = "1")]
    status: i32,
}

async fn what_is_not_there_yet_is_refused_by_name(cluster: &mut Cluster) -> Claim {
    if process::oracle().is_some() {
        return Ok(()); // etcd has these.
    }
    let client = cluster.client_of(0)?;
    let enable = pb::DowngradeRequest {
        action: DowngradeAction::Enable.into(),
        version: "3.6".into(),
    };
    let (code, why) = refused(client.downgrade(enable).await);
    assert_eq!(code, Code::Unimplemented, "{why}");
    Ok(())
}

async fn leadership_moves_to_the_member_that_is_named(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    client.put(put("a", "1")).await?;
    for _ in 0..3 {
        let leader = cluster.leader().await?;
        let target = (leader + 1) % cluster.len();
        let target_id = member_id(cluster, target).await?;
        // Refused while the leader has not yet heard from the target, such as just after another move.
        eventually("the named member leads", || async {
            let found = cluster.leader().await?;
            if found != target {
                let ask = pb::MoveLeaderRequest { target_id };
                cluster.client_of(found)?.move_leader(ask).await?;
            }
            let found = cluster.leader().await?;
            anyhow::ensure!(found == target, "member {found} leads, not {target}");
            Ok(())
        })
        .await?;
    }
    assert_eq!(client.get("a").await?, Some("1".into()));
    Ok(())
}

async fn member_id(cluster: &Cluster, index: usize) -> anyhow::Result<u64> {
    let header = cluster.client_of(index)?.status().await?.header;
    Ok(header.expect("every answer has a header").member_id)
}

async fn only_the_leader_moves_leadership(cluster: &mut Cluster) -> Claim {
    let leader = cluster.leader().await?;
    let follower = cluster.follower().await?;
    let target_id = member_id(cluster, follower).await?;
    let answer = cluster
        .client_of(follower)?
        .move_leader(pb::MoveLeaderRequest { target_id })
        .await;
    assert_eq!(
        refused(answer),
        (Code::FailedPrecondition, "etcdserver: not leader".into())
    );
    let answer = cluster
        .client_of(leader)?
        .move_leader(pb::MoveLeaderRequest { target_id: 12345 })
        .await;
    assert_eq!(
        refused(answer),
        (
            Code::FailedPrecondition,
            "etcdserver: bad leader transferee".into()
        )
    );
    Ok(())
}

async fn readiness_needs_a_quorum(cluster: &mut Cluster) -> Claim {
    cluster.kill(0).await?;
    cluster.kill(1).await?;
    let endpoint = cluster.endpoint(2);
    eventually("a member without quorum is not ready", || async {
        let ready = http::request("GET", &endpoint, "/readyz").await?;
        anyhow::ensure!(ready.status == 503, "/readyz says {}", ready.status);
        let health = http::request("GET", &endpoint, "/health").await?;
        anyhow::ensure!(health.status == 503, "/health says {}", health.status);
        Ok(())
    })
    .await?;
    // It lives, though: nobody may restart it for what others lack.
    assert_eq!(http::request("GET", &endpoint, "/livez").await?.status, 200);
    let serializable = pb::RangeRequest {
        serializable: true,
        ..range("a")
    };
    cluster.client_of(2)?.range(serializable).await?;
    cluster.restart(1).await?;
    eventually("it is ready again with a quorum", || async {
        let ready = http::request("GET", &endpoint, "/readyz").await?;
        anyhow::ensure!(
            ready.status == 200,
            "/readyz says {}: {}",
            ready.status,
            ready.body()
        );
        Ok(())
    })
    .await?;
    Ok(())
}
