//! One run: a cluster, its clients and what goes wrong, from one seed.
//!
//! Virtual time jumps from one thing that is due to the next: something arrives on the network, a machine's timer is
//! over, a fault begins or ends. Nothing takes time but what is told to.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use coord_server::failpoints::Bug;
use coord_server::raft::Limits;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::calendar::Calendar;
use crate::clients::{self, Load, Observed, Wish};
use crate::disk::{Copy, Disk};
use crate::faults::{Action, Faults, Slowness};
use crate::host::Host;
use crate::judge::{self, Last};
use crate::member::{Ended, Member};
use crate::network::{HostId, Network};
use crate::wrong::{Sabotage, Wrong};
use crate::{interpose, trace};

/// The time in which faults come.
const FAULTS: Duration = Duration::from_secs(150);
/// Before the first.
const START: Duration = Duration::from_secs(3);
/// The time in which the cluster, once left alone, must serve again everywhere.
const RECOVERY_MAX: Duration = Duration::from_secs(120);
/// A member that was asked to stop has ended by then.
const STOPS_IN: Duration = Duration::from_secs(5);
/// The time after which a member that ended by itself is started again, as by a supervisor.
const RESTART: Duration = Duration::from_secs(2);
/// Entries more than its copy that a member's disk must have had for the others to remember some of them in any case.
const FORGOTTEN_MIN: u64 = 20;
/// The time in which a member with an older copy of its disk is refused.
const REFUSED_IN: Duration = Duration::from_secs(8);
/// Unoptimised futures are large.
const STACK: usize = 64 << 20;
const CLIENTS: HostId = HostId(100);

/// The result of a run.
pub struct Outcome {
    /// Virtual time it took.
    pub simulated: Duration,
    /// Calls of clients that were answered.
    pub answered: usize,
    /// Starts of members.
    pub starts: u64,
    /// The trace of everything, and its length.
    pub trace: (u64, u64),
    /// The kinds of fault that it had.
    pub faults: String,
}

/// A member whose disk went back in time.
struct Older {
    /// Its own disk.
    truth: Copy,
    /// When it must have been refused, if others remember more of it than the copy holds.
    due: Option<u64>,
}

struct World {
    network: Network,
    hosts: BTreeMap<HostId, Host>,
    members: BTreeMap<HostId, Member>,
    observed: Observed,
    limits: Limits,
    random: StdRng,
    calendar: Calendar,
    starts: u64,
    /// Copies of disks.
    copies: BTreeMap<HostId, Copy>,
    /// Members that run on an older copy, and what their disk held in truth.
    older: BTreeMap<HostId, Older>,
    /// Members whose disk was made to fail, and that may say so.
    may_fail: Vec<HostId>,
    wrong: Vec<String>,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Runs a seed, on a thread of its own: this one may hold numbers by chance already, as hash maps do.
///
/// Errors: the broken promise.
pub fn run(seed: u64, wrong: Wrong) -> Result<Outcome> {
    let thread = std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || {
            let outcome = run_here(seed, wrong);
            outcome.with_context(|| format!("at {}", interpose::seconds()))
        })?;
    thread.join().expect("a panic ends the process")
}

fn run_here(seed: u64, wrong: Wrong) -> Result<Outcome> {
    interpose::begin(seed);
    let mut random = StdRng::seed_from_u64(seed);
    let mut chance = || StdRng::seed_from_u64(random.random());
    let network = Network::new(chance(), Slowness::Calm.weather());
    let mut draws = chance();
    let count = match draws.random_range(0..10) {
        0 => 1,
        1..9 => 3,
        _ => 5,
    };
    let founders: Vec<HostId> = (0..count).map(HostId).collect();
    let spares: Vec<HostId> = (count..count + 2).map(HostId).collect();
    let limits = Limits {
        // As often some ten as some thousand.
        entries: 1 << draws.random_range(3..11),
        bytes: 512 << 10,
        every: Duration::from_secs(1),
    };
    let load = Load {
        registers: draws.random_range(3..7),
        keys: draws.random_range(1..5),
        beat: Duration::from_millis(draws.random_range(500..2000)),
        watchers: draws.random_range(1..4),
        leases: draws.random_range(1..4),
        compacts: draws.random_bool(0.5),
        moves: count > 1 && draws.random_bool(0.3),
        replaces: count == 3 && draws.random_bool(0.3),
    };
    let mut faults = Faults::draw(chance());
    tracing::info!(
        members = count,
        faults = faults.describe(),
        ?load,
        ?limits,
        "drawn"
    );
    // In a server of its own the bug stands in front of the disk; here it is the disk.
    let lies =
        wrong.sabotage == Some(Sabotage::LyingDisks) || wrong.bug == Some(Bug::AckBeforeFsync);
    let members = founders.iter().map(|host| {
        let disk = Disk::new(&format!("m{}", host.0 + 1), chance());
        if lies {
            disk.lie();
        }
        let member = Member::new(*host, disk, limits, founders.clone(), false);
        (*host, member)
    });
    let observed = Observed::default();
    let mut world = World {
        network: network.clone(),
        hosts: BTreeMap::new(),
        members: members.collect(),
        observed: observed.clone(),
        limits,
        random: chance(),
        calendar: Calendar::default(),
        starts: 0,
        copies: BTreeMap::new(),
        older: BTreeMap::new(),
        may_fail: Vec::new(),
        wrong: Vec::new(),
    };
    for host in &founders {
        world.act(&Action::Start(*host));
    }
    let mut host = Host::new(CLIENTS, "clients");
    let seen = network.of(CLIENTS);
    clients::start(
        &mut host,
        &seen,
        (&founders, &spares),
        &observed,
        load,
        &mut world.random,
    );
    world.hosts.insert(CLIENTS, host);

    world.run_until(nanos(START))?;
    loop {
        let pause = faults.pause(|now| load.until_beat(now));
        let next = interpose::now() + nanos(pause);
        if next >= nanos(FAULTS) {
            break;
        }
        world.run_until(next)?;
        let leader = world.members.values().find(|member| member.leads());
        let leader = leader.map(|member| member.host);
        let members: Vec<HostId> = world.members.keys().copied().collect();
        for (after, action) in faults.next(&members, leader) {
            world.schedule(after, action);
        }
    }
    world.run_until(nanos(FAULTS))?;
    world.leave_alone();
    observed.quiet();
    let last = Last::default();
    if let Some(host) = world.hosts.get_mut(&CLIENTS) {
        host.spawn(judge::look(seen, observed.clone(), last.clone()));
    }
    let given_up = interpose::now() + nanos(RECOVERY_MAX);
    while !last.is_there() {
        if interpose::now() >= given_up {
            bail!(
                "{} s after everything was repaired: {}",
                RECOVERY_MAX.as_secs(),
                last.stuck()
            );
        }
        world.run_until(interpose::now() + nanos(Duration::from_secs(1)))?;
    }
    let simulated = Duration::from_nanos(interpose::now());
    let starts = world.starts;
    drop(world);
    let answered = judge::judge(&observed, &last)?;
    Ok(Outcome {
        simulated,
        answered,
        starts,
        trace: trace::read(),
        faults: faults.describe(),
    })
}

impl World {
    fn schedule(&mut self, after: Duration, action: Action) {
        self.calendar.add(interpose::now() + nanos(after), action);
    }

    fn run_until(&mut self, end: u64) -> Result<()> {
        loop {
            let arrival = self.network.next();
            let action = self.calendar.next();
            let turn = self.hosts.values().map(Host::due).min();
            let next = [arrival, action, turn].into_iter().flatten().min();
            let next = next.unwrap_or(u64::MAX).max(interpose::now());
            if next > end {
                interpose::advance(end);
                return Ok(());
            }
            interpose::advance(next);
            self.step();
            self.look_for_older_disks();
            if let Some(wrong) = self.wrong.pop() {
                bail!(wrong);
            }
        }
    }

    /// Everything that is due now.
    fn step(&mut self) {
        let now = interpose::now();
        for (host, waker) in self.network.deliver() {
            // A machine that is off meanwhile hears nothing.
            if let Some(host) = self.hosts.get_mut(&host) {
                host.wake(waker);
            }
        }
        while let Some(action) = self.calendar.due(now) {
            self.act(&action);
        }
        for host in self.hosts.values_mut().filter(|host| host.due() <= now) {
            host.turn();
        }
        self.bury();
        for wish in self.observed.take_wishes() {
            self.grant(wish);
        }
    }

    /// A member must not run on what it was once.
    fn look_for_older_disks(&mut self) {
        let now = interpose::now();
        for (host, Older { due, .. }) in &mut self.older {
            if due.is_some_and(|due| due <= now) && self.hosts.contains_key(host) {
                *due = None;
                self.wrong.push(format!(
                    "m{} runs on an older copy of its disk, though others remember more of it",
                    host.0 + 1
                ));
            }
        }
    }

    fn put_back(&mut self, host: HostId) {
        let (Some(copy), Some(member)) = (self.copies.remove(&host), self.members.get(&host))
        else {
            return;
        };
        let truth = member.disk.copy();
        let (held, holds) = match (truth.last_index(), copy.last_index()) {
            (Ok(held), Ok(holds)) => (held, holds),
            (Err(fault), _) | (_, Err(fault)) => {
                self.wrong.push(format!("a copy of a disk: {fault}"));
                return;
            }
        };
        // The last entries may not have been acknowledged.
        let is_missed = held > holds.map(|holds| holds + FORGOTTEN_MIN);
        tracing::info!(host = host.0 + 1, ?held, ?holds, "goes back in time");
        let due = is_missed.then(|| interpose::now() + nanos(REFUSED_IN));
        member.disk.put_back(&copy);
        self.older.insert(host, Older { truth, due });
    }

    fn grant(&mut self, wish: Wish) {
        tracing::info!(?wish, "membership");
        match wish {
            Wish::Join(host) => {
                let chance = StdRng::seed_from_u64(self.random.random());
                let disk = Disk::new(&format!("m{}", host.0 + 1), chance);
                let places = self.members.keys().copied().collect();
                let member = Member::new(host, disk, self.limits, places, true);
                self.members.insert(host, member);
                self.act(&Action::Start(host));
            }
            Wish::Leave(host) => {
                self.older.remove(&host);
                self.act(&Action::Kill(host));
                self.members.remove(&host);
            }
        }
    }

    /// Processes that ended leave their machine.
    fn bury(&mut self) {
        let ended = |member: &Member| member.ended().map(|ended| (member.host, ended));
        let ended: Vec<(HostId, Ended)> = self
            .members
            .values()
            .filter(|member| self.hosts.contains_key(&member.host))
            .filter_map(ended)
            .collect();
        for (host, ended) in ended {
            self.hosts.remove(&host);
            if let Ended::ByItself(why) = ended {
                tracing::info!(host = host.0 + 1, why, "a member ended");
                // A member that is asked to remove it may hear of it later than the removed one.
                let older = match why.contains("is an older copy") {
                    true => self.older.remove(&host),
                    false => None,
                };
                if let Some(Older { truth, .. }) = &older
                    && let Some(member) = self.members.get(&host)
                {
                    member.disk.put_back(truth);
                }
                let is_excused = older.is_some()
                    || why.contains("did not take over leadership")
                    || (self.observed.is_changing()
                        && why.contains("was removed from its cluster"))
                    || (self.may_fail.contains(&host)
                        && (why.contains("the disk failed") || why.contains("told to fail")));
                if !is_excused {
                    self.wrong
                        .push(format!("m{} ended by itself: {why}", host.0 + 1));
                }
                self.schedule(RESTART, Action::Start(host));
            }
        }
    }

    fn act(&mut self, action: &Action) {
        trace::event(1);
        trace::bytes(format!("{action:?}").as_bytes());
        tracing::info!(?action, "fault");
        match *action {
            Action::Kill(host) => {
                if self.hosts.contains_key(&host) {
                    self.members[&host].killed();
                    self.hosts.remove(&host);
                }
            }
            Action::PowerOff(host) => {
                if self.hosts.contains_key(&host) {
                    self.members[&host].lost_power();
                    self.network.power_off(host);
                    self.hosts.remove(&host);
                }
            }
            Action::Start(host) => {
                if !self.hosts.contains_key(&host)
                    && let Some(member) = self.members.get_mut(&host)
                {
                    self.starts += 1;
                    self.network.power_on(host);
                    let started = member.start(&self.network);
                    self.hosts.insert(host, started);
                }
            }
            Action::Stop(host) => {
                if self.hosts.contains_key(&host) {
                    self.members[&host].ask_to_stop();
                }
            }
            Action::Pause(host) => self.pause(host, true),
            Action::Resume(host) => self.pause(host, false),
            Action::Cut(from, to) => self.network.cut(from, to),
            Action::Join(from, to) => self.network.join(from, to),
            Action::Swallow(from, to) => self.network.swallow(from, to),
            Action::Pass(from, to) => self.network.pass(from, to),
            Action::Break(one, other) => self.network.break_connections(one, other),
            Action::Weather(slowness) => self.network.set_weather(slowness.weather()),
            Action::DiskLatency(host, latency) => self.disk(host, |disk| disk.set_latency(latency)),
            Action::DiskStall(host, time) => self.disk(host, |disk| disk.stall(time)),
            Action::DiskFails(host) => {
                if self.hosts.contains_key(&host) {
                    self.may_fail.push(host);
                    self.members[&host].disk.fail();
                }
            }
            Action::Copy(host) => {
                if let Some(member) = self.members.get(&host) {
                    let copy = member.disk.copy();
                    self.copies.insert(host, copy);
                }
            }
            Action::PutBack(host) => {
                if !self.hosts.contains_key(&host) {
                    self.put_back(host);
                }
            }
            Action::Skew(host, millis) => {
                if let Some(host) = self.hosts.get_mut(&host) {
                    host.skew = millis * 1_000_000;
                }
            }
        }
    }

    /// Does something to a member's disk, unless it has left.
    fn disk(&self, host: HostId, does: impl FnOnce(&Disk)) {
        if let Some(member) = self.members.get(&host) {
            does(&member.disk);
        }
    }

    fn pause(&mut self, host: HostId, is_paused: bool) {
        if let Some(host) = self.hosts.get_mut(&host) {
            host.is_paused = is_paused;
        }
    }

    /// Ends every fault and starts every member.
    fn leave_alone(&mut self) {
        tracing::info!("everything is repaired");
        self.calendar = Calendar::default();
        self.network.heal();
        self.network.set_weather(Slowness::Calm.weather());
        let members: Vec<HostId> = self.members.keys().copied().collect();
        for host in members {
            self.pause(host, false);
            self.members[&host]
                .disk
                .set_latency(Duration::from_millis(1));
            self.members[&host].disk.stall(Duration::ZERO);
            self.schedule(Duration::from_millis(1), Action::Start(host));
            // One that was just asked to stop still runs, and would never be started again.
            self.schedule(STOPS_IN, Action::Start(host));
        }
    }
}
