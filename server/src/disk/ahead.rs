//! Reading rows before a turn asks for them, on a thread that may wait for the disk.
//!
//! Nobody here keeps the rows that are read: they are near afterwards, in fjall's cache of blocks or the operating
//! system's of files. It asks fjall alone, past the layers in memory, so it needs no lock and shows nothing that may
//! be relied on.

use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError, RwLock};

use super::space::Space;
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

    /// Reads one row.
    pub fn get(&self, space: Space, key: &[u8]) -> Result<(), Fault> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            Some(store) => store.get(space, key).map(|_| ()),
            None => Ok(()),
        }
    }

    /// Reads the first `rows` rows of `[start, end)`, and shows their keys.
    pub fn scan(
        &self,
        space: Space,
        start: &[u8],
        end: Option<&[u8]>,
        rows: usize,
        visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
    ) -> Result<(), Fault> {
        let store = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(store) = &*store else { return Ok(()) };
        if end.is_some_and(|end| end <= start) {
            return Ok(());
        }
        let mut stored = store.range(space, start, end);
        for _ in 0..rows {
            let Some((key, _)) = stored.next()? else {
                break;
            };
            if visit(Store::strip(&key)).is_break() {
                break;
            }
        }
        Ok(())
    }
}
