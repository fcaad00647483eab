//! Where a simulated log is, before it is open.

use std::sync::Arc;

use super::{Disk, Identity, Options, Stepper, Wal, identity};
use crate::command::Fault;

/// A log on a disk in this process, written when its stepper says so.
#[derive(Clone)]
pub struct Place {
    /// The disk.
    pub disk: Arc<dyn Disk>,
    /// How the log is run; without a thread.
    pub options: Options,
    /// The stepper that says when it writes.
    pub stepper: Stepper,
}

impl Place {
    /// Whether there is a log. One whose making was cut short is none, as a directory that has not got its name yet.
    pub fn has_log(&self) -> bool {
        let identity = self.disk.read_small(identity::FILE);
        identity.is_ok_and(|found| found.is_some())
    }

    /// Makes an empty log.
    ///
    /// Errors: as [`Wal::create_on`].
    pub fn create(&self, identity: Identity) -> Result<Wal, Fault> {
        // Closed at once: the queue has no stepper yet.
        drop(Wal::create_on(self.disk.clone(), &identity, self.options)?);
        self.open()
    }

    /// Opens the log that is here.
    ///
    /// Errors: as [`Wal::open`].
    pub fn open(&self) -> Result<Wal, Fault> {
        Wal::open_stepped(self.disk.clone(), self.options, self.stepper.clone())
    }
}
