//! The log that all members share and the network between them: cut, held up, slow.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::clock::Moment;
use crate::command::{Command, LeaderKey, Lease, LeaseChange, LeaseCommand, LeaseId, MemberId};
use crate::countdown::collect::is_quorum;
use crate::countdown::wire;
use crate::raft::Leadership;
use crate::raft::sideband::{Outbox, Received};

pub(super) struct Entry {
    pub(super) leader: LeaderKey,
    pub(super) command: Command,
}

pub(super) struct Member {
    pub(super) applied: usize,
    pub(super) leases: BTreeMap<LeaseId, Lease>,
    pub(super) changes: mpsc::UnboundedSender<Vec<LeaseChange>>,
    pub(super) received: mpsc::Sender<Received>,
    pub(super) leadership: watch::Sender<Leadership>,
    pub(super) outbox: Outbox,
    pub(super) is_cut_off: bool,
    /// Whether what is sent to it waits.
    pub(super) is_held_up: watch::Sender<bool>,
    pub(super) task: Option<JoinHandle<()>>,
}

pub(super) struct Net {
    pub(super) start: Moment,
    pub(super) term: u64,
    pub(super) log: Vec<Entry>,
    pub(super) members: Vec<Member>,
    /// One way.
    pub(super) delay: Duration,
    /// The committed commands, each with its milliseconds.
    pub(super) committed: Vec<String>,
    /// When each lease ended, in milliseconds.
    pub(super) ended: BTreeMap<i64, u64>,
    /// Heartbeats that carried changes.
    pub(super) tellings: usize,
    /// Whether proposals get nowhere.
    pub(super) loses_proposals: bool,
}

pub(super) fn place(member: MemberId) -> usize {
    usize::try_from(member.0).unwrap() - 1
}

pub(super) fn lock(net: &Mutex<Net>) -> MutexGuard<'_, Net> {
    net.lock().unwrap()
}

impl Net {
    pub(super) fn millis(&self) -> u64 {
        u64::try_from(Moment::now().since(self.start).as_millis()).unwrap()
    }

    pub(super) fn ids(&self) -> BTreeSet<MemberId> {
        (1..=self.members.len() as u64).map(MemberId).collect()
    }

    pub(super) fn member(&mut self, id: MemberId) -> &mut Member {
        &mut self.members[place(id)]
    }

    pub(super) fn reaches(&self, from: MemberId, to: MemberId) -> bool {
        let cut_off = |id: MemberId| {
            let member = &self.members[place(id)];
            member.is_cut_off || member.task.is_none()
        };
        from == to || !(cut_off(from) || cut_off(to))
    }

    pub(super) fn has_quorum(&self, from: MemberId) -> bool {
        let ids = self.ids();
        let reached = ids.iter().filter(|to| self.reaches(from, **to));
        is_quorum(std::slice::from_ref(&ids), &reached.copied().collect())
    }

    /// Appends, as the leader of the newest term.
    pub(super) fn commit(&mut self, leader: LeaderKey, command: Command) {
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

    pub(super) fn catch_up(&mut self, id: MemberId) {
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
pub(super) async fn heartbeat(net: &Arc<Mutex<Net>>, from: MemberId, to: MemberId) -> bool {
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

pub(super) fn follow(net: &mut Net, member: MemberId, key: LeaderKey) {
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
