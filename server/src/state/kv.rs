//! Puts and deletes: checked, then written.

use bytes::Bytes;

use super::apply::{Law, Ruling};
use super::ledger::VERSION_BYTES;
use super::{KEY_BYTES_MAX, lease};
use crate::command::{
    DeleteRange, Event, EventKind, Fault, KeyValue, LeaseId, Put, PutLease, PutValue, Refusal,
    Response,
};
use crate::disk::Space;
use crate::mvcc::{self, Store, Version};

/// Refuses keys that cannot be stored.
pub(super) fn check_key(key: &[u8]) -> Result<(), Refusal> {
    if key.is_empty() {
        return Err(Refusal::EmptyKey);
    }
    // The second bound is for keys of almost nothing but zero bytes: those take two in a past row.
    if key.len() > KEY_BYTES_MAX || !mvcc::key_fits(key) {
        return Err(Refusal::KeyTooLong {
            bytes: key.len(),
            max: KEY_BYTES_MAX,
        });
    }
    Ok(())
}

impl Law<'_> {
    pub(super) fn put_alone(&mut self, put: &Put) -> Ruling {
        if let Err(refusal) = check_key(&put.key) {
            return Ok(Err(refusal));
        }
        if let Err(refusal) = self.check_put(put)? {
            return Ok(Err(refusal));
        }
        Ok(Ok(Response::Put {
            prev: self.put(put)?,
        }))
    }

    pub(super) fn delete_alone(&mut self, delete: &DeleteRange) -> Ruling {
        let (deleted, prevs) = self.delete_range(delete)?;
        Ok(Ok(Response::DeleteRange { deleted, prevs }))
    }

    /// Refuses a put whose lease or key must exist and does not.
    pub(super) fn check_put(&mut self, put: &Put) -> Result<Result<(), Refusal>, Fault> {
        if let PutLease::Set(Some(id)) = put.lease
            && !self.leases.contains_key(&id)
        {
            return Ok(Err(Refusal::LeaseNotFound(id)));
        }
        let needs_key = put.value == PutValue::Keep || put.lease == PutLease::Keep;
        if needs_key && self.mvcc.get(&self.rows, &put.key)?.is_none() {
            return Ok(Err(Refusal::KeyNotFound));
        }
        Ok(Ok(()))
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
            self.trash.add(at.main, cost(key.len(), prev.value_bytes()));
        }
        self.attach(&kv.key, prev_lease, lease);
        let prev = prev.map(|prev| prev.pair(kv.key.clone()));
        self.changed(Event {
            kind: EventKind::Put,
            kv,
            prev: prev.clone(),
        });
        Ok(prev.filter(|_| *prev_kv))
    }

    /// Removes the keys of a range; answers how many, and the pairs if they were asked for.
    pub(super) fn delete_range(
        &mut self,
        delete: &DeleteRange,
    ) -> Result<(u64, Vec<KeyValue>), Fault> {
        let DeleteRange { keys, prev_kv } = delete;
        let found = self.mvcc.range(&self.rows, keys, usize::MAX)?.kvs;
        let deleted = found.len() as u64;
        let mut prevs = Vec::new();
        for kv in found {
            if *prev_kv {
                prevs.push(kv.clone());
            }
            self.delete(kv.key)?;
        }
        Ok((deleted, prevs))
    }

    /// Removes one key, if it is there.
    pub(super) fn delete(&mut self, key: Bytes) -> Result<(), Fault> {
        let Some(prev) = self.mvcc.get(&self.rows, &key)? else {
            return Ok(());
        };
        let at = self.stamp();
        self.mvcc.delete(&mut self.rows, at, &key, &prev);
        // The tombstone counts until it is compacted, as the version it ended does.
        let tombstone = cost(key.len(), 0);
        self.ledger.logical_bytes += tombstone;
        self.trash
            .add(at.main, tombstone + cost(key.len(), prev.value_bytes()));
        self.attach(&key, prev.lease, None);
        self.changed(Event {
            kind: EventKind::Delete,
            kv: mvcc::removed(key.clone(), at.main),
            prev: Some(prev.pair(key)),
        });
        Ok(())
    }

    /// Moves a key from one lease to another.
    fn attach(&mut self, key: &Bytes, from: Option<LeaseId>, to: Option<LeaseId>) {
        if from == to {
            return;
        }
        if let Some(from) = from {
            self.rows
                .delete(Space::System, lease::attachment_key(from, key));
        }
        if let Some(to) = to {
            self.rows
                .put(Space::System, lease::attachment_key(to, key), Bytes::new());
        }
    }
}

fn cost(key_bytes: usize, value_bytes: usize) -> u64 {
    (key_bytes + value_bytes) as u64 + VERSION_BYTES
}
