//! The clients of a run: etcd clients on machines of their own, over the simulated network, through the members' doors.
//!
//! They write down what they see; [`judge`](crate::judge) reads it. While faults come they work; once the cluster is
//! left alone they finish and stop. One file for each kind.

mod compaction;
mod leadership;
mod leases;
mod membership;
mod registers;
mod watchers;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use coord_e2e::check::lease::Life;
use coord_e2e::check::watch::Seen;
use coord_e2e::clients::etcd::Client;
use coord_e2e::history::History;
use coord_server::network::Simulated;
use coord_server::raft::peer::Through;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tonic::transport::{Channel, Endpoint};

use crate::host::Host;
use crate::member::client_url;
use crate::network::HostId;

/// The silence after which a client gives a connection up.
const PROBE: Duration = Duration::from_secs(3);
const CONNECT: Duration = Duration::from_secs(2);

/// All that the clients of a run saw. Clones share it.
#[derive(Clone)]
pub struct Observed {
    /// Calls on single keys.
    pub history: History,
    /// The responses that the watcher of everything was sent.
    pub whole: Arc<Mutex<Seen>>,
    /// The revision up to which it was sent all.
    log_through: Arc<AtomicI64>,
    /// The responses that the other watchers were sent.
    pub watched: Arc<Mutex<Vec<Watched>>>,
    /// Up to which revision somebody asked to compact.
    compacted: Arc<AtomicI64>,
    /// Writes and reads of keys that leases hold.
    pub held: History,
    /// The lives of leases.
    pub lives: Arc<Mutex<Vec<Life>>>,
    /// Violations that are no call's outcome.
    wrong: Arc<Mutex<Vec<String>>>,
    membership: Arc<Mutex<Membership>>,
    wishes: Arc<Mutex<Vec<Wish>>>,
    is_quiet: Arc<AtomicBool>,
}

/// A watcher of a run.
#[derive(Debug)]
pub struct Watched {
    /// The responses that it was sent.
    pub seen: Seen,
    /// How far the store may have been compacted when each response came.
    pub compacted: Vec<i64>,
}

/// The members of the cluster.
#[derive(Debug, Default)]
struct Membership {
    /// Their machines.
    members: Vec<HostId>,
    /// Whether a change is under way.
    is_changing: bool,
}

/// A wish of a client that only the world can grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Start a member on a spare machine: it was added.
    Join(HostId),
    /// Wipe a machine: its member was removed.
    Leave(HostId),
}

impl Default for Observed {
    fn default() -> Self {
        let whole = Seen {
            request: watchers::whole(),
            start: 1,
            responses: Vec::new(),
        };
        let history = History::default();
        Self {
            held: history.beside(),
            history,
            whole: Arc::new(Mutex::new(whole)),
            log_through: Arc::default(),
            watched: Arc::default(),
            compacted: Arc::default(),
            lives: Arc::default(),
            wrong: Arc::default(),
            membership: Arc::default(),
            wishes: Arc::default(),
            is_quiet: Arc::default(),
        }
    }
}

impl Observed {
    /// The members of the cluster, as far as clients know.
    pub fn members(&self) -> Vec<HostId> {
        lock(&self.membership).members.clone()
    }

    /// The revision up to which the watcher of everything was sent all.
    pub fn log_through(&self) -> i64 {
        self.log_through.load(Ordering::Relaxed)
    }

    /// Up to which revision the store may be compacted.
    fn compacted(&self) -> i64 {
        self.compacted.load(Ordering::Relaxed)
    }

    /// Somebody asks to compact it so far.
    fn compacts(&self, revision: i64) {
        self.compacted.fetch_max(revision, Ordering::Relaxed);
    }

    /// The first violation, if there was one.
    pub fn first_wrong(&self) -> Option<String> {
        lock(&self.wrong).first().cloned()
    }

    /// Tells the clients to come to an end.
    pub fn quiet(&self) {
        self.is_quiet.store(true, Ordering::Relaxed);
    }

    /// The wishes since this was last asked.
    pub fn take_wishes(&self) -> Vec<Wish> {
        std::mem::take(&mut *lock(&self.wishes))
    }

    /// Whether members are being replaced.
    pub fn is_changing(&self) -> bool {
        lock(&self.membership).is_changing
    }

    fn is_quiet(&self) -> bool {
        self.is_quiet.load(Ordering::Relaxed)
    }

    fn wrong(&self, what: String) {
        lock(&self.wrong).push(what);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("nothing panics while it holds the lock")
}

/// How much clients do in a run.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients that read and write single keys.
    pub registers: usize,
    /// Keys at one time.
    pub keys: usize,
    /// They all call at every multiple of it.
    pub beat: Duration,
    /// Watchers beside the one that sees everything.
    pub watchers: usize,
    /// Clients that hold leases.
    pub leases: usize,
    /// Whether the store is compacted now and then.
    pub compacts: bool,
    /// Whether leadership is moved by hand now and then.
    pub moves: bool,
    /// Whether members are replaced now and then.
    pub replaces: bool,
}

impl Load {
    /// How long it is from `now` to the next beat.
    pub fn until_beat(&self, now: Duration) -> Duration {
        let past = now.as_nanos() % self.beat.as_nanos();
        self.beat - Duration::from_nanos(u64::try_from(past).unwrap_or(0))
    }
}

/// The parts that one client is given.
#[derive(Clone)]
struct Seat {
    network: Arc<dyn Simulated>,
    members: Vec<HostId>,
    observed: Observed,
}

/// Starts them all on one machine.
pub fn start(
    host: &mut Host,
    network: &Arc<dyn Simulated>,
    (members, spares): (&[HostId], &[HostId]),
    observed: &Observed,
    load: Load,
    random: &mut StdRng,
) {
    let seat = Seat {
        network: network.clone(),
        members: members.iter().chain(spares).copied().collect(),
        observed: observed.clone(),
    };
    lock(&observed.membership).members = members.to_vec();
    let mut chance = || StdRng::seed_from_u64(random.random());
    for number in 0..load.registers {
        host.spawn(registers::run(seat.clone(), number, load, chance()));
    }
    host.spawn(watchers::log(seat.clone()));
    for _ in 0..load.watchers {
        host.spawn(watchers::run(seat.clone(), load, chance()));
    }
    for number in 0..load.leases {
        host.spawn(leases::run(seat.clone(), number, chance()));
    }
    if load.compacts {
        host.spawn(compaction::run(seat.clone(), chance()));
    }
    if load.moves {
        host.spawn(leadership::run(seat.clone(), chance()));
    }
    if load.replaces {
        host.spawn(membership::run(seat, spares.to_vec(), chance()));
    }
}

impl Seat {
    fn wish(&self, wish: Wish) {
        lock(&self.observed.wishes).push(wish);
    }

    /// A client of all members, that begins with the `first`.
    fn client(&self, first: usize) -> Client {
        let count = self.members.len();
        let order = (0..count).map(|place| self.members[(first + place) % count]);
        Client::over(
            order
                .map(|member| channel(self.network.clone(), member))
                .collect(),
        )
    }
}

/// A client of one member.
pub fn single(network: Arc<dyn Simulated>, member: HostId) -> Client {
    Client::over(vec![channel(network, member)])
}

fn channel(network: Arc<dyn Simulated>, member: HostId) -> Channel {
    let endpoint = Endpoint::from_shared(client_url(member)).expect("a URL is a URL");
    endpoint
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(PROBE)
        .keep_alive_timeout(PROBE)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(Through(network))
}

/// A pause, exponential about its mean.
async fn pause(random: &mut StdRng, mean: Duration) {
    let uniform: f64 = random.random_range(1e-3..1.0);
    tokio::time::sleep(mean.mul_f64(-uniform.ln())).await;
}
