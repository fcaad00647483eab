//! Keys by revision: what each key holds now, what it held, and what changed when.
//!
//! Owns three row spaces. *Current*: key to its live version. *Past*: key and the revision that superseded a version, to
//! that version; so the version of a key at revision `r` is the first past row that ends after `r`, if it began by then.
//! *Log*: revision and place in it, to the kind of change and the key; it orders watch history and compaction.
//! A key changes at most once in a revision.
//!
//! It decides nothing: no limits, leases, refusals or revisions of its own. Callers say what to write and only ask for
//! revisions above the compaction floor. Read [`Mvcc`] first, then `leaves.rs` for how current keys are found.

mod history;
mod leaves;
mod moment;
mod past;
mod row;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::command::{Fault, KeyValue, Keys, LeaseId, Revision, Stamp};
use crate::disk::{Rows, Space};
pub(crate) use history::removed;
pub use history::{Change, garbage};
use leaves::{LOADS_KEPT, Leaves};
pub use moment::{Page, log_page, past_page};
use past::Remainders;
pub use row::{Version, key_fits};

/// What a search found.
#[derive(Debug, Default)]
pub struct Found {
    /// The pairs, in key order.
    pub kvs: Vec<KeyValue>,
    /// Keys in the whole range at that revision, however many were asked for.
    pub count: u64,
}

/// What a put stores besides its place in history.
#[derive(Clone, Debug)]
pub struct Store<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The lease it is attached to.
    pub lease: Option<LeaseId>,
}

/// The key space. Caches only: every row is in [`Rows`].
pub struct Mvcc {
    leaves: RefCell<Leaves>,
    remainders: RefCell<Remainders>,
}

impl Mvcc {
    /// Reads the index of current keys. Takes about a second for each two million of them.
    pub fn open(rows: &Rows<'_>) -> Result<Self, Fault> {
        Ok(Self {
            leaves: RefCell::new(Leaves::open(rows)?),
            remainders: RefCell::default(),
        })
    }

    /// Lets go of all rows in memory; they are read again when they are asked for.
    pub fn forget_resident(&self) {
        self.leaves.borrow_mut().forget();
    }

    /// A key's live version.
    pub fn get(&self, rows: &Rows<'_>, key: &[u8]) -> Result<Option<Version>, Fault> {
        self.leaves
            .borrow_mut()
            .get(rows, key)?
            .map(Version::decode)
            .transpose()
    }

    /// Writes a key's next version and answers the pair; `prev` is its live version, from [`get`](Self::get).
    pub fn put(
        &self,
        rows: &mut Rows<'_>,
        at: Stamp,
        store: &Store<'_>,
        prev: Option<&Version>,
    ) -> Result<KeyValue, Fault> {
        let version = Version::new(at, store, prev);
        let key = Bytes::copy_from_slice(store.key);
        let change = match prev {
            None => Change::Create,
            Some(prev) => {
                rows.put(Space::Past, row::past_key(&key, at.main), prev.row());
                Change::Update
            }
        };
        rows.put(Space::Log, row::log_key(at), history::log_row(change, &key));
        rows.put(Space::Current, key.clone(), version.row());
        self.leaves
            .borrow_mut()
            .set(rows, key.clone(), version.row(), prev.is_some())?;
        Ok(version.pair(key))
    }

    /// Removes a key whose live version is `prev`.
    pub fn delete(&self, rows: &mut Rows<'_>, at: Stamp, key: &Bytes, prev: &Version) {
        rows.put(Space::Past, row::past_key(key, at.main), prev.row());
        rows.put(
            Space::Log,
            row::log_key(at),
            history::log_row(Change::Delete, key),
        );
        rows.delete(Space::Current, key.clone());
        self.leaves.borrow_mut().remove(key);
    }

    /// The live pairs of `keys`, at most `limit`.
    pub fn range(&self, rows: &Rows<'_>, keys: &Keys, limit: usize) -> Result<Found, Fault> {
        self.page(rows, keys, limit, usize::MAX)
    }

    /// The first live pairs of `keys`: at most `limit`, and none after those that together have `bytes_max`.
    pub fn page(
        &self,
        rows: &Rows<'_>,
        keys: &Keys,
        limit: usize,
        bytes_max: usize,
    ) -> Result<Found, Fault> {
        let (start, end) = match keys {
            Keys::One(key) => {
                let found = self.get(rows, key)?;
                return Ok(Found {
                    count: u64::from(found.is_some()),
                    kvs: found
                        .filter(|_| limit > 0)
                        .map(|version| version.pair(Bytes::copy_from_slice(key)))
                        .into_iter()
                        .collect(),
                });
            }
            Keys::Range { start, end } => (start, end.as_deref()),
        };
        let mut leaves = self.leaves.borrow_mut();
        let mut kvs = Vec::new();
        let mut is_cut = limit == 0;
        if limit > 0 {
            let mut bytes = 0;
            leaves.visit(rows, start, end, LOADS_KEPT, &mut |key, row| {
                if kvs.len() == limit || bytes >= bytes_max {
                    is_cut = true;
                    return Ok(ControlFlow::Break(()));
                }
                bytes += key.len() + row.len();
                kvs.push(Version::decode(row.clone())?.pair(key.clone()));
                Ok(ControlFlow::Continue(()))
            })?;
        }
        let count = if is_cut {
            leaves.count(rows, start, end)?
        } else {
            kvs.len() as u64
        };
        Ok(Found { kvs, count })
    }

    /// How many keys of `keys` are live.
    pub fn count(&self, rows: &Rows<'_>, keys: &Keys) -> Result<u64, Fault> {
        Ok(self.range(rows, keys, 0)?.count)
    }

    /// Remembers that at `revision` so many keys of the range are left after `last`, for the page that may follow.
    pub fn remember(&self, revision: Revision, keys: &Keys, last: &[u8], left: u64) {
        if let Keys::Range { end, .. } = keys {
            self.remainders
                .borrow_mut()
                .remember(revision, end.as_ref(), last, left);
        }
    }
}
