//! Clients that hold a lease with a key, renew it for a while, and then watch it end.

use std::time::Duration;

use coord_e2e::check::lease::{Life, Read, Renewal};
use coord_e2e::clients::etcd::request::{put, range};
use coord_e2e::clients::etcd::{Client, KeepAlive};
use coord_e2e::history::Request;
use coord_proto::etcd::etcdserverpb as pb;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Seat, lock, pause};

/// A client that waits longer for the end has seen enough; whether it came at all is judged at the end of the run.
const WATCH_MAX: Duration = Duration::from_secs(30);

/// A put that takes longer is given up.
const PUT_MAX: Duration = Duration::from_secs(5);
/// Before a lease may end.
const SHORTLY: Duration = Duration::from_millis(20);
const AGAIN: Duration = Duration::from_millis(700);

pub(super) async fn run(seat: Seat, number: usize, mut random: StdRng) {
    let mut turn = 0;
    while !seat.observed.is_quiet() {
        turn += 1;
        let key = format!("lease/{number}/{turn}");
        let client = seat.client(random.random_range(0..seat.members.len()));
        let mut life = Life::default();
        let place = (number, key.as_str());
        hold(&seat, &client, place, &mut life, &mut random).await;
        if life.id != 0 {
            lock(&seat.observed.lives).push(life);
        }
        pause(&mut random, Duration::from_millis(500)).await;
    }
}

async fn hold(
    seat: &Seat,
    client: &Client,
    place: (usize, &str),
    life: &mut Life,
    random: &mut StdRng,
) {
    let (number, key) = place;
    let history = &seat.observed.history;
    let ttl = random.random_range(2..8);
    let began = history.now();
    let grant = pb::LeaseGrantRequest { ttl, id: 0 };
    let Ok(granted) = client.lease_grant(grant).await else {
        return;
    };
    life.id = granted.id;
    life.ttl = Duration::from_secs(granted.ttl.max(0).unsigned_abs());
    life.renewals.push(Renewal {
        began,
        ended: Some(history.now()),
    });
    let value = format!("held by {}", life.id);
    let request = pb::PutRequest {
        lease: life.id,
        ..put(key, &value)
    };
    let began = history.now();
    let answer = tokio::time::timeout(PUT_MAX, client.put(request)).await;
    let answer = answer.ok().and_then(Result::ok);
    let revision = answer.as_ref().and_then(|answer| answer.header.as_ref());
    let revision = revision.map(|header| header.revision);
    let write = Request::Put {
        key: key.to_owned(),
        value,
    };
    seat.observed.held.held(number, began, write, revision);
    if answer.is_none() {
        // Nobody knows whether the key is there: nothing is promised.
        life.id = 0;
        return;
    }
    life.attached = history.now();
    let mut keep_alive = client.keep_alive();
    for _ in 0..random.random_range(0..6) {
        if seat.observed.is_quiet() {
            break;
        }
        tokio::time::sleep(life.ttl.mul_f64(random.random_range(0.1..0.6))).await;
        if !renew(seat, client, &mut keep_alive, life).await {
            break;
        }
        read(seat, client, place, life).await;
    }
    if random.random_bool(0.2) {
        life.revoked = Some(history.now());
        // Whether it was done the reads tell.
        let _ = client
            .lease_revoke(pb::LeaseRevokeRequest { id: life.id })
            .await;
    }
    // Where it must still be there for the last time, and then until it is gone.
    if let Some(promised) = promised(life) {
        let now = history.now();
        tokio::time::sleep((promised - SHORTLY).saturating_sub(now)).await;
        read(seat, client, place, life).await;
    }
    let until = history.now() + WATCH_MAX;
    while history.now() < until {
        if read(seat, client, place, life).await == Some(false) {
            return;
        }
        pause(random, AGAIN).await;
    }
}

/// Until when its last answered renewal promised it.
fn promised(life: &Life) -> Option<Duration> {
    let answered = life
        .renewals
        .iter()
        .filter(|renewal| renewal.ended.is_some());
    answered.map(|renewal| renewal.began + life.ttl).max()
}

/// Renews once. False if the lease is gone.
async fn renew(seat: &Seat, client: &Client, stream: &mut KeepAlive, life: &mut Life) -> bool {
    let history = &seat.observed.history;
    let began = history.now();
    let answer = tokio::time::timeout(life.ttl, stream.renew(life.id)).await;
    match answer {
        Ok(Ok(answer)) if answer.ttl <= 0 => false,
        Ok(Ok(_)) => {
            life.renewals.push(Renewal {
                began,
                ended: Some(history.now()),
            });
            true
        }
        _ => {
            life.renewals.push(Renewal { began, ended: None });
            *stream = client.keep_alive();
            true
        }
    }
}

/// Reads the key. Whether it is there, if that was answered.
async fn read(
    seat: &Seat,
    client: &Client,
    (number, key): (usize, &str),
    life: &mut Life,
) -> Option<bool> {
    let history = &seat.observed.history;
    let began = history.now();
    let answer = client.range(range(key)).await.ok()?;
    seat.observed.held.found(number, began, key, &answer);
    let is_there = !answer.kvs.is_empty();
    life.reads.push(Read {
        began,
        ended: history.now(),
        is_there,
    });
    Some(is_there)
}
