//! Clients that work while faults happen, and write down what they see.
//!
//! Owns the tasks and ends them. Each kind has a file: [`keys`] (puts, gets, swaps, deletes), [`watchers`], [`leases`],
//! [`terms`], [`compaction`]. Every client but those pinned to a member goes on to another one where its own cannot
//! serve, as etcd's client library does. Nothing here judges.

mod compaction;
mod keys;
mod leases;
mod terms;
mod watchers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::record::{Record, Tenancy, Watcher};
use crate::check::terms::Sighting;
use crate::clients::etcd::Client;
use crate::history::History;

/// The number of clients of each kind.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Clients that read and write keys, spread over the members.
    pub writers: usize,
    /// Clients that only read, each at one member whether it serves or not.
    pub readers: usize,
    /// Pause between two calls of one of them, at most: bounds the length of a history.
    pub pause_max: Duration,
    /// Whether old revisions are compacted all the time.
    pub compacts: bool,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            writers: 9,
            readers: 6,
            pause_max: Duration::from_millis(30),
            compacts: false,
        }
    }
}

/// The part that all clients share.
#[derive(Clone)]
struct Common {
    endpoints: Arc<[String]>,
    history: History,
    /// Writes and reads of keys that leases hold.
    held: History,
    profile: Profile,
    stop: Arc<AtomicBool>,
    /// The newest revision that anyone was answered.
    revision: Arc<AtomicI64>,
    /// The revision that watchers must reach before they may end; 0 while it is not known.
    goal: Arc<AtomicI64>,
    written: Arc<AtomicU64>,
    /// Up to where the store was compacted.
    compacted: Arc<AtomicI64>,
}

impl Common {
    fn stops(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A client of one member.
    fn pinned(&self, member: usize) -> Result<Client> {
        Client::new(&[self.endpoints[member % self.endpoints.len()].clone()])
    }

    /// A client that begins at a member and goes on to the others.
    fn roaming(&self, first: usize) -> Result<Client> {
        let mut endpoints = self.endpoints.to_vec();
        endpoints.rotate_left(first % self.endpoints.len());
        Client::new(&endpoints)
    }

    fn saw(&self, revision: i64) {
        self.revision.fetch_max(revision, Ordering::Relaxed);
    }
}

enum Output {
    Nothing,
    Watchers(Vec<Watcher>),
    Tenancies(Vec<Tenancy>),
    Sightings(Vec<Sighting>),
}

/// Clients at work. Dropping it ends them.
pub struct Load {
    common: Common,
    /// Those that change keys or leases, or ask for terms.
    working: JoinSet<Result<Output>>,
    /// Those that must see all that the others did.
    watching: JoinSet<Result<Output>>,
    /// Of those that have ended.
    outputs: Vec<Output>,
}

impl Load {
    /// Puts clients to work on the members at these endpoints.
    pub fn start(endpoints: &[String], seed: u64, profile: Profile) -> Result<Self> {
        let history = History::default();
        let common = Common {
            endpoints: endpoints.into(),
            held: history.beside(),
            history,
            profile,
            stop: Arc::default(),
            revision: Arc::new(AtomicI64::new(1)),
            goal: Arc::default(),
            written: Arc::default(),
            compacted: Arc::default(),
        };
        let (mut working, mut watching) = (JoinSet::new(), JoinSet::new());
        let members = endpoints.len();
        let mut seeds = seed;
        let mut rng = || {
            seeds = seeds.wrapping_add(1);
            StdRng::seed_from_u64(seeds)
        };
        for number in 0..profile.writers {
            working.spawn(keys::work(common.clone(), number, rng()));
        }
        for number in 0..profile.readers {
            let number = profile.writers + number;
            working.spawn(keys::read(common.clone(), number, rng()));
        }
        for member in 0..members {
            watching.spawn(watchers::follow(common.clone(), member));
            watching.spawn(watchers::come_and_go(common.clone(), member, rng()));
            working.spawn(leases::hold(common.clone(), member, rng()));
            working.spawn(terms::ask(common.clone(), member));
        }
        if profile.compacts {
            working.spawn(compaction::keep_few(common.clone()));
        }
        Ok(Self {
            common,
            working,
            watching,
            outputs: Vec::new(),
        })
    }

    /// Time since the start, as all records count it.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.common.history.now()
    }

    /// Writes that were acknowledged until now.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.common.written.load(Ordering::Relaxed)
    }

    /// Up to which revision the store was compacted.
    #[must_use]
    pub fn compacted(&self) -> i64 {
        self.common.compacted.load(Ordering::Relaxed)
    }

    /// Waits until `writes` more were acknowledged. Errors: not within `limit`.
    pub async fn goes_on(&self, writes: u64, limit: Duration) -> Result<()> {
        const LOOK_EVERY: Duration = Duration::from_millis(20);
        let (start, end) = (self.written(), Instant::now() + limit);
        while self.written() < start + writes {
            ensure!(
                Instant::now() < end,
                "{} writes were acknowledged in {} s, {writes} were expected",
                self.written() - start,
                limit.as_secs()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    /// Ends the clients that change something, and waits for the answers that are on their way; watchers go on until
    /// [`Load::finish`].
    ///
    /// The members hold all that was acknowledged, from then on.
    pub async fn stop_changing(&mut self) -> Result<()> {
        self.common.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.working.join_next().await {
            self.outputs.push(ended.context("a client panicked")??);
        }
        Ok(())
    }

    /// Ends all clients once watchers have seen everything up to `goal`, and adds what they saw to the record.
    pub async fn finish(mut self, goal: i64, record: &mut Record) -> Result<()> {
        self.common.goal.store(goal, Ordering::Relaxed);
        self.stop_changing().await?;
        while let Some(ended) = self.watching.join_next().await {
            self.outputs.push(ended.context("a client panicked")??);
        }
        for output in self.outputs {
            match output {
                Output::Nothing => {}
                Output::Watchers(watchers) => record.watchers.extend(watchers),
                Output::Tenancies(tenancies) => record.tenancies.extend(tenancies),
                Output::Sightings(sightings) => record.sightings.extend(sightings),
            }
        }
        record.calls = self.common.history.calls();
        record.held = self.common.held.calls();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    /// Members that take every request and end the connection after a moment without an answer.
    async fn slow_members(count: usize) -> Vec<String> {
        const MOMENT: Duration = Duration::from_millis(300);
        let mut endpoints = Vec::new();
        for _ in 0..count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            endpoints.push(format!("http://{}", listener.local_addr().unwrap()));
            tokio::spawn(async move {
                while let Ok((mut connection, _)) = listener.accept().await {
                    tokio::spawn(async move {
                        let _ = connection.read(&mut [0; 1024]).await;
                        tokio::time::sleep(MOMENT).await;
                    });
                }
            });
        }
        endpoints
    }

    #[tokio::test]
    async fn no_call_is_under_way_once_changing_has_stopped() {
        let endpoints = slow_members(3).await;
        let mut load = Load::start(&endpoints, 1, Profile::default()).unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        load.stop_changing().await.unwrap();
        let known = load.common.history.calls().len();
        assert!(known > 0, "calls were under way");
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(load.common.history.calls().len(), known);
    }
}
