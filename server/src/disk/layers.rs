//! Rows in memory that fjall does not have yet, in front of those it has.
//!
//! Two layers: the *forming* one takes writes, the *sealed* one is being committed by the writer thread. A read asks
//! forming, sealed, fjall, in this order, so a row that fjall half shows in the middle of a commit is never seen.
//! Invariant: a layer always holds whole turns of applying, because [`Rows`] keeps the lock for as long as one takes; what a
//! turn leaves half done, the state undoes when it is opened.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::Flushed;
use super::memory::{self, MemoryRows};
use super::space::{Layout, Scan, Space, Visit, bounds};
use super::store::{Snapshot, Store};
use crate::command::{Fault, LogPosition};

/// Memory of a row beyond its bytes: two handles, its share of a tree node, two allocations.
const ROW_OVERHEAD_BYTES: usize = 112;
/// A forming layer of this size is committed at once, without waiting for more to coalesce with.
pub(super) const LAYER_BYTES_SOON: usize = 4 << 20;

/// Written rows; `None` is a removed one.
pub(super) struct Layer {
    pub(super) spaces: Vec<BTreeMap<Bytes, Option<Bytes>>>,
    pub(super) bytes: usize,
    pub(super) sweep_below: Option<u64>,
}

impl Layer {
    pub(super) fn empty(layout: &Layout) -> Self {
        Self {
            spaces: layout.names.iter().map(|_| BTreeMap::new()).collect(),
            bytes: 0,
            sweep_below: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0 && self.sweep_below.is_none()
    }

    fn set(&mut self, space: Space, key: Bytes, value: Option<Bytes>) {
        let key_bytes = key.len() + ROW_OVERHEAD_BYTES;
        self.bytes += key_bytes + value.as_ref().map_or(0, Bytes::len);
        if let Some(old) = self.spaces[space.index()].insert(key, value) {
            self.bytes -= key_bytes + old.as_ref().map_or(0, Bytes::len);
        }
    }

    fn forget(&mut self, space: Space, key: &[u8]) {
        if let Some(old) = self.spaces[space.index()].remove(key) {
            self.bytes -= key.len() + ROW_OVERHEAD_BYTES + old.as_ref().map_or(0, Bytes::len);
        }
    }
}

/// Somebody who waits for rows to be durable, and what to answer then.
pub(super) struct Waiting {
    pub(super) applied: Option<LogPosition>,
    pub(super) done: oneshot::Sender<Result<Option<LogPosition>, Fault>>,
}

impl Waiting {
    pub(super) fn answer(self, durable: Result<(), String>) {
        let Self { applied, done } = self;
        // The receiver may have lost interest; a fault is published as well.
        let _ = done.send(durable.map(|()| applied).map_err(Fault::Store));
    }
}

pub(super) struct Layers {
    pub(super) forming: Layer,
    pub(super) sealed: Option<Arc<Layer>>,
    /// Callers that wait for everything written so far to be durable.
    pub(super) persist: Vec<Waiting>,
    /// Callers that wait for a view of everything written so far; none is answered once the writer has failed.
    pub(super) views: Vec<oneshot::Sender<Snapshot>>,
    /// Whether the writer thread sleeps until it is woken.
    pub(super) is_idle: bool,
    pub(super) is_closing: bool,
    /// Why the writer thread is gone.
    pub(super) fault: Option<String>,
}

/// The part that the rows' users and the writer thread share.
pub(super) struct Shared {
    layers: Mutex<Layers>,
    pub(super) wake: Condvar,
    pub(super) flushed: watch::Sender<Flushed>,
    layout: &'static Layout,
    /// The memory that keeps rows across a simulated crash.
    kept: OnceLock<MemoryRows>,
    memtable_bytes_max: AtomicU64,
}

impl Shared {
    pub(super) fn new(layout: &'static Layout) -> Self {
        Self {
            layers: Mutex::new(Layers {
                forming: Layer::empty(layout),
                sealed: None,
                persist: Vec::new(),
                views: Vec::new(),
                is_idle: false,
                is_closing: false,
                fault: None,
            }),
            wake: Condvar::new(),
            flushed: watch::Sender::new(Flushed::default()),
            layout,
            kept: OnceLock::new(),
            memtable_bytes_max: AtomicU64::new(u64::MAX),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Layers> {
        self.layers
            .lock()
            .expect("a thread that panics with the rows in hand ends the process")
    }

    /// Bytes that memtables may take before the next rows wait for one to be written out.
    pub(super) fn memtable_bytes_max(&self) -> u64 {
        self.memtable_bytes_max.load(Relaxed)
    }

    pub(super) fn limit_memtables(&self, bytes: u64) {
        self.memtable_bytes_max.store(bytes, Relaxed);
    }

    pub(super) fn layout(&self) -> &'static Layout {
        self.layout
    }

    pub(super) fn kept(&self) -> Option<&MemoryRows> {
        self.kept.get()
    }

    /// Has what is written from now on kept.
    pub(super) fn keep_in(&self, kept: MemoryRows) {
        // Rows have one keeper, for good.
        let _ = self.kept.set(kept);
    }

    /// All rows in memory.
    pub(super) fn rows_in_memory(&self) -> Vec<(Space, Bytes, Bytes)> {
        let layers = self.lock();
        let spaces = self.layout.spaces();
        let rows = spaces.flat_map(|space| {
            let rows = layers.forming.spaces[space.index()].iter();
            rows.filter_map(move |(key, value)| Some((space, key.clone(), value.clone()?)))
        });
        rows.collect()
    }

    /// Shows rows that were kept.
    pub(super) fn load(&self, rows: Vec<(Space, Bytes, Bytes)>) {
        let mut layers = self.lock();
        for (space, key, value) in rows {
            layers.forming.set(space, key, Some(value));
        }
    }

    pub(super) fn pending_bytes(&self) -> usize {
        let layers = self.lock();
        if layers.fault.is_some() {
            return 0;
        }
        layers.forming.bytes + layers.sealed.as_ref().map_or(0, |sealed| sealed.bytes)
    }

    pub(super) fn ask_persist(&self, waiting: Waiting) {
        let mut layers = self.lock();
        match &layers.fault {
            Some(why) => waiting.answer(Err(why.clone())),
            None => {
                layers.persist.push(waiting);
                self.wake.notify_one();
            }
        }
    }

    pub(super) fn ask_view(&self, view: oneshot::Sender<Snapshot>) {
        let mut layers = self.lock();
        if layers.fault.is_none() {
            layers.views.push(view);
            self.wake.notify_one();
        }
    }

    /// A copy of all rows in memory, by space.
    pub(super) fn copy_in_memory(&self) -> Vec<BTreeMap<Bytes, Bytes>> {
        let layers = self.lock();
        let rows = |(key, value): (&Bytes, &Option<Bytes>)| Some((key.clone(), value.clone()?));
        let spaces = layers.forming.spaces.iter();
        spaces
            .map(|space| space.iter().filter_map(rows).collect())
            .collect()
    }

    /// Drops what is not being committed yet: all of it is about to be replaced.
    pub(super) fn discard(&self) {
        self.lock().forming = Layer::empty(self.layout);
    }

    pub(super) fn close(&self) {
        self.lock().is_closing = true;
        self.wake.notify_one();
    }
}

/// The rows, held for one turn of applying or one slice of a question.
pub struct Rows<'a> {
    layers: MutexGuard<'a, Layers>,
    shared: &'a Shared,
    store: Option<&'a Store>,
    /// The rows written, if memory keeps them.
    batch: memory::Batch,
}

impl<'a> Rows<'a> {
    pub(super) fn new(shared: &'a Shared, store: Option<&'a Store>) -> Self {
        Self {
            layers: shared.lock(),
            shared,
            store,
            batch: memory::Batch::new(),
        }
    }

    /// Refuses if the writer thread has failed: rows written now would never reach the disk.
    pub fn check(&self) -> Result<(), Fault> {
        match &self.layers.fault {
            None => Ok(()),
            Some(why) => Err(Fault::Store(why.clone())),
        }
    }

    /// One row.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        if let Some(found) = self.layers.forming.spaces[space.index()].get(key) {
            return Ok(found.clone());
        }
        if let Some(sealed) = &self.layers.sealed
            && let Some(found) = sealed.spaces[space.index()].get(key)
        {
            return Ok(found.clone());
        }
        self.store.map_or(Ok(None), |store| store.get(space, key))
    }

    /// Writes a row.
    pub fn put(&mut self, space: Space, key: Bytes, value: Bytes) {
        if self.shared.kept().is_some() {
            self.batch.push((space, key.clone(), Some(value.clone())));
        }
        self.layers.forming.set(space, key, Some(value));
    }

    /// Removes a row.
    pub fn delete(&mut self, space: Space, key: Bytes) {
        if self.shared.kept().is_some() {
            self.batch.push((space, key.clone(), None));
        }
        if self.store.is_some() {
            self.layers.forming.set(space, key, None);
        } else {
            self.layers.forming.forget(space, &key);
        }
    }

    /// Lets what the sweep calls garbage below `floor` go, once everything written until now is in fjall.
    pub fn sweep_below(&mut self, floor: u64) -> Result<(), Fault> {
        if self.store.is_none() {
            return self.sweep_memory(floor);
        }
        self.layers.forming.sweep_below = Some(floor);
        Ok(())
    }

    /// Removes what the writer thread removes step by step where there is a store, all at once.
    fn sweep_memory(&mut self, floor: u64) -> Result<(), Fault> {
        let Layout { swept, sweep, .. } = *self.shared.layout();
        let mut garbage = Vec::new();
        self.scan(
            swept,
            &[],
            None,
            &mut |key, value| match sweep(key, value, floor) {
                Some(mut found) => {
                    garbage.append(&mut found.rows);
                    ControlFlow::Continue(())
                }
                None => ControlFlow::Break(()),
            },
        )?;
        for (space, key) in garbage {
            self.delete(space, key);
        }
        Ok(())
    }

    /// Stops everything from here on reaching the disk: half an entry was written.
    pub fn give_up(&mut self, why: &Fault) {
        self.layers.fault = Some(why.to_string());
        self.shared.wake.notify_one();
    }
}

impl Scan for Rows<'_> {
    fn scan(
        &self,
        space: Space,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), Fault> {
        let Some(bounds) = bounds(start, end) else {
            return Ok(());
        };
        let mut forming = self.layers.forming.spaces[space.index()]
            .range::<[u8], _>(bounds)
            .peekable();
        let mut sealed = self
            .layers
            .sealed
            .as_ref()
            .map(|sealed| sealed.spaces[space.index()].range::<[u8], _>(bounds))
            .into_iter()
            .flatten()
            .peekable();
        let mut stored = self.store.map(|store| store.range(None, space, start, end));
        let mut next_stored = match &mut stored {
            Some(stored) => stored.next()?,
            None => None,
        };
        loop {
            // The smallest key wins; among equals the newest layer, and the older ones step over it.
            let in_layers = match (forming.peek(), sealed.peek()) {
                (None, None) => None,
                (Some((key, _)), None) | (None, Some((key, _))) => Some(*key),
                (Some((one, _)), Some((other, _))) => Some((*one).min(*other)),
            };
            let Some(key) = in_layers else {
                let (Some((key, value)), Some(stored)) = (&next_stored, &mut stored) else {
                    return Ok(());
                };
                if visit(Store::strip(key), value).is_break() {
                    return Ok(());
                }
                next_stored = stored.next()?;
                continue;
            };
            if let (Some((stored_key, value)), Some(stored)) = (&next_stored, &mut stored) {
                let stored_key = Store::strip(stored_key);
                if stored_key < key.as_ref() {
                    if visit(stored_key, value).is_break() {
                        return Ok(());
                    }
                    next_stored = stored.next()?;
                    continue;
                }
                if stored_key == key.as_ref() {
                    next_stored = stored.next()?;
                }
            }
            let newest = forming.next_if(|(candidate, _)| *candidate == key);
            let older = sealed.next_if(|(candidate, _)| *candidate == key);
            if let Some((key, Some(value))) = newest.or(older)
                && visit(key, value).is_break()
            {
                return Ok(());
            }
        }
    }
}

impl Drop for Rows<'_> {
    fn drop(&mut self) {
        // Half an entry is never kept.
        if let Some(kept) = self.shared.kept()
            && !self.batch.is_empty()
            && self.layers.fault.is_none()
        {
            kept.write(std::mem::take(&mut self.batch));
        }
        let forming = &self.layers.forming;
        if (self.layers.is_idle && !forming.is_empty()) || forming.bytes >= LAYER_BYTES_SOON {
            self.shared.wake.notify_one();
        }
    }
}
