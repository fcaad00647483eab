//! Leases that are granted, given two keys, renewed for a while, and then revoked or left alone; and somebody who looks
//! whether the keys are there.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use coord_proto::etcd::etcdserverpb as pb;
use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::{Instant, sleep, timeout};

use super::super::record::Tenancy;
use super::{Common, Output};
use crate::check::lease::{Life, Read, Renewal};
use crate::clients::etcd::Client;
use crate::clients::etcd::request::{op, put, range, txn};
use crate::history::Request;

const TTL_SECONDS: i64 = 3;
/// A renewal without an answer is given up and sent again on another stream, as client libraries do.
const RENEWAL_MAX: Duration = Duration::from_secs(1);
const RENEW_EVERY: Duration = Duration::from_millis(400);
const LOOK_EVERY: Duration = Duration::from_millis(150);
const CALL_MAX: Duration = Duration::from_secs(3);
/// How long an abandoned lease's keys are looked at: longer than any fault is held.
const LOOK_MAX: Duration = Duration::from_secs(25);

/// Holds one lease after the other, on one member.
pub(super) async fn hold(common: Common, member: usize, mut rng: StdRng) -> Result<Output> {
    let holder = common.pinned(member)?;
    let onlooker = common.roaming(member + 1)?;
    let mut tenancies = Vec::new();
    for number in 0.. {
        if common.stops() {
            break;
        }
        let keys = ["a", "b"].map(|name| format!("l/{member}/{number}/{name}"));
        let held = Duration::from_millis(rng.random_range(1_000..12_000));
        let revokes = rng.random_bool(0.3);
        match begin(&common, &holder, member, &keys).await {
            Some(life) => {
                let life = Mutex::new(life);
                let ended = Mutex::new(false);
                let held = keep(&common, &holder, &life, &ended, held, revokes);
                let seen = look(&common, &onlooker, &life, &ended, (member, &keys[0]));
                futures::future::join(held, seen).await;
                let life = life.into_inner().unwrap_or_else(PoisonError::into_inner);
                tenancies.push(Tenancy {
                    life,
                    keys: keys.to_vec(),
                });
            }
            None => sleep(RENEW_EVERY).await,
        }
    }
    Ok(Output::Tenancies(tenancies))
}

/// A lease with its keys; nothing if one of the two calls has no answer.
async fn begin(common: &Common, client: &Client, member: usize, keys: &[String]) -> Option<Life> {
    let began = common.history.now();
    let request = pb::LeaseGrantRequest {
        ttl: TTL_SECONDS,
        id: 0,
    };
    let granted = timeout(CALL_MAX, client.lease_grant(request)).await;
    let granted = granted.ok()?.ok()?;
    let renewal = Renewal {
        began,
        ended: Some(common.history.now()),
    };
    let puts: Vec<_> = keys
        .iter()
        .map(|key| {
            op(pb::PutRequest {
                lease: granted.id,
                ..put(key, &value(key, granted.id))
            })
        })
        .collect();
    let sent = common.history.now();
    let attached = timeout(CALL_MAX, client.txn(txn([], puts, []))).await;
    let attached = attached.ok().and_then(Result::ok);
    let revision = attached.as_ref().and_then(|answer| answer.header.as_ref());
    let revision = revision.map(|header| header.revision);
    for key in keys {
        let write = Request::Put {
            key: key.clone(),
            value: value(key, granted.id),
        };
        common.held.held(member, sent, write, revision);
    }
    attached?;
    Some(Life {
        id: granted.id,
        ttl: Duration::from_secs(u64::try_from(granted.ttl).ok()?),
        renewals: vec![renewal],
        attached: common.history.now(),
        revoked: None,
        reads: Vec::new(),
    })
}

/// Unique, like every value of a run.
fn value(key: &str, lease: i64) -> String {
    format!("{key} of {lease}")
}

fn with<T>(life: &Mutex<Life>, change: impl FnOnce(&mut Life) -> T) -> T {
    change(&mut life.lock().unwrap_or_else(PoisonError::into_inner))
}

fn is_set(flag: &Mutex<bool>) -> bool {
    *flag.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Renews for a while, then revokes or forgets.
async fn keep(
    common: &Common,
    client: &Client,
    life: &Mutex<Life>,
    ended: &Mutex<bool>,
    held: Duration,
    revokes: bool,
) {
    let id = with(life, |life| life.id);
    let until = Instant::now() + held;
    let mut stream = client.keep_alive();
    while Instant::now() < until && !common.stops() && !is_set(ended) {
        let began = common.history.now();
        let answer = timeout(RENEWAL_MAX, stream.renew(id)).await;
        let answered = common.history.now();
        let renewal = match answer {
            // There is no such lease any more: not a renewal, and no promise.
            Ok(Ok(answer)) if answer.ttl <= 0 => return,
            Ok(Ok(_)) => Renewal {
                began,
                ended: Some(answered),
            },
            Ok(Err(_)) | Err(_) => {
                stream = client.keep_alive();
                Renewal { began, ended: None }
            }
        };
        with(life, |life| life.renewals.push(renewal));
        sleep(RENEW_EVERY).await;
    }
    if revokes {
        with(life, |life| life.revoked = Some(common.history.now()));
        // Revoked or not, from now on it may be gone.
        let _ = timeout(CALL_MAX, client.lease_revoke(pb::LeaseRevokeRequest { id })).await;
    }
}

/// Looks at a key until it is gone.
async fn look(
    common: &Common,
    client: &Client,
    life: &Mutex<Life>,
    ended: &Mutex<bool>,
    (member, key): (usize, &str),
) {
    let until = Instant::now() + LOOK_MAX;
    while Instant::now() < until && !common.stops() {
        let began = common.history.now();
        if let Ok(Ok(answer)) = timeout(CALL_MAX, client.range(range(key))).await {
            common.held.found(member, began, key, &answer);
            let is_there = !answer.kvs.is_empty();
            let read = Read {
                began,
                ended: common.history.now(),
                is_there,
            };
            with(life, |life| life.reads.push(read));
            if !is_there {
                break;
            }
        }
        sleep(LOOK_EVERY).await;
    }
    *ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
}
