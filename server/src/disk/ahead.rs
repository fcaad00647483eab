//! Reading rows before a turn asks for them, on a thread that may wait for the disk.
//!
//! Nobody here keeps the rows that are read: they are near afterwards, in fjall's cache of blocks or the operating
//! system's of files. It asks fjall alone, past the layers in memory, so it needs no lock and shows nothing that may
//! be relied on.

use std::sync::{Arc, PoisonError, RwLock};

use super::space::{Space, Visit};
use super::store::Store;
use crate::command::Fault;

/// Reads rows of fjall. Clones read the same; once the store is closed there are none.
#[derive(Clone)]
pub struct Ahead(Arc<RwLock<Option<Arc<Store>>>>);

impl Ahead {
    pub(super) fn of(store: Arc<Store>) -> Self {
        Self(Arc::new(RwLock::new(Some(store))))
    }

    /// Lets go of the store, once nobody reads it.
    pub(super) fn close(&self) {
        // The thread that panicked only read.
        let mut store = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *store = None;
    }

    /// Reads one row, and says of how many bytes its value is.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<usize, Fault> {
        let read = self.of_store(|store| store.get(space, key));
        let row = read.transpose()?.flatten();
        Ok(row.map_or(0, |row| row.len()))
    }

    /// The result of `read` on the store; `None` if that is closed.
    pub(super) fn of_store<T>(&self, read: impl FnOnce(&Store) -> T) -> Option<T> {
        let store = self.0.read().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map(|store| read(store))
    }

    /// Reads the first `rows` rows of `[start, end)`, and shows them.
    pub fn scan(
        &self,
        space: Space,
        start: &[u8],
        end: Option<&[u8]>,
        rows: usize,
        visit: Visit<'_>,
    ) -> Result<(), Fault> {
        let read = |store: &Store| store.scan(None, (space, start, end), rows, visit);
        self.of_store(read).unwrap_or(Ok(()))
    }
}
