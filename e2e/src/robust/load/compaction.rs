//! Compacts all the time, to where the store was a few seconds ago.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use coord_proto::etcd::etcdserverpb as pb;
use tokio::time::{Instant, sleep, timeout};

use super::{Common, Output};

/// A watcher that is less behind loses nothing: longer than one takes to notice that its member is gone.
const KEPT: Duration = Duration::from_secs(4);
const COMPACT_EVERY: Duration = Duration::from_millis(250);
const ANSWER_MAX: Duration = Duration::from_secs(3);

pub(super) async fn keep_few(common: Common) -> Result<Output> {
    let client = common.roaming(0)?;
    let mut revisions = VecDeque::new();
    while !common.stops() {
        revisions.push_back((Instant::now(), common.revision.load(Ordering::Relaxed)));
        let mut old = 0;
        while let Some((_, revision)) = revisions.pop_front_if(|(at, _)| at.elapsed() > KEPT) {
            old = revision;
        }
        if old > common.compacted.load(Ordering::Relaxed) {
            let request = pb::CompactionRequest {
                revision: old,
                physical: false,
            };
            if let Ok(Ok(_)) = timeout(ANSWER_MAX, client.compact_with(request)).await {
                common.compacted.fetch_max(old, Ordering::Relaxed);
            }
        }
        sleep(COMPACT_EVERY).await;
    }
    Ok(Output::Nothing)
}
