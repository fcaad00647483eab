//! Rows as they stood at one moment, read without a lock, whatever is written meanwhile.
//!
//! Of files it is fjall's own snapshot, taken by the writer thread between two batches, so it holds whole turns of
//! applying. fjall keeps what it shows until it is dropped: whoever holds one does not wait for clients.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::ahead::Ahead;
use super::space::{Scan, Space, Visit, bounds};
use super::store::{Snapshot, Store};
use crate::command::Fault;

/// The rows of one moment. Dropping it lets go of what it held.
pub struct View(Kind);

enum Kind {
    Files { store: Ahead, snapshot: Snapshot },
    Memory(Vec<BTreeMap<Bytes, Bytes>>),
}

impl View {
    pub(super) fn of_files(store: Ahead, snapshot: Snapshot) -> Self {
        Self(Kind::Files { store, snapshot })
    }

    pub(super) fn of_memory(spaces: Vec<BTreeMap<Bytes, Bytes>>) -> Self {
        Self(Kind::Memory(spaces))
    }

    /// Has `read` read it; `None` if its store is closed: another took its place. Closing it waits for `read`, which
    /// should be done in some milliseconds.
    pub fn read<T>(&self, read: impl FnOnce(&dyn Scan) -> T) -> Option<T> {
        match &self.0 {
            Kind::Files { store, snapshot } => {
                store.of_store(|store| read(&OfStore { store, snapshot }))
            }
            Kind::Memory(spaces) => Some(read(spaces)),
        }
    }
}

impl std::fmt::Debug for View {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("View")
    }
}

struct OfStore<'a> {
    store: &'a Store,
    snapshot: &'a Snapshot,
}

impl Scan for OfStore<'_> {
    fn scan(
        &self,
        space: Space,
        start: &[u8],
        end: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> Result<(), Fault> {
        let rows = (space, start, end);
        self.store
            .scan(Some(self.snapshot), rows, usize::MAX, visit)
    }
}

impl Scan for Vec<BTreeMap<Bytes, Bytes>> {
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
        for (key, value) in self[space.index()].range::<[u8], _>(bounds) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}
