//! Members that share a log which commits at once, over a network that can be cut and held up.

mod net;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::Moment;
use crate::command::level::FIRST_LEVEL;
use crate::command::{
    Command, LeaderKey, LeaseCommand, LeaseId, MemberId, Outcome, Response, Revision, Unavailable,
};
use crate::countdown::collect::is_quorum;
use crate::countdown::counted::Counted;
use crate::countdown::wire::{self, Question};
use crate::countdown::{Consensus, count_down};
use crate::raft::Leadership;
use crate::raft::sideband::{Collected, Outbox, Received};
use net::{Member, Net, follow, heartbeat, lock};

/// etcd's election timeout, in these tests.
pub(super) const ELECTION: Duration = Duration::from_secs(1);
const HEARTBEAT: Duration = Duration::from_millis(100);
/// Pause before what cannot be done now is tried again.
const PAUSE: Duration = Duration::from_millis(20);

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

    fn feature_level(&self) -> u32 {
        FIRST_LEVEL
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
        let body = wire::question(FIRST_LEVEL, &question);
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
