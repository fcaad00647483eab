//! Replaces members: adds one on a spare machine, as a learner that is promoted or as a voter that does not run yet, removes
//! another member and wipes its disk.

use std::time::Duration;

use coord_e2e::clients::etcd::Client;
use coord_proto::etcd::etcdserverpb as pb;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Seat, Wish, lock, pause};
use crate::member::peer_url;
use crate::network::HostId;

const AGAIN: Duration = Duration::from_millis(700);

pub(super) async fn run(seat: Seat, spares: Vec<HostId>, mut random: StdRng) {
    let client = seat.client(0);
    let mut spares = spares;
    while !seat.observed.is_quiet() {
        pause(&mut random, Duration::from_secs(12)).await;
        if seat.observed.is_quiet() {
            break;
        }
        // From here on it goes to the end, so that no learner is left over.
        lock(&seat.observed.membership).is_changing = true;
        let joins = spares.remove(random.random_range(0..spares.len()));
        let as_learner = random.random_bool(0.5);
        let id = add(&client, joins, as_learner).await;
        if !as_learner {
            // It may be a while until it runs: the others must not need it.
            pause(&mut random, Duration::from_secs(3)).await;
        }
        seat.wish(Wish::Join(joins));
        until_done(|| async {
            let request = pb::MemberPromoteRequest { id };
            match client.member_promote(request).await {
                Ok(_) => true,
                Err(status) => {
                    tracing::info!(id = format!("{id:016x}"), %status, "not promoted");
                    is_voter(&client, id).await
                }
            }
        })
        .await;
        let members = lock(&seat.observed.membership).members.clone();
        let leaves = members[random.random_range(0..members.len())];
        remove(&client, leaves).await;
        seat.wish(Wish::Leave(leaves));
        spares.push(leaves);
        let mut membership = lock(&seat.observed.membership);
        membership.members.retain(|member| *member != leaves);
        membership.members.push(joins);
        membership.is_changing = false;
    }
}

async fn until_done<F: Future<Output = bool>>(done: impl Fn() -> F) {
    while !done().await {
        tokio::time::sleep(AGAIN).await;
    }
}

/// The members, once somebody says.
async fn members(client: &Client) -> Vec<pb::Member> {
    loop {
        if let Ok(members) = client.members().await {
            return members;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn id_of(client: &Client, host: HostId) -> Option<u64> {
    let url = peer_url(host);
    let members = members(client).await;
    let found = members
        .iter()
        .find(|member| member.peer_ur_ls.contains(&url));
    found.map(|member| member.id)
}

async fn is_voter(client: &Client, id: u64) -> bool {
    let members = members(client).await;
    members
        .iter()
        .any(|member| member.id == id && !member.is_learner)
}

async fn add(client: &Client, host: HostId, is_learner: bool) -> u64 {
    loop {
        // The answer does not matter: the list tells whether it was done.
        let request = pb::MemberAddRequest {
            peer_ur_ls: vec![peer_url(host)],
            is_learner,
        };
        if let Err(status) = client.member_add(request).await {
            tracing::info!(?host, %status, "not added");
        }
        if let Some(id) = id_of(client, host).await {
            return id;
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn remove(client: &Client, host: HostId) {
    while let Some(id) = id_of(client, host).await {
        // As above.
        if let Err(status) = client.member_remove(pb::MemberRemoveRequest { id }).await {
            tracing::info!(id = format!("{id:016x}"), %status, "not removed");
        }
        tokio::time::sleep(AGAIN).await;
    }
}
