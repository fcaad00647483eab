//! The key space as plainly as it can be said: a copy of everything for each revision.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;

use crate::command::*;
use crate::state::Stored;

type Pairs = BTreeMap<Bytes, KeyValue>;

#[derive(Clone)]
pub(super) struct Model {
    /// The pairs of each revision; the first is revision 0, never seen.
    revisions: Vec<Pairs>,
    /// The changes of each revision.
    events: Vec<Vec<Event>>,
    newest_events: Vec<Event>,
    leases: BTreeSet<LeaseId>,
    floor: Option<u64>,
}

/// Keys that are each other's prefixes, with the bytes that are special inside.
fn random_key(random: &mut StdRng) -> Bytes {
    const BYTES: [u8; 5] = [0, 1, b'a', b'b', 0xff];
    let length = random.random_range(1..4);
    (0..length)
        .map(|_| BYTES[random.random_range(0..BYTES.len())])
        .collect()
}

/// Neighbours in the order of bytes, and the last.
fn lease_id(random: &mut StdRng) -> LeaseId {
    const IDS: [i64; 4] = [2, 3, -2, -1];
    LeaseId(IDS[random.random_range(0..IDS.len())])
}

pub(super) fn random_keys(random: &mut StdRng) -> Keys {
    match random.random_range(0..4) {
        0 => Keys::One(random_key(random)),
        1 => Keys::Range {
            start: random_key(random),
            end: None,
        },
        _ => Keys::Range {
            start: random_key(random),
            end: Some(random_key(random)),
        },
    }
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            revisions: vec![Pairs::new(); 2],
            events: vec![Vec::new(); 2],
            newest_events: Vec::new(),
            leases: BTreeSet::new(),
            floor: None,
        }
    }

    pub(super) fn revision(&self) -> u64 {
        self.revisions.len() as u64 - 1
    }

    pub(super) fn newest_events(&self) -> Vec<Event> {
        self.newest_events.clone()
    }

    pub(super) fn range(&self, keys: &Keys, at: u64, limit: Option<u64>) -> RangeResponse {
        let all: Vec<_> = self.revisions[usize::try_from(at).unwrap()]
            .values()
            .filter(|kv| keys.contains(&kv.key))
            .cloned()
            .collect();
        let count = all.len() as u64;
        let limit = limit.unwrap_or(u64::MAX);
        RangeResponse {
            more: count > limit,
            kvs: all
                .into_iter()
                .take(usize::try_from(limit).unwrap_or(usize::MAX))
                .collect(),
            count,
        }
    }

    pub(super) fn events(&self, from: u64, floor: u64) -> Vec<Event> {
        let from = usize::try_from(from).unwrap();
        let mut events = self.events.get(from..).unwrap_or_default().concat();
        for event in &mut events {
            if self.floor.is_some() && event.kv.mod_revision.0 <= floor {
                event.prev = None;
            }
        }
        events
    }

    /// The contents of etcd's `key` bucket of the changes up to `at` once a compaction to the floor is through.
    pub(super) fn stored(&self, at: u64) -> Vec<Stored> {
        let floor = self.floor.unwrap_or(0);
        let pairs = |revision: u64| &self.revisions[usize::try_from(revision).unwrap()];
        let holds = |revision: u64, kv: &KeyValue| pairs(revision).get(&kv.key) == Some(kv);
        let mut stored = Vec::new();
        for revision in 1..=at {
            let events = &self.events[usize::try_from(revision).unwrap()];
            for (sub, event) in (0..).zip(events) {
                let main = Revision(revision);
                let change = Stamp { main, sub };
                match event.kind {
                    EventKind::Put if revision > floor || holds(floor, &event.kv) => {
                        stored.push(Stored::Put {
                            at: change,
                            stands: holds(at, &event.kv),
                            pair: event.kv.clone(),
                        });
                    }
                    EventKind::Delete if revision >= floor => stored.push(Stored::Removed {
                        at: change,
                        key: event.kv.key.clone(),
                    }),
                    EventKind::Put | EventKind::Delete => {}
                }
            }
        }
        stored
    }

    pub(super) fn random_command(&self, random: &mut StdRng) -> Command {
        match random.random_range(0..20) {
            0 => Command::Kv(KvCommand::Compact {
                revision: Revision(random.random_range(0..self.revision() + 2)),
            }),
            1 => Command::Lease(LeaseCommand::Grant {
                id: lease_id(random),
                ttl_seconds: 10,
            }),
            2 => Command::Lease(LeaseCommand::Revoke {
                id: lease_id(random),
            }),
            3..6 => Command::Kv(KvCommand::DeleteRange(random_delete(random))),
            6..10 => Command::Kv(KvCommand::Txn(random_txn(random, 0))),
            _ => Command::Kv(KvCommand::Put(random_put(random))),
        }
    }

    /// Applies the command; the answer without details.
    pub(super) fn apply(&mut self, command: &Command) -> Result<(), Refusal> {
        self.newest_events = Vec::new();
        match command {
            Command::Kv(KvCommand::Put(put)) => self.check_put(put).map(|()| {
                let mut next = self.pairs().clone();
                let events = self.put(&mut next, put);
                self.commit(next, events);
            }),
            Command::Kv(KvCommand::DeleteRange(delete)) => {
                let mut next = self.pairs().clone();
                let events = self.delete(&mut next, &delete.keys);
                self.commit(next, events);
                Ok(())
            }
            Command::Kv(KvCommand::Txn(txn)) => self.txn(txn),
            Command::Kv(KvCommand::Compact { revision }) => {
                if let Some(floor) = self.floor.filter(|floor| revision.0 <= *floor) {
                    return Err(Refusal::Kv(KvRefusal::Compacted {
                        oldest: Revision(floor),
                    }));
                }
                if revision.0 > self.revision() {
                    return Err(Refusal::Kv(KvRefusal::FutureRevision {
                        current: Revision(self.revision()),
                    }));
                }
                self.floor = Some(revision.0);
                Ok(())
            }
            Command::Lease(LeaseCommand::Grant { id, .. }) => {
                if self.leases.insert(*id) {
                    Ok(())
                } else {
                    Err(Refusal::Lease(LeaseRefusal::Exists(*id)))
                }
            }
            Command::Lease(LeaseCommand::Revoke { id }) => {
                if !self.leases.remove(id) {
                    return Err(Refusal::Lease(LeaseRefusal::NotFound(*id)));
                }
                let mut next = self.pairs().clone();
                let attached: Vec<_> = next
                    .values()
                    .filter(|kv| kv.lease == Some(*id))
                    .map(|kv| kv.key.clone())
                    .collect();
                let mut events = Vec::new();
                for key in attached {
                    events.extend(self.delete(&mut next, &Keys::One(key)));
                }
                self.commit(next, events);
                Ok(())
            }
            other => panic!("{other:?}"),
        }
    }

    fn pairs(&self) -> &Pairs {
        self.revisions.last().unwrap()
    }

    fn commit(&mut self, next: Pairs, events: Vec<Event>) {
        if !events.is_empty() {
            self.revisions.push(next);
            self.events.push(events.clone());
            self.newest_events = events;
        }
    }

    fn check_put(&self, put: &Put) -> Result<(), Refusal> {
        if let PutLease::Set(Some(id)) = put.lease
            && !self.leases.contains(&id)
        {
            return Err(Refusal::Lease(LeaseRefusal::NotFound(id)));
        }
        if put.value == PutValue::Keep && !self.pairs().contains_key(&put.key) {
            return Err(Refusal::Kv(KvRefusal::KeyNotFound));
        }
        Ok(())
    }

    fn txn(&mut self, txn: &Txn) -> Result<(), Refusal> {
        if paths(&txn.success).iter().any(|path| has_twice(path))
            || paths(&txn.failure).iter().any(|path| has_twice(path))
        {
            return Err(Refusal::Kv(KvRefusal::DuplicateKey));
        }
        let mut ops = Vec::new();
        self.along(txn, &mut ops);
        for op in &ops {
            if let Op::Put(put) = op {
                self.check_put(put)?;
            }
        }
        let mut next = self.pairs().clone();
        let mut events = Vec::new();
        for op in ops {
            match op {
                Op::Put(put) => events.extend(self.put(&mut next, put)),
                Op::DeleteRange(delete) => events.extend(self.delete(&mut next, &delete.keys)),
                Op::Range(_) | Op::Txn(_) => {}
            }
        }
        self.commit(next, events);
        Ok(())
    }

    /// The operations that are done, all compares decided on what stands before any of them.
    fn along<'a>(&self, txn: &'a Txn, ops: &mut Vec<&'a Op>) {
        let holds = txn.compares.iter().all(|compare| self.holds(compare));
        for op in if holds { &txn.success } else { &txn.failure } {
            match op {
                Op::Txn(inner) => self.along(inner, ops),
                op => ops.push(op),
            }
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let CompareOperand::Mod(held) = compare.operand else {
            panic!("{compare:?}")
        };
        let found: Vec<_> = self
            .pairs()
            .values()
            .filter(|kv| compare.keys.contains(&kv.key))
            .map(|kv| kv.mod_revision.0.cast_signed())
            .collect();
        match found.as_slice() {
            [] => 0 > held,
            found => found.iter().all(|revision| *revision > held),
        }
    }

    fn put(&self, next: &mut Pairs, put: &Put) -> Vec<Event> {
        let at = Revision(self.revision() + 1);
        let prev = next.get(&put.key).cloned();
        let value = match &put.value {
            PutValue::Set(value) => value.clone(),
            PutValue::Keep => prev.clone().unwrap().value,
        };
        let PutLease::Set(lease) = put.lease else {
            panic!("{put:?}")
        };
        let kv = KeyValue {
            key: put.key.clone(),
            create_revision: prev.as_ref().map_or(at, |prev| prev.create_revision),
            mod_revision: at,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            value,
            lease,
        };
        next.insert(put.key.clone(), kv.clone());
        vec![Event {
            kind: EventKind::Put,
            kv,
            prev,
        }]
    }

    fn delete(&self, next: &mut Pairs, keys: &Keys) -> Vec<Event> {
        let at = Revision(self.revision() + 1);
        let gone: Vec<_> = next
            .values()
            .filter(|kv| keys.contains(&kv.key))
            .cloned()
            .collect();
        gone.into_iter()
            .map(|prev| {
                next.remove(&prev.key);
                Event {
                    kind: EventKind::Delete,
                    kv: KeyValue {
                        key: prev.key.clone(),
                        create_revision: Revision(0),
                        mod_revision: at,
                        version: 0,
                        value: Bytes::new(),
                        lease: None,
                    },
                    prev: Some(prev),
                }
            })
            .collect()
    }
}

fn random_put(random: &mut StdRng) -> Put {
    let length = random.random_range(0..30);
    Put {
        key: random_key(random),
        value: if random.random_bool(0.1) {
            PutValue::Keep
        } else {
            PutValue::Set((0..length).map(|_| random.random::<u8>()).collect())
        },
        lease: PutLease::Set(random.random_bool(0.3).then(|| lease_id(random))),
        prev_kv: random.random_bool(0.5),
    }
}

fn random_delete(random: &mut StdRng) -> DeleteRange {
    let start = random_key(random);
    let mut end = start.to_vec();
    end.push(random.random());
    DeleteRange {
        keys: if random.random_bool(0.5) {
            Keys::One(start)
        } else {
            Keys::Range {
                start,
                end: Some(Bytes::from(end)),
            }
        },
        prev_kv: random.random_bool(0.5),
    }
}

fn random_txn(random: &mut StdRng, depth: usize) -> Txn {
    let compare = |random: &mut StdRng| Compare {
        keys: match random.random_bool(0.5) {
            true => Keys::One(random_key(random)),
            false => random_keys(random),
        },
        result: CompareResult::Greater,
        operand: CompareOperand::Mod(random.random_range(-5..50)),
    };
    Txn {
        compares: (0..random.random_range(0..3))
            .map(|_| compare(random))
            .collect(),
        success: random_ops(random, depth),
        failure: random_ops(random, depth),
    }
}

/// Every list of operations that could be done, whatever the compares say.
fn paths(ops: &[Op]) -> Vec<Vec<&Op>> {
    let mut all = vec![Vec::new()];
    for op in ops {
        let more = match op {
            Op::Txn(inner) => [paths(&inner.success), paths(&inner.failure)].concat(),
            op => vec![vec![op]],
        };
        let mut longer = Vec::new();
        for path in &all {
            for more in &more {
                longer.push([path.as_slice(), more].concat());
            }
        }
        all = longer;
    }
    all
}

fn has_twice(path: &[&Op]) -> bool {
    path.iter().enumerate().any(|(n, op)| {
        let Op::Put(put) = op else { return false };
        path.iter().enumerate().any(|(m, other)| match other {
            Op::Put(other) => m != n && other.key == put.key,
            Op::DeleteRange(delete) => delete.keys.contains(&put.key),
            Op::Range(_) | Op::Txn(_) => false,
        })
    })
}

fn random_ops(random: &mut StdRng, depth: usize) -> Vec<Op> {
    (0..random.random_range(0..if depth == 0 { 5 } else { 3 }))
        .map(|_| {
            if depth < 2 && random.random_bool(0.2) {
                Op::Txn(random_txn(random, depth + 1))
            } else if random.random_bool(0.6) {
                Op::Put(random_put(random))
            } else {
                Op::DeleteRange(random_delete(random))
            }
        })
        .collect()
}
