//! A network of hosts in this process: connections like TCP's, on links that are slow, lose packets, or are cut.
//!
//! A program sees of it what TCP shows: bytes in order or an end. Loss is delay, because TCP sends again; a cut link
//! holds what was sent until it is healed; a host without power answers nothing, and once it is back it resets what it
//! does not know. A closed end sends FIN, or RST if something was unread. Time passes only in [`Network::next`]'s
//! events; the world moves them along. Read [`link`] for how long a packet takes, [`stream`] for the ends.

mod connect;
mod link;
mod stream;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Waker;

use bytes::Bytes;
use coord_server::network::Simulated;
use futures::future::BoxFuture;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::interpose;
use crate::trace;
use connect::{Attempt, Port, PortState};
use link::Link;
pub use link::Weather;
use stream::{End, Pipe};

/// A machine on the network. Its address is `10.0.0.(number + 1)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostId(pub u8);

impl HostId {
    /// Its address, at this port.
    pub fn address(self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, self.0 + 1)), port)
    }

    fn of(address: SocketAddr) -> Option<Self> {
        match address.ip() {
            IpAddr::V4(ip) => match ip.octets() {
                [10, 0, 0, number] => number.checked_sub(1).map(Self),
                _ => None,
            },
            IpAddr::V6(_) => None,
        }
    }
}

type PipeId = u64;
type AttemptId = u64;

/// A packet of an established connection.
#[derive(Clone, Debug)]
enum Packet {
    Data(Bytes),
    /// No more data comes.
    Fin,
    /// The connection is gone.
    Reset,
}

enum Event {
    Arrive(PipeId, Packet),
    /// An attempt to connect reaches the other host.
    Knock(AttemptId),
    /// Its answer is back.
    Answer(AttemptId, connect::Answer),
}

struct Scheduled {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

struct Inner {
    random: StdRng,
    number: u64,
    events: BinaryHeap<Reverse<Scheduled>>,
    links: BTreeMap<(HostId, HostId), Link>,
    weather: Weather,
    is_down: BTreeMap<HostId, bool>,
    ports: BTreeMap<SocketAddr, PortState>,
    pipes: BTreeMap<PipeId, Pipe>,
    attempts: BTreeMap<AttemptId, Attempt>,
    /// Hosts that must have a turn because of a packet that arrived.
    woken: Vec<(HostId, Waker)>,
}

/// The network. Clones are the same one.
#[derive(Clone)]
pub struct Network(Arc<Mutex<Inner>>);

impl Network {
    /// One without traffic.
    pub fn new(random: StdRng, weather: Weather) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            random,
            number: 0,
            events: BinaryHeap::new(),
            links: BTreeMap::new(),
            weather,
            is_down: BTreeMap::new(),
            ports: BTreeMap::new(),
            pipes: BTreeMap::new(),
            attempts: BTreeMap::new(),
            woken: Vec::new(),
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// The network as one of its hosts sees it.
    pub fn of(&self, host: HostId) -> Arc<dyn Simulated> {
        Arc::new(Seen {
            network: self.clone(),
            host,
        })
    }

    /// When something arrives next.
    pub fn next(&self) -> Option<u64> {
        self.lock().events.peek().map(|Reverse(next)| next.at)
    }

    /// Lets everything arrive that is due, and says who must have a turn because of it.
    pub fn deliver(&self) -> Vec<(HostId, Waker)> {
        let mut inner = self.lock();
        let now = interpose::now();
        while let Some(Reverse(next)) = inner.events.peek()
            && next.at <= now
        {
            let Some(Reverse(next)) = inner.events.pop() else {
                break;
            };
            trace::event(next.number);
            match next.event {
                Event::Arrive(pipe, packet) => inner.arrive(pipe, packet),
                Event::Knock(attempt) => inner.knock(attempt),
                Event::Answer(attempt, answer) => inner.answer(attempt, answer),
            }
        }
        std::mem::take(&mut inner.woken)
    }

    /// Cuts one direction: nothing sent from `from` reaches `to`.
    pub fn cut(&self, from: HostId, to: HostId) {
        self.lock().link(from, to).is_cut = true;
    }

    /// From now on a proxy between two hosts takes the packets of the first to the second, on open connections and on
    /// new ones, and passes none on; each of these connections breaks some time later.
    pub fn swallow(&self, from: HostId, to: HostId) {
        self.lock().link(from, to).swallows = true;
    }

    /// No more.
    pub fn pass(&self, from: HostId, to: HostId) {
        self.lock().link(from, to).swallows = false;
    }

    /// All connections between two hosts break, each in one direction first and between any two bytes.
    pub fn break_connections(&self, one: HostId, other: HostId) {
        let mut inner = self.lock();
        let ends = [(one, other), (other, one)];
        let pipes: Vec<(PipeId, PipeId)> = inner
            .pipes
            .iter()
            .filter(|(id, pipe)| ends.contains(&(pipe.from, pipe.to)) && **id < pipe.back)
            .map(|(id, pipe)| (*id, pipe.back))
            .collect();
        for (near, far) in pipes {
            let first = if inner.random.random_bool(0.5) {
                near
            } else {
                far
            };
            inner.doom(first);
        }
    }

    /// Ends every cut and makes the weather calm.
    pub fn heal(&self) {
        let mut inner = self.lock();
        for link in inner.links.values_mut() {
            link.swallows = false;
        }
        let cut: Vec<(HostId, HostId)> = inner
            .links
            .iter()
            .filter(|(_, link)| link.is_cut)
            .map(|(ends, _)| *ends)
            .collect();
        for (from, to) in cut {
            inner.link(from, to).is_cut = false;
            inner.release(|pipe| (pipe.from, pipe.to) == (from, to));
        }
    }

    /// Heals one direction.
    pub fn join(&self, from: HostId, to: HostId) {
        let mut inner = self.lock();
        inner.link(from, to).is_cut = false;
        inner.release(|pipe| (pipe.from, pipe.to) == (from, to));
    }

    /// How fast and how lossy all links are from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.lock().weather = weather;
    }

    /// Takes a host's power: it sends nothing any more, not even that its connections are gone.
    pub fn power_off(&self, host: HostId) {
        self.lock().is_down.insert(host, true);
    }

    /// Gives it back. Packets sent to it meanwhile arrive, and meet nobody.
    pub fn power_on(&self, host: HostId) {
        let mut inner = self.lock();
        if inner.is_down.insert(host, false) == Some(true) {
            inner.release(|pipe| pipe.to == host);
        }
    }
}

impl Inner {
    fn schedule(&mut self, at: u64, event: Event) {
        self.number += 1;
        self.events.push(Reverse(Scheduled {
            at,
            number: self.number,
            event,
        }));
    }

    fn is_down(&self, host: HostId) -> bool {
        self.is_down.get(&host).copied().unwrap_or(false)
    }

    fn wake(&mut self, host: HostId, waker: Option<Waker>) {
        if let Some(waker) = waker {
            self.woken.push((host, waker));
        }
    }

    /// Sends what was held back on these pipes, in order, after TCP has noticed.
    fn release(&mut self, is_meant: impl Fn(&Pipe) -> bool) {
        let meant: Vec<PipeId> = self
            .pipes
            .iter()
            .filter(|(_, pipe)| is_meant(pipe))
            .map(|(id, _)| *id)
            .collect();
        for id in meant {
            let pause = self.retransmission();
            let Some(pipe) = self.pipes.get_mut(&id) else {
                continue;
            };
            let held: VecDeque<Packet> = std::mem::take(&mut pipe.held);
            let back = pipe.back;
            pipe.last_at = pipe.last_at.max(interpose::now() + pause);
            for packet in held {
                self.send_now(id, packet);
            }
            // Acknowledgements of the other direction come through again.
            let Some(other) = self.pipes.get_mut(&back) else {
                continue;
            };
            other.in_flight -= std::mem::take(&mut other.unacknowledged);
            let writer = other.writer.take();
            let host = other.from;
            self.wake(host, writer);
        }
    }
}

/// One host's end of the network.
struct Seen {
    network: Network,
    host: HostId,
}

impl Simulated for Seen {
    fn listen(&self, address: SocketAddr) -> std::io::Result<Arc<dyn coord_server::network::Port>> {
        self.network.lock().open(self.host, address)?;
        Ok(Arc::new(Port {
            network: self.network.clone(),
            address,
        }))
    }

    fn connect(
        &self,
        address: SocketAddr,
    ) -> BoxFuture<'static, std::io::Result<Box<dyn coord_server::network::Duplex>>> {
        Box::pin(connect::connect(self.network.clone(), self.host, address))
    }
}

/// The end that sends on one pipe and receives on the other.
fn ends(network: &Network, near: PipeId, far: PipeId) -> End {
    End {
        network: network.clone(),
        sends: near,
        receives: far,
    }
}
