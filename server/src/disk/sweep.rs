//! Removing rows that nobody can ask for any more, in small steps on the writer thread.

use bytes::Bytes;

use super::space::{Layout, Space};
use super::store::Store;
use crate::command::Fault;

/// Rows looked at in one step: a commit of about a millisecond.
const STEP_ROWS: usize = 512;

/// Where a sweep stands.
#[derive(Default)]
pub(super) struct Sweeper {
    floor: u64,
    /// Rows before this one are gone. Reading on from here steps over their remains in fjall.
    next: Bytes,
    is_done: bool,
}

impl Sweeper {
    pub(super) fn raise(&mut self, floor: u64) {
        if floor > self.floor {
            self.floor = floor;
            self.is_done = false;
        }
    }

    pub(super) fn has_work(&self) -> bool {
        self.floor > 0 && !self.is_done
    }

    /// The next rows to remove from `store`.
    pub(super) fn step(
        &mut self,
        store: &Store,
        layout: &Layout,
    ) -> Result<Vec<(Space, Bytes)>, Fault> {
        let mut rows = store.range(None, layout.swept, &self.next, None);
        let mut garbage = Vec::new();
        for _ in 0..STEP_ROWS {
            let found = rows.next()?;
            let needed = found.as_ref().and_then(|(key, value)| {
                let key = Store::strip(key);
                let found = (layout.sweep)(key, value, self.floor)?;
                Some((Bytes::copy_from_slice(key), found))
            });
            let Some((key, mut found)) = needed else {
                self.is_done = true;
                break;
            };
            garbage.append(&mut found.rows);
            self.next = key;
        }
        Ok(garbage)
    }
}
