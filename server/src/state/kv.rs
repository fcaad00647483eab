//! Puts and deletes: checked, then written.

use bytes::Bytes;

use super::law::Law;
use super::ledger::VERSION_BYTES;
use super::spaces::SYSTEM;
use super::{No, lease};
use crate::command::{
    Event, EventKind, Fault, KEY_BYTES_MAX, KeyValue, Keys, KvRefusal, LeaseId, LeaseRefusal, Put,
    PutLease, PutValue, Refusal, Response,
};
use crate::mvcc::{self, Budget, Span, Store, Version};

/// Keys that are looked up to be removed together, and their bytes.
const KEYS_AT_ONCE: usize = if cfg!(test) { 2 } else { 128 };
const BYTES_AT_ONCE: usize = 256 << 10;

/// How far the removal of a range has come.
#[derive(Debug, Default)]
pub(super) struct Deleting {
    /// Where to go on, once it has begun.
    next: Option<Bytes>,
    pub(super) deleted: u64,
}

impl Deleting {
    /// Where it goes on, once it has begun.
    pub(super) fn next(&self) -> Option<&Bytes> {
        self.next.as_ref()
    }
}

/// Refuses keys that cannot be stored.
pub(super) fn check_key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::Kv(KvRefusal::EmptyKey));
    }
    // The second bound is for keys of almost nothing but zero bytes: those take two in a past row.
    if key.len() > KEY_BYTES_MAX || !mvcc::key_fits(key) {
        return Err(Refusal::Kv(KvRefusal::KeyTooLong {
            bytes: key.len(),
            max: KEY_BYTES_MAX,
        }));
    }
    Ok(())
}

impl Law<'_> {
    pub(super) fn put_alone(&mut self, put: &Put) -> Result<Response, No> {
        check_key(&put.key)?;
        self.check_put(put)?;
        Ok(Response::Put {
            prev: self.put(put)?,
        })
    }

    /// Refuses a put whose lease or key must exist and does not.
    pub(super) fn check_put(&self, put: &Put) -> Result<(), No> {
        if let PutLease::Set(Some(id)) = put.lease
            && !self.leases.contains_key(&id)
        {
            return Err(LeaseRefusal::NotFound(id).into());
        }
        let needs_key = put.value == PutValue::Keep || put.lease == PutLease::Keep;
        if needs_key && self.mvcc.get(&self.rows, &put.key)?.is_none() {
            return Err(KvRefusal::KeyNotFound.into());
        }
        Ok(())
    }

    /// Writes a checked put; answers the pair it replaced if that was asked for.
    pub(super) fn put(&mut self, put: &Put) -> Result<Option<KeyValue>, Fault> {
        let Put {
            key,
            value,
            lease,
            prev_kv,
        } = put;
        let prev = self.mvcc.get(&self.rows, key)?;
        let kept = match value {
            PutValue::Set(value) => value.clone(),
            PutValue::Keep => prev.as_ref().map(Version::value).unwrap_or_default(),
        };
        let prev_lease = prev.as_ref().and_then(|prev| prev.lease);
        let lease = match lease {
            PutLease::Set(lease) => *lease,
            PutLease::Keep => prev_lease,
        };
        let at = self.stamp();
        let store = Store {
            key,
            value: &kept,
            lease,
        };
        let kv = self.mvcc.put(&mut self.rows, at, &store, prev.as_ref())?;
        self.ledger.logical_bytes += cost(kv.key.len(), kv.value.len());
        if let Some(prev) = &prev {
            self.superseded
                .add(at.main, cost(key.len(), prev.value_bytes()));
        }
        self.attach(&kv.key, prev_lease, lease);
        let prev = prev.map(|prev| prev.pair(kv.key.clone()));
        let prev_bytes = prev.as_ref().map_or(0, |prev| prev.value.len());
        self.spend(1, kv.key.len() + kv.value.len() + prev_bytes);
        let answer = prev.clone().filter(|_| *prev_kv && self.is_wanted);
        self.changed(Event {
            kind: EventKind::Put,
            kv,
            prev,
        });
        Ok(answer)
    }

    /// Removes keys until the turn is over; whether all are gone.
    pub(super) fn delete_some(
        &mut self,
        keys: &Keys,
        deleting: &mut Deleting,
    ) -> Result<bool, Fault> {
        let (start, end) = match keys {
            Keys::One(key) => {
                self.spend(1, 0);
                if let Some(prev) = self.mvcc.get(&self.rows, key)? {
                    self.delete(key.clone(), &prev);
                    deleting.deleted += 1;
                }
                return Ok(true);
            }
            Keys::Range { start, end } => (start, end),
        };
        loop {
            if self.is_spent() {
                return Ok(false);
            }
            let span = Span {
                start: deleting.next.clone().unwrap_or_else(|| start.clone()),
                end: end.clone(),
            };
            let mut budget = Budget {
                rows: KEYS_AT_ONCE,
                bytes: BYTES_AT_ONCE,
            };
            let slice = self.mvcc.live(&self.rows, &span, usize::MAX, &mut budget)?;
            for (key, version) in slice.found {
                self.delete(key, &version);
                deleting.deleted += 1;
            }
            match slice.next {
                Some(next) => deleting.next = Some(next),
                None => return Ok(true),
            }
        }
    }

    /// Removes one key, whose live version is `prev`.
    pub(super) fn delete(&mut self, key: Bytes, prev: &Version) {
        let at = self.stamp();
        self.mvcc.delete(&mut self.rows, at, &key, prev);
        // The tombstone counts until it is compacted, as the version it ended does.
        let tombstone = cost(key.len(), 0);
        self.ledger.logical_bytes += tombstone;
        self.superseded
            .add(at.main, tombstone + cost(key.len(), prev.value_bytes()));
        self.attach(&key, prev.lease, None);
        self.spend(1, key.len() + prev.value_bytes());
        self.changed(Event {
            kind: EventKind::Delete,
            kv: mvcc::removed(key.clone(), at.main),
            prev: Some(prev.pair(key)),
        });
    }

    /// Moves a key from one lease to another.
    fn attach(&mut self, key: &Bytes, from: Option<LeaseId>, to: Option<LeaseId>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.rows.delete(SYSTEM, lease::attachment_key(from, key));
        }
        if let Some(to) = to {
            self.rows
                .put(SYSTEM, lease::attachment_key(to, key), Bytes::new());
        }
    }
}

fn cost(key_bytes: usize, value_bytes: usize) -> u64 {
    (key_bytes + value_bytes) as u64 + VERSION_BYTES
}
