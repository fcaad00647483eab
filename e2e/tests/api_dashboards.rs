//! The metrics that etcd's published dashboard and alert rules ask for: every name is there on a cluster of three, with the
//! labels that the rules group and match by.
//!
//! The list was read from etcd's `contrib/mixin` (main, autumn 2025): names and labels, none of its text.

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::request::put;
use coord_e2e::clients::http;
use coord_e2e::cluster::claims;
use coord_e2e::cluster::{Cluster, Kind, eventually};

/// Name, and labels that must be there.
const ASKED: &[(&str, &[&str])] = &[
    // Dashboard.
    ("etcd_server_has_leader", &[]),
    ("grpc_server_started_total", &["grpc_type=\"unary\""]),
    (
        "grpc_server_started_total",
        &[
            "grpc_service=\"etcdserverpb.Watch\"",
            "grpc_type=\"bidi_stream\"",
        ],
    ),
    (
        "grpc_server_started_total",
        &[
            "grpc_service=\"etcdserverpb.Lease\"",
            "grpc_type=\"bidi_stream\"",
        ],
    ),
    (
        "grpc_server_handled_total",
        &["grpc_type=\"unary\"", "grpc_code=\"OK\""],
    ),
    (
        "grpc_server_handled_total",
        &[
            "grpc_service=\"etcdserverpb.Watch\"",
            "grpc_type=\"bidi_stream\"",
        ],
    ),
    ("etcd_mvcc_db_total_size_in_bytes", &[]),
    ("etcd_disk_wal_fsync_duration_seconds_bucket", &["le="]),
    ("etcd_disk_backend_commit_duration_seconds_bucket", &["le="]),
    ("process_resident_memory_bytes", &[]),
    ("etcd_network_client_grpc_received_bytes_total", &[]),
    ("etcd_network_client_grpc_sent_bytes_total", &[]),
    ("etcd_network_peer_received_bytes_total", &["From="]),
    ("etcd_network_peer_sent_bytes_total", &["To="]),
    ("etcd_server_leader_changes_seen_total", &[]),
    (
        "etcd_network_peer_round_trip_time_seconds_bucket",
        &["To=", "le="],
    ),
    ("etcd_server_proposals_failed_total", &[]),
    ("etcd_server_proposals_pending", &[]),
    ("etcd_server_proposals_committed_total", &[]),
    ("etcd_server_proposals_applied_total", &[]),
    // Alerts.
    ("etcd_network_peer_sent_failures_total", &["To="]),
    (
        "grpc_server_handling_seconds_bucket",
        &[
            "grpc_method=",
            "grpc_service=",
            "grpc_type=\"unary\"",
            "le=",
        ],
    ),
    ("etcd_server_quota_backend_bytes", &[]),
    ("etcd_mvcc_db_total_size_in_use_in_bytes", &[]),
];

/// The value of the first sample of that name with these labels, if there is one.
fn sample(page: &str, name: &str, labels: &[&str]) -> Option<f64> {
    let mut lines = page.lines();
    let found = lines.find(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with([' ', '{']))
            && labels.iter().all(|label| line.contains(label))
    });
    found?.rsplit(' ').next()?.parse().ok()
}

async fn page(cluster: &Cluster, index: usize) -> Result<String> {
    let page = http::request("GET", &cluster.endpoint(index), "/metrics").await?;
    ensure!(page.status == 200, "{page:?}");
    Ok(page.whole_body())
}

#[test]
fn every_metric_that_etcds_dashboard_and_alerts_ask_for_is_there() {
    claims::run(async {
        // As in etcd, the time of calls is measured only then.
        let flags = [("metrics", "extensive")];
        let cluster = Cluster::start_with(Kind::Processes(3), &flags).await?;
        let leader = cluster.leader().await?;
        let client = cluster.client_of(leader)?;
        client.put(put("a", "1")).await?;
        eventually("all are there", || async {
            let page = page(&cluster, leader).await?;
            let missing = ASKED
                .iter()
                .filter(|(name, labels)| sample(&page, name, labels).is_none());
            let missing = Vec::from_iter(missing);
            ensure!(missing.is_empty(), "{missing:?} are missing in\n{page}");
            Ok(())
        })
        .await
        .map_err(Into::into)
    });
}

#[test]
fn traffic_between_members_is_counted_and_failures_are_told_by_member() {
    claims::run(async { Ok(traffic().await?) });
}

async fn traffic() -> Result<()> {
    let mut cluster = Cluster::start_with(Kind::Processes(3), &[]).await?;
    let leader = cluster.leader().await?;
    let client = cluster.client_of(leader)?;
    let mut ids = Vec::new();
    for index in 0..3 {
        let header = cluster.client_of(index)?.status().await?.header;
        ids.push(format!("{:x}", header.context("a header")?.member_id));
    }
    let lost = (leader + 1) % 3;
    let (from, to) = (
        format!("From=\"{}\"", ids[leader]),
        format!("To=\"{}\"", ids[lost]),
    );
    let sent = |page: &str| sample(page, "etcd_network_peer_sent_bytes_total", &[&to]);
    let before = sent(&page(&cluster, leader).await?).context("something was sent")?;
    client.put(put("large", &"v".repeat(1_000_000))).await?;
    eventually("what was sent has arrived", || async {
        let now = sent(&page(&cluster, leader).await?).context("sent")?;
        ensure!(now >= before + 1_000_000.0, "{now} after {before}");
        let page = page(&cluster, lost).await?;
        let received = sample(&page, "etcd_network_peer_received_bytes_total", &[&from]);
        ensure!(
            received.is_some_and(|bytes| bytes >= 1_000_000.0),
            "{received:?}"
        );
        Ok(())
    })
    .await?;
    let counted = sample(
        &page(&cluster, leader).await?,
        "etcd_network_peer_round_trip_time_seconds_count",
        &[&to],
    );
    ensure!(counted.is_some_and(|count| count > 0.0), "{counted:?}");
    let failures = |page: &str| sample(page, "etcd_network_peer_sent_failures_total", &[&to]);
    let before = failures(&page(&cluster, leader).await?).context("it is there")?;
    cluster.kill(lost).await?;
    eventually("calls to a member that is gone fail", || async {
        let now = failures(&page(&cluster, leader).await?).context("failures")?;
        ensure!(now > before + 2.0, "{now} after {before}");
        Ok(())
    })
    .await?;
    Ok(())
}
