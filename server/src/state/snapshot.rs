//! Snapshots: one moment of the state as a stream of checksummed chunks, in bounded memory, while writes go on.
//!
//! Versioned rows are read as of the moment's revision; the small rows, which keep only their latest version, are
//! copied when the stream begins. While it runs, nothing that its moment needs is swept. The receiver fills a fresh
//! generation of the state directory, which becomes current only when all of it is there and its index is read. Attachments of keys to leases
//! are not sent: they follow from the keys. `container.rs` has the bytes, `reader.rs` and `writer.rs` the two ends.

mod container;
#[cfg(test)]
pub(super) mod fuzz;
mod reader;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::State;
use crate::command::{Fault, Revision};
pub use reader::SnapshotReader;
pub use writer::{InstallReady, SnapshotWriter};

/// Floors that running snapshots and readings hold.
#[derive(Clone, Debug, Default)]
pub(super) struct Pins {
    held: Arc<Held>,
}

#[derive(Debug, Default)]
struct Held {
    floors: Mutex<Vec<Revision>>,
    was_released: AtomicBool,
}

impl Pins {
    /// How far rows may be swept if `wanted` is the compaction floor.
    pub(super) fn floor(&self, wanted: Revision) -> Revision {
        let floors = self
            .held
            .floors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        floors.iter().copied().fold(wanted, Revision::min)
    }

    /// Whether a pin was released since this was last asked.
    pub(super) fn take_released(&self) -> bool {
        self.held.was_released.swap(false, Ordering::Relaxed)
    }

    /// Keeps everything that can be read at `floor` or later.
    pub(super) fn hold(&self, floor: Revision) -> Pin {
        let mut floors = self
            .held
            .floors
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        floors.push(floor);
        Pin {
            pins: self.clone(),
            floor,
        }
    }
}

/// Keeps what a running snapshot or reading needs.
#[derive(Debug)]
pub(super) struct Pin {
    pins: Pins,
    floor: Revision,
}

impl Pin {
    /// Whether it holds anything of the state whose pins these are.
    pub(super) fn is_of(&self, pins: &Pins) -> bool {
        Arc::ptr_eq(&self.pins.held, &pins.held)
    }

    /// The compaction floor that it holds.
    pub(super) fn floor(&self) -> Revision {
        self.floor
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let held = &self.pins.held;
        let mut floors = held.floors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = floors.iter().position(|floor| *floor == self.floor) {
            floors.swap_remove(at);
        }
        held.was_released.store(true, Ordering::Relaxed);
    }
}

impl State {
    /// Lets go of what was kept only for readers that have ended since; to be called now and then where nothing is applied.
    pub fn sweep_released(&self) -> Result<(), Fault> {
        if let Some(floor) = self.ledger.floor
            && self.pins.take_released()
        {
            self.disk.rows().sweep_below(self.pins.floor(floor).0)?;
        }
        Ok(())
    }

    /// Holds the state as it is now, to be read in chunks. Of a revision in the making it has nothing.
    pub fn begin_snapshot(&mut self) -> SnapshotReader {
        let floor = self.ledger.floor.unwrap_or_default();
        SnapshotReader::new(self, self.pins.hold(floor))
    }
}
