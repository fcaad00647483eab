//! Rows that outlive their writer: the disk of a simulated machine.
//!
//! It promises what fjall does: a batch holds whole turns of applying, after a crash there is a prefix of the batches, and all
//! that [`Disk::persist`](super::Disk::persist) confirmed is in it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::space::Space;

/// Rows that one turn wrote; `None` is a removed one.
pub(super) type Batch = Vec<(Space, Bytes, Option<Bytes>)>;
type Kept = BTreeMap<Space, BTreeMap<Bytes, Bytes>>;

#[derive(Default)]
struct Inner {
    durable: Kept,
    /// Written since, oldest first.
    batches: VecDeque<Batch>,
    fails: bool,
}

/// A copy of a machine's rows.
#[derive(Clone)]
pub struct RowsCopy(Kept);

/// The rows of one machine. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryRows(Arc<Mutex<Inner>>);

impl std::fmt::Debug for MemoryRows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryRows")
    }
}

impl MemoryRows {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// Batches that a crash may lose, from the newest on.
    pub fn unsynced(&self) -> usize {
        self.lock().batches.len()
    }

    /// Loses power: of the batches that are not durable only the oldest `kept` remain.
    pub fn crash(&self, kept: usize) {
        let mut inner = self.lock();
        inner.batches.truncate(kept);
        inner.sync();
    }

    /// The rows that a copy of the disk would hold, taken at this moment.
    pub fn copy(&self) -> RowsCopy {
        RowsCopy(self.lock().durable.clone())
    }

    /// Puts a copy in the place of all rows.
    pub fn put_back(&self, copy: &RowsCopy) {
        let mut inner = self.lock();
        inner.durable = copy.0.clone();
        inner.batches.clear();
    }

    /// Whether the next attempts to make rows durable fail.
    pub fn fail(&self, fails: bool) {
        self.lock().fails = fails;
    }

    pub(super) fn write(&self, batch: Batch) {
        self.lock().batches.push_back(batch);
    }

    pub(super) fn sync(&self) -> Result<(), String> {
        let mut inner = self.lock();
        if inner.fails {
            return Err("the disk was told to fail".to_owned());
        }
        inner.sync();
        Ok(())
    }

    /// Takes the place of all rows, durably.
    pub(super) fn replace(&self, rows: &[(Space, Bytes, Bytes)]) {
        let mut durable = Kept::default();
        for (space, key, value) in rows {
            let rows = durable.entry(*space).or_default();
            rows.insert(key.clone(), value.clone());
        }
        let mut inner = self.lock();
        inner.durable = durable;
        inner.batches.clear();
    }

    pub(super) fn rows(&self) -> Vec<(Space, Bytes, Bytes)> {
        let mut inner = self.lock();
        inner.sync();
        let rows = inner.durable.iter().flat_map(|(space, rows)| {
            let rows = rows.iter();
            rows.map(move |(key, value)| (*space, key.clone(), value.clone()))
        });
        rows.collect()
    }
}

impl Inner {
    fn sync(&mut self) {
        for batch in self.batches.drain(..) {
            for (space, key, value) in batch {
                let rows = self.durable.entry(space).or_default();
                match value {
                    Some(value) => rows.insert(key, value),
                    None => rows.remove(&key),
                };
            }
        }
    }
}
