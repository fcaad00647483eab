//! The end of a run: a last look at every member, and what the checkers say of all that clients saw.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use coord_e2e::check::{lease, linear, revisions, watch};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{put, range_to};
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb::KeyValue;
use coord_server::network::Simulated;

use crate::clients::{Observed, single};

/// Longer than any lease lives that nobody renews, with an election and the work.
const LEASES_END: Duration = Duration::from_secs(20);
const AGAIN: Duration = Duration::from_millis(500);
/// How far the watcher of everything may be behind at the end.
const LOG_MAX: Duration = Duration::from_secs(30);

#[derive(Default)]
struct Look {
    /// What is waited for.
    stuck: String,
    /// Of each member: the revision and all keys.
    stores: Vec<(i64, Vec<KeyValue>)>,
    is_there: bool,
}

/// The last look at the cluster. Clones share it.
#[derive(Clone, Default)]
pub struct Last(Arc<Mutex<Look>>);

impl Last {
    fn lock(&self) -> MutexGuard<'_, Look> {
        self.0
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// Whether it was had.
    pub fn is_there(&self) -> bool {
        self.lock().is_there
    }

    /// What it waits for.
    pub fn stuck(&self) -> String {
        self.lock().stuck.clone()
    }
}

/// Waits until every member serves writes and reads, and leases have ended; then reads all of each.
pub async fn look(network: Arc<dyn Simulated>, observed: Observed, last: Last) {
    while observed.is_changing() {
        last.lock().stuck = "a member is being replaced".to_owned();
        tokio::time::sleep(AGAIN).await;
    }
    let members = observed
        .membership
        .lock()
        .expect("no one panicked")
        .members
        .clone();
    let clients: Vec<Client> = members
        .iter()
        .map(|member| single(network.clone(), *member))
        .collect();
    for (number, client) in clients.iter().enumerate() {
        let key = format!("last/{number}");
        let mut attempt = 0;
        loop {
            attempt += 1;
            match client.put(put(&key, &format!("{attempt}"))).await {
                Ok(_) => break,
                Err(status) => {
                    last.lock().stuck = format!("a put on m{}: {status}", number + 1);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
    tokio::time::sleep(LEASES_END).await;
    for (number, client) in clients.iter().enumerate() {
        let request = pb::RangeRequest {
            ..range_to("\0", "\0")
        };
        loop {
            match client.range(request.clone()).await {
                Ok(answer) => {
                    let revision = answer.header.map_or(0, |header| header.revision);
                    last.lock().stores.push((revision, answer.kvs));
                    break;
                }
                Err(status) => {
                    last.lock().stuck = format!("a read on m{}: {status}", number + 1);
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
    // The watcher of everything may have its last event to come.
    tokio::time::sleep(LOG_MAX).await;
    last.lock().is_there = true;
}

/// Judges a run. Says how many calls were answered.
///
/// Errors: the first promise that was broken.
pub fn judge(observed: &Observed, last: &Last) -> Result<usize> {
    let clean = |mutex: &Mutex<Vec<String>>| mutex.lock().expect("no one panicked").clone();
    if let Some(wrong) = clean(&observed.wrong).first() {
        bail!("{wrong}");
    }
    let look = last.lock();
    let Some((revision, keys)) = look.stores.first() else {
        bail!("nobody could be asked at the end");
    };
    for (number, (other, found)) in look.stores.iter().enumerate() {
        ensure!(
            (other, found) == (revision, keys),
            "m{} has revision {other} and {} keys, m1 has {revision} and {}",
            number + 1,
            found.len(),
            keys.len()
        );
    }
    let held = keys.iter().find(|kv| kv.key.starts_with(b"lease/"));
    ensure!(
        held.is_none(),
        "a key outlived its lease, which nobody renews: {held:?}"
    );
    let log = observed.log.lock().expect("no one panicked");
    let through = log.last().and_then(|event| event.kv.as_ref());
    let through = through.map_or(0, |kv| kv.mod_revision);
    ensure!(
        through == *revision,
        "the watcher of everything has seen up to revision {through}, the store is at {revision}"
    );
    let history = observed.history.calls();
    linear::check(&history).context("linearizability")?;
    let of_registers: Vec<_> = log
        .iter()
        .filter(|event| {
            let kv = event.kv.as_ref();
            kv.is_some_and(|kv| kv.key.starts_with(b"k/"))
        })
        .cloned()
        .collect();
    revisions::check(&history, &of_registers, *revision).context("revisions")?;
    for seen in observed.seen.lock().expect("no one panicked").iter() {
        watch::check(seen, &log).with_context(|| format!("a watcher of {:?}", seen.request))?;
    }
    for life in observed.lives.lock().expect("no one panicked").iter() {
        // How long a lease may live without a quorum has no bound: that none is left was checked above.
        lease::check(life, Duration::from_secs(3600), &[]).context("leases")?;
    }
    let answered = history
        .iter()
        .filter(|call| matches!(call.outcome, coord_e2e::history::Outcome::Done { .. }));
    Ok(answered.count())
}
