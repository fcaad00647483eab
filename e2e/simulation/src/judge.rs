//! The end of a run: a last look at every member, and what the checkers say of all that clients saw.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use coord_e2e::check::contents::Contents;
use coord_e2e::check::{contents, lease, linear, log, revisions, settle, watch};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{put, range_to};
use coord_e2e::history::{Outcome, Version};
use coord_proto::etcd::mvccpb::{Event, KeyValue};
use coord_server::network::Simulated;

use crate::clients::{Observed, Watched, single};

const AGAIN: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Look {
    /// The condition that is waited for.
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

    fn waits_for(&self, what: String) {
        self.lock().stuck = what;
    }

    /// Whether it was had.
    pub fn is_there(&self) -> bool {
        self.lock().is_there
    }

    /// The condition that it waits for.
    pub fn stuck(&self) -> String {
        self.lock().stuck.clone()
    }
}

/// Waits until every member serves writes and reads, leases have ended and the watcher of everything is through; then
/// reads all of each member.
pub async fn look(network: Arc<dyn Simulated>, observed: Observed, last: Last) {
    while observed.is_changing() {
        last.waits_for("a member is being replaced".to_owned());
        tokio::time::sleep(AGAIN).await;
    }
    let members = observed.members();
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
                    last.waits_for(format!("a put on m{}: {status}", number + 1));
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    }
    // Nobody renews any more, so all keys of leases go; then nothing writes.
    loop {
        let (_, keys) = all(&clients[0], 1, &last).await;
        match keys.iter().find(|kv| is_held(kv)) {
            None => break,
            Some(held) => {
                last.waits_for(format!("a key to end with its lease: {held:?}"));
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
    for (number, client) in clients.iter().enumerate() {
        let store = all(client, number + 1, &last).await;
        last.lock().stores.push(store);
    }
    let newest = last
        .lock()
        .stores
        .iter()
        .map(|(revision, _)| *revision)
        .max();
    while newest > Some(observed.log_through()) {
        last.waits_for("the watcher of everything".to_owned());
        tokio::time::sleep(AGAIN).await;
    }
    last.lock().is_there = true;
}

/// All that a member holds, with its revision, once it answers.
async fn all(client: &Client, number: usize, last: &Last) -> (i64, Vec<KeyValue>) {
    loop {
        match client.range(range_to("\0", "\0")).await {
            Ok(answer) => {
                let revision = answer.header.map_or(0, |header| header.revision);
                return (revision, answer.kvs);
            }
            Err(status) => {
                last.waits_for(format!("a read on m{number}: {status}"));
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// Of the last look itself.
fn is_last(event: &Event) -> bool {
    let kv = event.kv.as_ref();
    kv.is_some_and(|kv| kv.key.starts_with(b"last/"))
}

fn is_held(kv: &KeyValue) -> bool {
    kv.key.starts_with(b"lease/")
}

/// Judges a run. Says how many calls were answered.
///
/// Errors: the first promise that was broken.
pub fn judge(observed: &Observed, last: &Last) -> Result<usize> {
    if let Some(wrong) = observed.first_wrong() {
        bail!("{wrong}");
    }
    let whole = observed.whole.lock().expect("no one panicked");
    let log = log::merge([&*whole]).context("the log")?;
    watch::check(&whole, &log).context("the watcher of everything")?;
    let look = last.lock();
    ensure!(!look.stores.is_empty(), "nobody could be asked at the end");
    for (member, (revision, kvs)) in look.stores.iter().enumerate() {
        let keys = kvs.iter().map(|kv| {
            let key = String::from_utf8_lossy(&kv.key).into_owned();
            (key, Version::from(kv))
        });
        let contents = Contents {
            member: member + 1,
            revision: *revision,
            keys: keys.collect(),
        };
        contents::check(&contents, &log).context("what members hold")?;
    }
    let of_registers: Vec<_> = log
        .iter()
        .filter(|event| {
            let kv = event.kv.as_ref();
            kv.is_some_and(|kv| kv.key.starts_with(b"k/"))
        })
        .cloned()
        .collect();
    let newest = look.stores.iter().map(|(revision, _)| *revision).max();
    let history = observed.history.calls();
    let all = [history.clone(), observed.held.calls()].concat();
    let of_clients: Vec<_> = log
        .iter()
        .filter(|event| !is_last(event))
        .cloned()
        .collect();
    revisions::check(&all, &of_clients, newest.unwrap_or(0)).context("revisions")?;
    let settled = settle::settle(&history, &of_registers)?;
    linear::check(&settled).context("linearizability")?;
    for Watched { seen, compacted } in observed.watched.lock().expect("no one panicked").iter() {
        watch::check_beside(seen, &log, |response| compacted[response])
            .with_context(|| format!("a watcher of {:?}", seen.request))?;
    }
    for life in observed.lives.lock().expect("no one panicked").iter() {
        // How long a lease may live without a quorum has no bound: that none is left was waited for.
        lease::check(life, Duration::from_secs(3600), &[]).context("leases")?;
    }
    let answered = history
        .iter()
        .filter(|call| matches!(call.outcome, Outcome::Done { .. }));
    Ok(answered.count())
}
