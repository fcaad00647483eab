//! In place of `memory` in a build without simulations: only files outlive their process.
//!
//! Nobody can make a value of these types, so that nothing of them runs, and the rest of the room need not ask which build
//! it is.

use bytes::Bytes;

use super::space::Space;

/// Rows that one turn wrote.
pub(super) type Batch = Vec<(Space, Bytes, Option<Bytes>)>;

/// The rows of a simulated machine: there is none.
#[derive(Clone, Debug)]
pub struct MemoryRows(());

impl MemoryRows {
    pub(super) fn write(&self, _: Batch) {}

    pub(super) fn sync(&self) -> Result<(), String> {
        Ok(())
    }

    pub(super) fn replace(&self, _: &[(Space, Bytes, Bytes)]) {}

    pub(super) fn rows(&self) -> Vec<(Space, Bytes, Bytes)> {
        Vec::new()
    }
}
