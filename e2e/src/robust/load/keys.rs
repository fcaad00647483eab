//! Puts with unique values, gets, swaps and deletes of a few keys that everyone shares.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Result;
use rand::RngExt;
use rand::rngs::StdRng;

use super::{Common, Output};
use crate::history::{Reply, Request};

/// Few, so that clients meet; not so few that the search for an order gets long.
const KEYS: usize = 8;
/// A member that cannot serve refuses at once: give it, and the others, a moment.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(20);

/// Only reads, at one member: whether what it answers is current is clearest from a client that has nobody else to ask.
pub(super) async fn read(common: Common, number: usize, mut rng: StdRng) -> Result<Output> {
    let client = common.pinned(number)?;
    let mut recorder = common.history.recorder(number, client);
    while !common.stops() {
        let request = Request::Get {
            key: format!("k/{}", rng.random_range(0..KEYS)),
            is_serializable: false,
        };
        match recorder.call(request).await {
            Ok((revision, _)) => common.saw(revision),
            Err(_) => tokio::time::sleep(PAUSE_AFTER_FAILURE).await,
        }
        common.rest(&mut rng).await;
    }
    Ok(Output::Nothing)
}

pub(super) async fn work(common: Common, number: usize, mut rng: StdRng) -> Result<Output> {
    let client = common.roaming(number)?;
    let mut recorder = common.history.recorder(number, client);
    let mut known: HashMap<String, i64> = HashMap::new();
    for call in 0.. {
        if common.stops() {
            break;
        }
        let key = format!("k/{}", rng.random_range(0..KEYS));
        let value = format!("{number}.{call}");
        let request = match rng.random_range(0..100) {
            0..40 => Request::Put { key, value },
            40..65 => Request::Get {
                key,
                is_serializable: false,
            },
            65..75 => Request::Get {
                key,
                is_serializable: true,
            },
            75..90 => Request::Swap {
                expected: known.get(&key).copied().unwrap_or(0),
                key,
                value,
            },
            _ => Request::Delete { key },
        };
        let key = request.key().to_owned();
        match recorder.call(request).await {
            Ok((revision, reply)) => {
                common.saw(revision);
                if matches!(reply, Reply::Put | Reply::Swapped | Reply::Deleted(true)) {
                    common.written.fetch_add(1, Ordering::Relaxed);
                }
                match reply {
                    Reply::Found(found) | Reply::NotSwapped(found) => {
                        known.insert(key, found.map_or(0, |version| version.mod_revision));
                    }
                    Reply::Put | Reply::Swapped => {
                        known.insert(key, revision);
                    }
                    Reply::Deleted(_) => {
                        known.insert(key, 0);
                    }
                }
            }
            Err(_) => tokio::time::sleep(PAUSE_AFTER_FAILURE).await,
        }
        common.rest(&mut rng).await;
    }
    Ok(Output::Nothing)
}

impl Common {
    async fn rest(&self, rng: &mut StdRng) {
        let pause = rng.random_range(0..=self.profile.pause_max.as_millis() as u64);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}
