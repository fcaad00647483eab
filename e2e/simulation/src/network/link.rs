//! How long a packet takes from one host to another.

use rand::RngExt;
use rand::rngs::StdRng;

use super::{HostId, Inner};

const MICROS: u64 = 1_000;
const MILLIS: u64 = 1_000_000;
/// TCP's shortest wait before it sends again; doubled for each further loss.
const RETRANSMISSION: u64 = 200 * MILLIS;

/// How fast and how lossy the links are.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// Shortest way, in nanoseconds.
    pub base: u64,
    /// The time that is added on average.
    pub jitter: u64,
    /// Packets lost, in a thousand.
    pub lost: u32,
}

impl Weather {
    /// A network within a building.
    pub fn calm() -> Self {
        Self {
            base: 100 * MICROS,
            jitter: 100 * MICROS,
            lost: 0,
        }
    }
}

/// One direction between two hosts.
#[derive(Default)]
pub(super) struct Link {
    pub(super) is_cut: bool,
    /// Something on the way takes what is sent and passes nothing on.
    pub(super) swallows: bool,
}

/// An exponential distribution: mostly short, now and then long.
fn exponential(random: &mut StdRng, mean: u64) -> u64 {
    let uniform: f64 = random.random_range(1e-6..1.0);
    (-(uniform.ln()) * mean as f64) as u64
}

impl Inner {
    pub(super) fn link(&mut self, from: HostId, to: HostId) -> &mut Link {
        self.links.entry((from, to)).or_default()
    }

    pub(super) fn is_cut(&self, from: HostId, to: HostId) -> bool {
        self.links.get(&(from, to)).is_some_and(|link| link.is_cut)
    }

    pub(super) fn swallows(&self, from: HostId, to: HostId) -> bool {
        let link = self.links.get(&(from, to));
        link.is_some_and(|link| link.swallows)
    }

    /// How long a packet takes now, with what TCP waits before it sends again what was lost.
    pub(super) fn travel(&mut self) -> u64 {
        let Weather { base, jitter, lost } = self.weather;
        let mut time = base + exponential(&mut self.random, jitter);
        let mut wait = RETRANSMISSION;
        while lost > 0 && self.random.random_range(0..1000) < lost && wait < 20 * RETRANSMISSION {
            time += wait;
            wait *= 2;
        }
        time
    }

    /// After how long TCP tries again on a link that works now.
    pub(super) fn retransmission(&mut self) -> u64 {
        self.random.random_range(MILLIS..4 * RETRANSMISSION)
    }
}
