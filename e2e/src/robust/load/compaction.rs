//! Compacts all the time, to a little below the newest revision.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use coord_proto::etcd::etcdserverpb as pb;
use tokio::time::sleep;

use super::{Common, Output};

/// Revisions kept: a watcher that is a few seconds behind loses nothing, one that begins in the past may.
const KEPT: i64 = 400;
const COMPACT_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn keep_few(common: Common) -> Result<Output> {
    let client = common.roaming(0)?;
    while !common.stops() {
        let revision = common.revision.load(Ordering::Relaxed) - KEPT;
        if revision > 1 {
            let request = pb::CompactionRequest {
                revision,
                physical: false,
            };
            // One without an answer, or one that is compacted already, is followed by the next.
            let _ =
                tokio::time::timeout(Duration::from_secs(3), client.compact_with(request)).await;
        }
        sleep(COMPACT_EVERY).await;
    }
    Ok(Output::Nothing)
}
