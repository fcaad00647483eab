//! Members that share a log which commits at once, over a network that can be cut and held up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::Moment;
use crate::command::{
    Command, LeaderKey, Lease, LeaseChange, LeaseCommand, LeaseId, MemberId, Outcome, Response,
    Revision, Unavailable,
};
use crate::countdown::collect::is_quorum;
use crate::countdown::counted::Counted;
use crate::countdown::wire::{self, Question};
use crate::countdown::{Consensus, count_down};
use crate::raft::Leadership;
use crate::raft::sideband::{Collected, Outbox, Received};

/// etcd's election timeout, in these tests.
pub(super) const ELECTION: Duration = Duration::from_secs(1);
const HEARTBEAT: Duration = Duration::from_millis(100);
/// Pause before what cannot be done now is tried again.
const PAUSE: Duration = Duration::from_millis(20);

struct Entry {
    leader: LeaderKey,
    command: Command,
}

struct Member {
    applied: usize,
    leases: BTreeMap<LeaseId, Lease>,
    changes: mpsc::UnboundedSender<Vec<LeaseChange>>,
    received: mpsc::Sender<Received>,
    leadership: watch::Sender<Leadership>,
    outbox: Outbox,
    is_cut_off: bool,
    /// Whether what is sent to it waits.
    is_held_up: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

struct Net {
    start: Moment,
    term: u64,
    log: Vec<Entry>,
    members: Vec<Member>,
    /// One way.
    delay: Duration,
    /// The committed commands, each with its milliseconds.
    committed: Vec<String>,
    /// When each lease ended, in milliseconds.
    ended: BTreeMap<i64, u64>,
    /// Heartbeats that carried changes.
    tellings: usize,
    /// Whether proposals get nowhere.
    loses_proposals: bool,
}

/// One member's hold on consensus.
#[derive(Clone)]
struct Node {
    id: MemberId,
    net: Arc<Mutex<Net>>,
}

pub(super) struct Cluster {
    net: Arc<Mutex<Net>>,
    heart: JoinHandle<()>,
}

fn place(member: MemberId) -> usize {
    usize::try_from(member.0).unwrap() - 1
}

fn lock(net: &Mutex<Net>) -> MutexGuard<'_, Net> {
    net.lock().unwrap()
}

impl Net {
    fn millis(&self) -> u64 {
        u64::try_from(Moment::now().since(self.start).as_millis()).unwrap()
    }

    fn ids(&self) -> BTreeSet<MemberId> {
        (1..=self.members.len() as u64).map(MemberId).collect()
    }

    fn member(&mut self, id: MemberId) -> &mut Member {
        &mut self.members[place(id)]
    }

    fn reaches(&self, from: MemberId, to: MemberId) -> bool {
        let cut_off = |id: MemberId| {
            let member = &self.members[place(id)];
            member.is_cut_off || member.task.is_none()
        };
        from == to || !(cut_off(from) || cut_off(to))
    }

    fn has_quorum(&self, from: MemberId) -> bool {
        let ids = self.ids();
        let reached = ids.iter().filter(|to| self.reaches(from, **to));
        is_quorum(std::slice::from_ref(&ids), &reached.copied().collect())
    }

    /// Appends, as the leader of the newest term.
    fn commit(&mut self, leader: LeaderKey, command: Command) {
        let line = describe(
            self.millis(),
            &command,
            &self.members[place(leader.1)].leases,
        );
        self.committed.push(line);
        self.log.push(Entry { leader, command });
        for to in self.ids() {
            if self.reaches(leader.1, to) {
                self.catch_up(to);
            }
        }
    }

    fn catch_up(&mut self, id: MemberId) {
        let now = self.millis();
        let Self {
            log,
            members,
            ended,
            ..
        } = self;
        let member = &mut members[place(id)];
        let from = member.applied;
        for (offset, entry) in log[from..].iter().enumerate() {
            let index = (from + offset + 1) as u64;
            let changes = apply(&mut member.leases, index, entry);
            for change in &changes {
                if let LeaseChange::Ended(id) = change {
                    ended.entry(id.0).or_insert(now);
                }
            }
            // The member may be down.
            let _ = member.changes.send(changes);
            member.applied += 1;
        }
    }
}

fn describe(millis: u64, command: &Command, leases: &BTreeMap<LeaseId, Lease>) -> String {
    match command {
        Command::Lease(LeaseCommand::Grant { id, ttl_seconds }) => {
            format!("{millis} grant {} {ttl_seconds}", id.0)
        }
        Command::Lease(LeaseCommand::Expire { term, ids }) => match ids.len() {
            count @ 10.. => format!("{millis} expire {count}"),
            _ => {
                let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
                format!("{millis} expire {ids:?} in term {term}")
            }
        },
        Command::Lease(LeaseCommand::Checkpoint { remaining_seconds }) => {
            let known = remaining_seconds
                .iter()
                .filter(|(id, _)| leases.contains_key(id));
            let left: Vec<_> = known.map(|(id, left)| (id.0, *left)).collect();
            format!("{millis} record {left:?}")
        }
        Command::Lease(LeaseCommand::Revoke { id }) => format!("{millis} revoke {}", id.0),
        other => panic!("{other:?}"),
    }
}

fn apply(leases: &mut BTreeMap<LeaseId, Lease>, index: u64, entry: &Entry) -> Vec<LeaseChange> {
    let mut changes = Vec::new();
    let mut end = |leases: &mut BTreeMap<LeaseId, Lease>, id: LeaseId| {
        if leases.remove(&id).is_some() {
            changes.push(LeaseChange::Ended(id));
        }
    };
    match &entry.command {
        Command::Lease(LeaseCommand::Grant { id, ttl_seconds }) => {
            let lease = Lease {
                id: *id,
                ttl_seconds: *ttl_seconds,
                remaining_seconds: 0,
            };
            leases.insert(*id, lease);
            changes.push(LeaseChange::Granted { lease, index });
        }
        Command::Lease(LeaseCommand::Expire { term, ids }) if *term == entry.leader.0 => {
            ids.iter().for_each(|id| end(leases, *id));
        }
        Command::Lease(LeaseCommand::Expire { .. }) => {}
        Command::Lease(LeaseCommand::Revoke { id }) => end(leases, *id),
        Command::Lease(LeaseCommand::Checkpoint { remaining_seconds }) => {
            for (id, left) in remaining_seconds {
                if let Some(lease) = leases.get_mut(id) {
                    lease.remaining_seconds = *left;
                    changes.push(LeaseChange::Checkpointed(*lease));
                }
            }
        }
        other => panic!("{other:?}"),
    }
    changes
}

/// A heartbeat from a leader and its answer. Whether it was answered.
async fn heartbeat(net: &Arc<Mutex<Net>>, from: MemberId, to: MemberId) -> bool {
    let (outbox, key, delay, mut held_up) = {
        let mut net = lock(net);
        let now = *net.member(from).leadership.borrow();
        let Some(key) = now.key().filter(|_| now.is_self) else {
            return false;
        };
        let outbox = net.member(from).outbox.clone();
        (
            outbox,
            key,
            net.delay,
            net.member(to).is_held_up.subscribe(),
        )
    };
    let carried = outbox.carried(key, to);
    tokio::time::sleep(delay).await;
    held_up.wait_for(|held_up| !held_up).await.unwrap();
    let answer = {
        let mut net = lock(net);
        if !net.reaches(from, to) || net.member(to).leadership.borrow().term > key.0 {
            return false;
        }
        follow(&mut net, to, key);
        net.catch_up(to);
        carried.as_ref().map(|carried| {
            let delta = wire::read_delta(carried.body.clone()).unwrap();
            net.tellings += usize::from(!delta.changes.is_empty());
            let (reply, answer) = oneshot::channel();
            let said = Received::Heartbeat {
                leadership: key,
                body: carried.body.clone(),
                waited: carried.waited,
                reply,
            };
            net.member(to).received.try_send(said).ok().unwrap();
            answer
        })
    };
    let answer = match answer {
        Some(answer) => answer.await.ok(),
        None => None,
    };
    tokio::time::sleep(delay).await;
    if !lock(net).reaches(from, to) {
        return false;
    }
    if let (Some(carried), Some(answer)) = (carried, answer) {
        outbox.answered(key, to, &carried, answer);
    }
    true
}

fn follow(net: &mut Net, member: MemberId, key: LeaderKey) {
    let now = Leadership {
        term: key.0,
        leader: Some(key.1),
        is_self: member == key.1,
    };
    net.member(member).leadership.send_if_modified(|before| {
        let is_new = *before != now;
        *before = now;
        is_new
    });
}

impl Consensus for Node {
    async fn propose(&self, command: Command) -> Result<Outcome, Unavailable> {
        tokio::task::yield_now().await;
        if lock(&self.net).loses_proposals {
            return std::future::pending().await;
        }
        loop {
            {
                let mut net = lock(&self.net);
                let now = *net.member(self.id).leadership.borrow();
                let newest = net.term;
                if let Some(key) = now.key().filter(|_| now.is_self && now.term == newest)
                    && net.has_quorum(self.id)
                {
                    net.commit(key, command);
                    return Ok(Outcome {
                        revision: Revision(1),
                        result: Ok(Response::Done),
                    });
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn read_barrier(&self) -> Result<(), Unavailable> {
        let ids = lock(&self.net).ids();
        let others = ids.iter().filter(|id| **id != self.id);
        let others: Vec<MemberId> = others.copied().collect();
        let mut beats: FuturesUnordered<_> = others
            .iter()
            .map(|to| async {
                while !heartbeat(&self.net, self.id, *to).await {
                    tokio::time::sleep(PAUSE).await;
                }
                *to
            })
            .collect();
        let mut heard = BTreeSet::from([self.id]);
        while !is_quorum(std::slice::from_ref(&ids), &heard) {
            heard.extend(beats.next().await);
        }
        lock(&self.net).catch_up(self.id);
        Ok(())
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        lock(&self.net).member(self.id).leadership.subscribe()
    }

    fn applied(&self) -> u64 {
        lock(&self.net).member(self.id).applied as u64
    }

    fn voters(&self) -> Vec<BTreeSet<MemberId>> {
        vec![lock(&self.net).ids()]
    }

    fn others(&self) -> Vec<MemberId> {
        let ids = lock(&self.net).ids();
        ids.into_iter().filter(|id| *id != self.id).collect()
    }

    fn outbox(&self) -> Outbox {
        lock(&self.net).member(self.id).outbox.clone()
    }

    async fn collect(
        &self,
        member: MemberId,
        leadership: LeaderKey,
        body: Bytes,
    ) -> Result<Collected, Unavailable> {
        let delay = lock(&self.net).delay;
        tokio::time::sleep(delay).await;
        let (reply, pages) = oneshot::channel();
        {
            let mut net = lock(&self.net);
            if !net.reaches(self.id, member) {
                return Err(Unavailable::LeaderChanged);
            }
            let asked = Received::Collect {
                leadership,
                body,
                reply,
            };
            net.member(member).received.try_send(asked).ok().unwrap();
        }
        let pages = pages.await.map_err(|_| Unavailable::LeaderChanged)?;
        tokio::time::sleep(delay).await;
        Ok(Collected {
            received: Moment::now(),
            pages: pages.collect(),
        })
    }
}

impl Cluster {
    /// Starts `count` members, led by the first.
    pub(super) async fn start(count: u64) -> Self {
        let net = Net {
            start: Moment::now(),
            term: 0,
            log: Vec::new(),
            members: Vec::new(),
            delay: Duration::from_millis(1),
            committed: Vec::new(),
            ended: BTreeMap::new(),
            tellings: 0,
            loses_proposals: false,
        };
        let net = Arc::new(Mutex::new(net));
        for id in 1..=count {
            let member = Member {
                applied: 0,
                leases: BTreeMap::new(),
                changes: mpsc::unbounded_channel().0,
                received: mpsc::channel(1).0,
                leadership: watch::channel(Leadership::default()).0,
                outbox: Outbox::default(),
                is_cut_off: false,
                is_held_up: watch::channel(false).0,
                task: None,
            };
            lock(&net).members.push(member);
            run(&net, MemberId(id));
        }
        let beating = net.clone();
        let heart = tokio::spawn(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                let ids = lock(&beating).ids();
                for (from, to) in ids
                    .iter()
                    .flat_map(|from| ids.iter().map(|to| (*from, *to)))
                {
                    let leads = lock(&beating).member(from).leadership.borrow().is_self;
                    if leads && from != to {
                        let net = beating.clone();
                        tokio::spawn(async move { heartbeat(&net, from, to).await });
                    }
                }
            }
        });
        let cluster = Self { net, heart };
        cluster.elect(1);
        millis(500).await;
        cluster.lock().start = Moment::now();
        cluster
    }

    fn lock(&self) -> MutexGuard<'_, Net> {
        lock(&self.net)
    }

    /// Milliseconds since the start.
    pub(super) fn now(&self) -> u64 {
        self.lock().millis()
    }

    /// Makes a member lead a new term, for all that it reaches. Needs a majority, as an election does.
    pub(super) fn elect(&self, member: u64) {
        let mut net = self.lock();
        let id = MemberId(member);
        assert!(net.has_quorum(id), "nobody elects {member}");
        net.term += 1;
        let key = (net.term, id);
        for to in net.ids() {
            if net.reaches(id, to) {
                follow(&mut net, to, key);
            }
        }
    }

    /// Nobody leads, as far as this member knows.
    pub(super) fn depose(&self, member: u64) {
        let mut net = self.lock();
        let term = net.term;
        let none = Leadership {
            term,
            ..Leadership::default()
        };
        net.member(MemberId(member)).leadership.send_replace(none);
    }

    pub(super) fn cut_off(&self, member: u64, is_cut_off: bool) {
        self.lock().member(MemberId(member)).is_cut_off = is_cut_off;
    }

    /// Messages to the member wait until this is taken back.
    pub(super) fn hold_up(&self, member: u64, is_held_up: bool) {
        let mut net = self.lock();
        net.member(MemberId(member))
            .is_held_up
            .send_replace(is_held_up);
    }

    /// Ends a member's process.
    pub(super) fn kill(&self, member: u64) {
        let mut net = self.lock();
        let id = MemberId(member);
        net.member(id).outbox.close();
        net.member(id)
            .leadership
            .send_replace(Leadership::default());
        net.member(id).task.take().unwrap().abort();
    }

    /// Starts it again: its log is there, what it only heard is not.
    pub(super) fn restart(&self, member: u64) {
        run(&self.net, MemberId(member));
    }

    pub(super) fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    pub(super) fn lose_proposals(&self, loses_proposals: bool) {
        self.lock().loses_proposals = loses_proposals;
    }

    fn commit(&self, command: Command) {
        let mut net = self.lock();
        let leader = net.ids().into_iter().find(|id| {
            let now = *net.member(*id).leadership.borrow();
            now.is_self && now.term == net.term
        });
        let key = (net.term, leader.unwrap());
        net.commit(key, command);
    }

    pub(super) fn grant(&self, id: i64, ttl_seconds: i64) {
        self.commit(Command::Lease(LeaseCommand::Grant {
            id: LeaseId(id),
            ttl_seconds,
        }));
    }

    pub(super) fn revoke(&self, id: i64) {
        self.commit(Command::Lease(LeaseCommand::Revoke { id: LeaseId(id) }));
    }

    pub(super) async fn ask(
        &self,
        member: u64,
        question: Question,
    ) -> Result<Vec<i64>, Unavailable> {
        let (reply, answer) = oneshot::channel();
        let received = self.lock().member(MemberId(member)).received.clone();
        let body = wire::question(&question);
        let sent = received.send(Received::Question { body, reply }).await;
        sent.map_err(|_| Unavailable::Stopped)?;
        let answer = answer.await.map_err(|_| Unavailable::Stopped)??;
        let times = wire::read_times(answer).unwrap().into_iter();
        let none = match question {
            Question::Renew(_) => 0,
            Question::Remaining(_) => -1,
        };
        let seconds = |time: Duration| time.as_secs().try_into().unwrap();
        Ok(times.map(|time| time.map_or(none, seconds)).collect())
    }

    /// Renews a lease through a member that leads.
    pub(super) async fn renew(&self, member: u64, id: i64) -> Result<i64, Unavailable> {
        let renewed = self.ask(member, Question::Renew(vec![lease(id)]));
        Ok(renewed.await?[0])
    }

    /// The commands committed since the last call.
    pub(super) fn committed(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().committed)
    }

    /// When a lease ended, in milliseconds since the start.
    pub(super) fn ended(&self, id: i64) -> Option<u64> {
        self.lock().ended.get(&id).copied()
    }

    /// Heartbeats that carried changes until now.
    pub(super) fn tellings(&self) -> usize {
        self.lock().tellings
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.heart.abort();
        for member in &mut self.lock().members {
            if let Some(task) = member.task.take() {
                task.abort();
            }
        }
    }
}

/// Starts a member's countdown.
fn run(net: &Arc<Mutex<Net>>, id: MemberId) {
    let (changes, changes_in) = mpsc::unbounded_channel();
    let (received, received_in) = mpsc::channel(256);
    {
        let mut net = lock(net);
        let member = net.member(id);
        member.changes = changes;
        member.received = received;
        // The answers of an earlier process are gone with it.
        member.outbox.close();
    }
    let node = Node {
        id,
        net: net.clone(),
    };
    let state = net.clone();
    let leases = move || {
        let mut net = lock(&state);
        net.member(id).leases.values().copied().collect()
    };
    let task = count_down(node, leases, ELECTION, changes_in, received_in);
    lock(net).member(id).task = Some(tokio::spawn(task));
}

pub(super) fn lease(id: i64) -> Counted {
    Counted::Lease(LeaseId(id))
}

pub(super) async fn millis(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}
