//! Where state rows live: a layer in memory in front of fjall, the only room that names it.
//!
//! Owns [`Disk`]: four ordered spaces of rows, the writer thread, the generations of the state directory and its marks.
//! In go whole log entries worth of rows ([`Disk::rows`]); they are visible at once and reach fjall behind the caller's
//! back, coalesced, in one atomic batch that always holds whole entries. Nothing here waits for fjall to write.
//!
//! It does not know what a row means: not revisions, not keys, not leases. Durability of a single entry is the log's
//! business; [`Disk::persist`] says up to where the log is no longer needed.
//! Read `layers.rs` for the memory side, `writer.rs` for the thread, `store.rs` for fjall, `generation.rs` for files.

mod generation;
mod layers;
mod marks;
mod panics;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::command::{Fault, LogPosition};
pub use generation::Fresh;
use generation::Generations;
pub use layers::{Rows, Space, Visit};
use layers::{Shared, Waiting};
use store::{OpenError, Store};
pub use sweep::{Garbage, Sweep};

/// Follows [`Flushed`].
pub type Progress = watch::Receiver<Flushed>;
/// Answers up to where the rows are durable.
pub type Persisted = oneshot::Receiver<Result<Option<LogPosition>, Fault>>;

/// How far the writer thread has come.
#[derive(Clone, Debug, Default)]
pub struct Flushed {
    /// Batches committed since this process opened the store.
    pub batches: u64,
    /// Why nothing will be written any more. The process must stop.
    pub fault: Option<String>,
}

/// Rows on disk, with what is not there yet.
pub struct Disk {
    shared: Arc<Shared>,
    store: Option<Arc<Store>>,
    writer: Option<JoinHandle<()>>,
    generations: Option<Generations>,
}

impl Disk {
    /// Opens the newest generation below `dir`, creating the first if there is none.
    ///
    /// A generation that is damaged is renamed to `<n>.damaged`, never deleted, and an empty one takes its place:
    /// the caller sees that by the missing rows, and decides whether the log reaches back far enough.
    /// `sweep` tells the writer thread which rows are garbage. Blocks on file operations.
    pub fn open(dir: &Path, sweep: Sweep) -> Result<Self, Fault> {
        let (mut generations, path) = Generations::open(dir)?;
        let store = match Store::open(&path) {
            Ok(store) => store,
            Err(OpenError::Damaged(why)) => {
                tracing::error!(why, path = %path.display(), "the state is damaged and set aside");
                let empty = generations.set_aside()?;
                Store::open(&empty).map_err(OpenError::into_fault)?
            }
            Err(OpenError::Fault(fault)) => return Err(fault),
        };
        Ok(Self::start(store, Some(generations), sweep))
    }

    /// Rows in memory only: the same behaviour for tests and simulation, without files and threads.
    pub fn in_memory(sweep: Sweep) -> Self {
        Self {
            shared: Arc::new(Shared::new(sweep)),
            store: None,
            writer: None,
            generations: None,
        }
    }

    fn start(store: Store, generations: Option<Generations>, sweep: Sweep) -> Self {
        let store = Arc::new(store);
        let shared = Arc::new(Shared::new(sweep));
        let writer = writer::spawn(shared.clone(), store.clone());
        Self {
            shared,
            store: Some(store),
            writer: Some(writer),
            generations,
        }
    }

    /// The rows, to read and write. What is written until this is dropped reaches fjall together or not at all.
    pub fn rows(&self) -> Rows<'_> {
        Rows::new(&self.shared, self.store.as_deref())
    }

    /// Bytes written to [`rows`](Self::rows) that fjall does not have yet.
    pub fn pending_bytes(&self) -> usize {
        if self.store.is_some() {
            self.shared.pending_bytes()
        } else {
            0
        }
    }

    /// Follows the writer thread: changes with each committed batch and when it fails.
    pub fn progress(&self) -> Progress {
        self.shared.flushed.subscribe()
    }

    /// Returns when the writer thread has committed something, has failed, or has nothing to do.
    pub fn flushed(&self) -> impl Future<Output = ()> + Send + use<> {
        // Follow first, then look: the other order misses a commit between the two.
        let mut progress = self.progress();
        let is_clean = self.pending_bytes() == 0;
        async move {
            if !is_clean {
                // An error says that the writer is gone, so there is nothing to wait for.
                let _ = progress.changed().await;
            }
        }
    }

    /// Bytes of the files; of the rows, if there are none.
    pub fn bytes(&self) -> u64 {
        match &self.store {
            Some(store) => store.bytes(),
            None => self.shared.pending_bytes() as u64,
        }
    }

    /// Writes and syncs everything that is in the rows now, on the writer thread; then answers `applied`.
    pub fn persist(&self, applied: Option<LogPosition>) -> Persisted {
        let (done, durable) = oneshot::channel();
        let waiting = Waiting { applied, done };
        if self.store.is_some() {
            self.shared.ask_persist(waiting);
        } else {
            waiting.answer(Ok(()));
        }
        durable
    }

    /// Makes `fresh` the current generation and removes the one before it.
    pub fn switch(&mut self, fresh: Fresh) -> Result<(), Fault> {
        let sweep = self.shared.sweep();
        let Some(mut generations) = self.generations.take() else {
            return Err(Fault::Store(
                "a store in memory has no generations".to_owned(),
            ));
        };
        self.shared.discard();
        self.stop();
        let store = generations.switch(fresh)?;
        *self = Self::start(store, Some(generations), sweep);
        Ok(())
    }

    /// Replaces all rows of a store in memory.
    pub fn replace(&mut self, rows: Vec<(Space, Bytes, Bytes)>) {
        let sweep = self.shared.sweep();
        *self = Self::in_memory(sweep);
        let mut view = self.rows();
        for (space, key, value) in rows {
            view.put(space, key, value);
        }
    }

    fn stop(&mut self) {
        self.shared.close();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to write; the next open finds what it had.
            let _ = writer.join();
        }
        self.store = None;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop();
    }
}
