//! Snapshots: one moment of the state as a stream of checksummed chunks, in bounded memory, while writes go on.
//!
//! Versioned rows are read as of the moment's revision; the small rows, which keep only their latest version, are
//! copied when the stream begins. While it runs, nothing that its moment needs is swept. The receiver fills a fresh
//! generation of the state directory, which becomes current only when all of it is there and its index is read. Attachments of keys to leases
//! are not sent: they follow from the keys. `container.rs` has the bytes, `reader.rs` and `writer.rs` the two ends.

mod container;
mod reader;
mod writer;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::State;
use crate::command::Revision;
pub use reader::SnapshotReader;
pub use writer::{InstallReady, SnapshotWriter};

/// Floors that running snapshots hold.
#[derive(Clone, Default)]
pub(super) struct Pins {
    held: Arc<Held>,
}

#[derive(Default)]
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

    fn hold(&self, floor: Revision) -> Pin {
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

/// Keeps what a running snapshot needs.
struct Pin {
    pins: Pins,
    floor: Revision,
}

impl Pin {
    fn is_of(&self, pins: &Pins) -> bool {
        Arc::ptr_eq(&self.pins.held, &pins.held)
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
    /// Holds the state as it is now, to be read in chunks.
    pub fn begin_snapshot(&mut self) -> SnapshotReader {
        let floor = self.ledger.floor.unwrap_or_default();
        SnapshotReader::new(self, self.pins.hold(floor))
    }
}
