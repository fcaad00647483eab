//! Leases: granted, checkpointed, ended. Their countdown is not state.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::law::Law;
use super::ledger::{self, VERSION_BYTES, system_key, tag};
use super::spaces::SYSTEM;
use crate::command::codec::CodecError;
use crate::command::codec::wire::{Reader, Writer};
use crate::command::{
    Fault, Lease, LeaseChange, LeaseId, LeaseRefusal, Refusal, Response, TTL_SECONDS_MAX,
};
use crate::disk::{Rows, Scan};

/// Bytes before the key in a row that attaches it: a tag and the lease.
const ATTACHMENT_PREFIX_BYTES: usize = 1 + size_of::<LeaseId>();
/// Keys of a lease that are looked up together.
const KEYS_AT_ONCE: usize = if cfg!(test) { 2 } else { 128 };

impl Law<'_> {
    pub(super) fn grant(&mut self, id: LeaseId, ttl_seconds: i64) -> Result<Response, Refusal> {
        if ttl_seconds > TTL_SECONDS_MAX {
            return Err(Refusal::Lease(LeaseRefusal::TtlTooLarge));
        }
        if self.leases.contains_key(&id) {
            return Err(Refusal::Lease(LeaseRefusal::Exists(id)));
        }
        let lease = Lease {
            id,
            ttl_seconds,
            remaining_seconds: 0,
        };
        self.store_lease(lease);
        self.ledger.logical_bytes += VERSION_BYTES;
        self.lease_changes.push(LeaseChange::Granted {
            lease,
            index: self.at.index,
        });
        Ok(Response::LeaseGrant { id, ttl_seconds })
    }

    /// Ends a lease: removes its keys in key order in one revision, then the lease. Answers whether it is through; if not,
    /// `from` is where to go on.
    pub(super) fn end_some(&mut self, id: LeaseId, from: &mut Bytes) -> Result<bool, Fault> {
        loop {
            if self.is_spent() {
                return Ok(false);
            }
            let mut keys = Vec::new();
            let next = attached_keys(&self.rows, id, from, KEYS_AT_ONCE, &mut keys)?;
            let versions = self.mvcc.get_each(&self.rows, &keys)?;
            for (key, prev) in keys.into_iter().zip(versions) {
                if let Some(prev) = prev {
                    self.delete(key, &prev);
                }
            }
            match next {
                Some(next) => *from = next,
                None => break,
            }
        }
        self.leases.remove(&id);
        self.rows.delete(SYSTEM, lease_key(id));
        self.ledger.logical_bytes = self.ledger.logical_bytes.saturating_sub(VERSION_BYTES);
        self.lease_changes.push(LeaseChange::Ended(id));
        Ok(true)
    }

    /// Whether there is such a lease.
    pub(super) fn check_lease(&self, id: LeaseId) -> Result<(), Refusal> {
        match self.leases.contains_key(&id) {
            true => Ok(()),
            false => Err(Refusal::Lease(LeaseRefusal::NotFound(id))),
        }
    }

    pub(super) fn checkpoint(&mut self, remaining_seconds: &[(LeaseId, i64)]) -> Response {
        for (id, seconds) in remaining_seconds {
            let Some(lease) = self.leases.get(id).copied() else {
                continue;
            };
            let lease = Lease {
                remaining_seconds: *seconds,
                ..lease
            };
            self.store_lease(lease);
            self.lease_changes.push(LeaseChange::Checkpointed(lease));
        }
        Response::Done
    }

    fn store_lease(&mut self, lease: Lease) {
        let mut out = Writer::with_capacity(20);
        out.i64(lease.ttl_seconds);
        out.i64(lease.remaining_seconds);
        self.rows.put(SYSTEM, lease_key(lease.id), out.finish());
        self.leases.insert(lease.id, lease);
    }
}

pub(super) fn load(rows: &Rows<'_>) -> Result<BTreeMap<LeaseId, Lease>, Fault> {
    let mut leases = BTreeMap::new();
    ledger::each(rows, tag::LEASE, |key, row| {
        let id: [u8; 8] = key
            .try_into()
            .map_err(|_| CodecError::Truncated { at: 0 })?;
        let id = LeaseId(i64::from_be_bytes(id));
        let mut input = Reader::new(row);
        let lease = Lease {
            id,
            ttl_seconds: input.i64()?,
            remaining_seconds: input.i64()?,
        };
        leases.insert(id, lease);
        input.end()
    })?;
    Ok(leases)
}

/// Adds to `keys` the keys attached to a lease from `from` on, in key order, at most `limit`. Answers where to go on.
pub(super) fn attached_keys(
    rows: &Rows<'_>,
    id: LeaseId,
    from: &[u8],
    limit: usize,
    keys: &mut Vec<Bytes>,
) -> Result<Option<Bytes>, Fault> {
    let (start, end) = attachments(id, from);
    let mut left = limit;
    let mut next = None;
    // A scan without an end would go on through what is left of other leases that have ended, to the next that has not.
    rows.scan(SYSTEM, &start, Some(&end), &mut |row, _| {
        let key = Bytes::copy_from_slice(attached_key(row));
        if left == 0 {
            next = Some(key);
            return ControlFlow::Break(());
        }
        left -= 1;
        keys.push(key);
        ControlFlow::Continue(())
    })?;
    Ok(next)
}

/// Where the rows of the keys attached to a lease begin, from this key on, and where they end.
pub(super) fn attachments(id: LeaseId, from: &[u8]) -> (Bytes, Bytes) {
    (attachment_key(id, from), after(id))
}

/// The key that such a row is about.
pub(super) fn attached_key(row: &[u8]) -> &[u8] {
    row.get(ATTACHMENT_PREFIX_BYTES..).unwrap_or_default()
}

/// Where the rows of the keys attached to a lease end.
fn after(id: LeaseId) -> Bytes {
    let id = u64::from_be_bytes(id.0.to_be_bytes());
    match id.checked_add(1) {
        Some(next) => attachment_key(LeaseId(i64::from_be_bytes(next.to_be_bytes())), &[]),
        None => Bytes::from_static(&[tag::ATTACHED + 1]),
    }
}

/// Key of the row that says a key is attached to a lease.
pub(super) fn attachment_key(id: LeaseId, key: &[u8]) -> Bytes {
    let mut stored = Vec::with_capacity(9 + key.len());
    stored.push(tag::ATTACHED);
    stored.extend_from_slice(&id.0.to_be_bytes());
    stored.extend_from_slice(key);
    Bytes::from(stored)
}

fn lease_key(id: LeaseId) -> Bytes {
    system_key(tag::LEASE, &id.0.to_be_bytes())
}
