//! One million keys: filled, restarted, and sent away as a snapshot while puts go on.

use std::time::{Duration, Instant};

use anyhow::Result;
use coord_proto::etcd::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use prost::Message;

use super::{Effort, Row, kv};
use crate::cluster::Cluster;
use crate::data;
use crate::gauge::{Usage, disk_bytes};
use crate::load::{drive, megabytes};
use crate::reading::{Metric, Reading};
use crate::wire::{CallError, Connection, Rpc};

/// Acknowledged rows may still be on their way to their place, and those they replaced may go later.
const SETTLE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(120);
/// gRPC's code for a call that a server does not have.
const UNIMPLEMENTED: u32 = 12;

/// Fills the cluster and measures it.
pub(super) async fn measure(row: &Row, cluster: &mut Cluster, effort: &Effort) -> Result<Reading> {
    data::fill(&cluster.connections(8).await?, effort.million, 16).await?;
    tokio::time::sleep(SETTLE).await;
    // Tables that are being merged are there twice for a moment.
    cluster.rest().await?;
    let filled = Usage::of(cluster.members[0].pid()?)?;
    let disk = disk_bytes(&cluster.members[0].data_dir)?;

    cluster.members[0].stop().await?;
    let started = Instant::now();
    cluster.members[0].spawn()?;
    cluster.members[0].ready(PATIENCE).await?;
    let start = started.elapsed();

    let mut reading = Reading {
        figures: [
            (Metric::PeakMegabytes, megabytes(filled.resident_bytes_max)),
            (Metric::DiskMegabytes, megabytes(disk)),
            (Metric::StartSeconds, start.as_secs_f64()),
        ]
        .into(),
        ..Reading::default()
    };
    snapshots(row, cluster, effort, &mut reading).await?;
    Ok(reading)
}

/// How long a snapshot takes, and what it does to puts meanwhile.
async fn snapshots(
    row: &Row,
    cluster: &Cluster,
    effort: &Effort,
    reading: &mut Reading,
) -> Result<()> {
    let connections = cluster.connections(8).await?;
    let started = Instant::now();
    match take_snapshot(&connections[0]).await {
        Err(error) if is_unimplemented(&error) => {
            reading.remark = Some("no Maintenance.Snapshot yet, so it is not measured".to_owned());
            return Ok(());
        }
        taken => taken?,
    }
    let snapshot = started.elapsed();
    let puts = || kv::puts(&connections, row.clients);
    let quiet = drive(cluster, puts(), 1, effort.seconds).await?;
    let endless = tokio::spawn(take_snapshots(connections[0].clone()));
    let busy = drive(cluster, puts(), 1, effort.seconds).await?;
    anyhow::ensure!(!endless.is_finished(), "a snapshot failed under load");
    endless.abort();

    let figures = &mut reading.figures;
    figures.insert(Metric::SnapshotSeconds, snapshot.as_secs_f64());
    let p99 = Metric::P99Millis;
    if let (Some(before), Some(during)) = (quiet.figures.get(&p99), busy.figures.get(&p99)) {
        figures.insert(Metric::SnapshotSlowdown, during / before);
    }
    reading.noise = quiet.noise;
    reading.errors = quiet.errors + busy.errors;
    reading.first_error = quiet.first_error.or(busy.first_error);
    Ok(())
}

fn is_unimplemented(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref::<CallError>(),
        Some(CallError::Status {
            code: UNIMPLEMENTED,
            ..
        })
    )
}

/// One after another until it is aborted.
async fn take_snapshots(connection: Connection) -> Result<()> {
    loop {
        take_snapshot(&connection).await?;
    }
}

/// Receives a whole snapshot and throws it away.
async fn take_snapshot(connection: &Connection) -> Result<()> {
    let (outgoing, mut incoming) = connection
        .stream(Rpc::Snapshot, &SnapshotRequest {}, true)
        .await?;
    let mut bytes = 0;
    let mut remaining = 0;
    while let Some(message) = incoming.next().await? {
        let part = SnapshotResponse::decode(message)?;
        bytes += part.blob.len();
        remaining = part.remaining_bytes;
    }
    drop(outgoing);
    anyhow::ensure!(
        bytes > 0 && remaining == 0,
        "the snapshot ended early: {bytes} bytes, {remaining} more announced"
    );
    Ok(())
}
