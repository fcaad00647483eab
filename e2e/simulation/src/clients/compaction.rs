//! Compacts now and then, never beyond what the watcher of everything has seen.

use std::time::Duration;

use coord_proto::etcd::etcdserverpb as pb;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Seat, pause};

pub(super) async fn run(seat: Seat, mut random: StdRng) {
    let client = seat.client(0);
    while !seat.observed.is_quiet() {
        pause(&mut random, Duration::from_secs(5)).await;
        let through = seat.observed.log_through();
        let revision = through - random.random_range(0..20);
        if revision > 1 {
            let request = pb::CompactionRequest {
                revision,
                physical: random.random_bool(0.5),
            };
            seat.observed.compacts(revision);
            // Refused if an earlier one went further.
            let _ = client.compact_with(request).await;
        }
    }
}
