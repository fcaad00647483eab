//! In place of `memory`, `place` and `stepper` in a build without simulations: a log is written by its thread.
//!
//! Nobody can make a [`Place`] or a [`Stepper`], so that nothing of them runs, and the rest of the room need not ask which
//! build it is.

use std::sync::Arc;

use super::queue::Shared;
use super::{Identity, Wal};
use crate::command::Fault;

/// Where a simulated log is: nowhere.
#[derive(Clone)]
pub struct Place(());

impl Place {
    /// Whether there is a log.
    pub fn has_log(&self) -> bool {
        false
    }

    /// Makes an empty log.
    ///
    /// Errors: that it cannot.
    pub fn create(&self, _: Identity) -> Result<Wal, Fault> {
        self.open()
    }

    /// Opens the log that is here.
    ///
    /// Errors: that it cannot.
    pub fn open(&self) -> Result<Wal, Fault> {
        let why = "this build simulates no disk";
        Err(Fault::Start(why.to_owned()))
    }
}

/// Says when a simulated log writes: there is none.
#[derive(Clone)]
pub struct Stepper(());

/// How what is queued waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waits {
    /// Nobody waits for it: it may be written with what comes next.
    Idly,
    /// Somebody waits until it is durable.
    Urgently,
}

impl Stepper {
    pub(super) fn attach(&self, _: &Arc<Shared>) {}

    pub(super) fn note(&self, _: Waits) {}
}
