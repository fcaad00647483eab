//! Snapshots.

use crate::command::Revision;

/// Floors that running snapshots hold.
#[derive(Default)]
pub(super) struct Pins;

impl Pins {
    pub(super) fn floor(&self, wanted: Revision) -> Revision {
        wanted
    }
}
