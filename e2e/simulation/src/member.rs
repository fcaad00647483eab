//! A member of the cluster on a machine of its own: the server as it ships, on simulated platform.

use std::sync::{Arc, Mutex, MutexGuard};

use coord_server::cli::{self, Invocation};
use coord_server::config::Config;
use coord_server::network as product;
use coord_server::node::{Node, Platform};
use coord_server::raft::{Leadership, Limits};
use coord_server::wal::{Place, Stepper};
use tokio::sync::watch;

use crate::disk::{Disk, LOG};
use crate::host::Host;
use crate::network::{HostId, Network};

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// How the process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was asked to.
    WhenAsked,
    /// By itself, and why.
    ByItself(String),
}

#[derive(Default)]
struct Life {
    /// Once it answers clients.
    leadership: Option<watch::Receiver<Leadership>>,
    ended: Option<Ended>,
}

/// A member, whether it runs or not.
pub struct Member {
    /// Its machine.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// Its disk.
    pub disk: Disk,
    log: Stepper,
    life: Arc<Mutex<Life>>,
    stop: watch::Sender<bool>,
    limits: Limits,
    /// Where it is told that others are.
    places: Vec<HostId>,
    /// Whether it joins a cluster that is there.
    joins: bool,
}

/// Where clients reach a member.
pub fn client_url(host: HostId) -> String {
    format!("http://{}", host.address(CLIENT_PORT))
}

/// Where its peers reach it.
pub fn peer_url(host: HostId) -> String {
    format!("http://{}", host.address(PEER_PORT))
}

fn lock(life: &Mutex<Life>) -> MutexGuard<'_, Life> {
    life.lock().expect("nothing panics while it holds the lock")
}

impl Member {
    /// One that has never run.
    pub fn new(host: HostId, disk: Disk, limits: Limits, places: Vec<HostId>, joins: bool) -> Self {
        Self {
            host,
            name: format!("m{}", host.0 + 1),
            disk,
            log: Stepper::default(),
            life: Arc::default(),
            stop: watch::Sender::new(false),
            limits,
            places,
            joins,
        }
    }

    /// Starts its process on a machine that has just been switched on.
    pub fn start(&mut self, network: &Network) -> Host {
        self.life = Arc::default();
        self.stop = watch::Sender::new(false);
        self.log = Stepper::default();
        let mut host = Host::new(self.host, &self.name);
        let log = Place {
            disk: self.disk.power_on(),
            options: LOG,
            stepper: self.log.clone(),
        };
        let seen = product::Network::Simulated(network.of(self.host));
        let platform = Platform::simulated(log, self.disk.rows.clone(), seen, self.limits);
        let config = config(&self.name, self.host, &self.places, self.joins);
        host.spawn(self.disk.clone().write_log(self.log.clone()));
        host.spawn(live(
            config,
            platform,
            self.life.clone(),
            self.stop.subscribe(),
        ));
        host
    }

    /// Whether it believes that it leads.
    pub fn leads(&self) -> bool {
        let life = lock(&self.life);
        let leadership = life.leadership.as_ref();
        life.ended.is_none() && leadership.is_some_and(|leadership| leadership.borrow().is_self)
    }

    /// How it ended, if it did.
    pub fn ended(&self) -> Option<Ended> {
        lock(&self.life).ended.clone()
    }

    /// Asks it to stop in good order.
    pub fn ask_to_stop(&self) {
        self.stop.send_replace(true);
    }

    /// Leaves on its disk the state after a kill of its process.
    pub fn killed(&self) {
        self.disk.process_killed(&self.log);
    }

    /// Leaves on its disk the state after a power cut.
    pub fn lost_power(&self) {
        self.disk.power_off(&self.log);
    }
}

async fn live(
    config: Config,
    platform: Platform,
    life: Arc<Mutex<Life>>,
    mut stop: watch::Receiver<bool>,
) {
    let asked = async move {
        // The sender outlives the machine.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let mut asked = std::pin::pin!(asked);
    let node = tokio::select! {
        node = Node::start_on(config, platform) => node,
        () = &mut asked => {
            lock(&life).ended = Some(Ended::WhenAsked);
            return;
        }
    };
    let ended = match node {
        Ok(node) => {
            lock(&life).leadership = Some(node.coordinator().leadership());
            node.run_until(asked).await
        }
        Err(stop) => Err(stop),
    };
    lock(&life).ended = Some(match ended {
        Ok(()) => Ended::WhenAsked,
        Err(stop) => Ended::ByItself(stop.to_string()),
    });
}

/// A configuration as the command line gives it.
fn config(name: &str, host: HostId, founders: &[HostId], joins: bool) -> Config {
    let members: Vec<String> = founders
        .iter()
        .chain((!founders.contains(&host)).then_some(&host))
        .map(|host| format!("m{}={}", host.0 + 1, peer_url(*host)))
        .collect();
    let words = [
        format!("--name={name}"),
        format!("--data-dir=simulated-{name}"),
        format!("--listen-client-urls={}", client_url(host)),
        format!("--advertise-client-urls={}", client_url(host)),
        format!("--listen-peer-urls={}", peer_url(host)),
        format!("--initial-advertise-peer-urls={}", peer_url(host)),
        format!("--initial-cluster={}", members.join(",")),
        format!(
            "--initial-cluster-state={}",
            if joins { "existing" } else { "new" }
        ),
    ];
    match cli::parse(words, std::iter::empty()) {
        Ok((Invocation::Serve(settings), _)) => {
            Config::resolve(&settings).expect("the simulation asks for what can be")
        }
        other => panic!("the simulation writes its command lines well: {other:?}"),
    }
}
