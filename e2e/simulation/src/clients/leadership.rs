//! Moves leadership by hand now and then.

use std::time::Duration;

use coord_proto::etcd::etcdserverpb as pb;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Seat, pause};

pub(super) async fn run(seat: Seat, mut random: StdRng) {
    let clients: Vec<_> = (0..seat.members.len())
        .map(|member| seat.client(member))
        .collect();
    while !seat.observed.is_quiet() {
        pause(&mut random, Duration::from_secs(8)).await;
        for client in &clients {
            let Ok(status) = client.status().await else {
                continue;
            };
            let own = status.header.map_or(0, |header| header.member_id);
            if own != status.leader {
                continue;
            }
            let Ok(members) = client.members().await else {
                break;
            };
            let target = &members[random.random_range(0..members.len())];
            let request = pb::MoveLeaderRequest {
                target_id: target.id,
            };
            // Whether it moves is the cluster's affair.
            let _ = client.move_leader(request).await;
            break;
        }
    }
}
