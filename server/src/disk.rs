//! Where state rows live: a layer in memory in front of fjall, the only room that names it.
//!
//! Owns [`Disk`]: the ordered spaces of rows that the room above declares ([`Layout`]), the writer thread, the generations
//! of the state directory and its marks.
//! In go the rows of whole turns of applying ([`Disk::rows`]); they are visible at once and reach fjall behind the caller's
//! back, coalesced, in one atomic batch that always holds whole turns. Nothing here waits for fjall to write.
//!
//! It does not know what a row means: not revisions, not keys, not leases. Durability of a single entry is the log's
//! business; [`Disk::persist`] says up to where the log is no longer needed.
//! Read `layers.rs` for the memory side, `writer.rs` for the thread, `store.rs`, `filling.rs` and `merging.rs` for fjall,
//! `view.rs` for all rows of one moment, `generation.rs` for files.

mod ahead;
mod background;
mod error;
mod filling;
mod generation;
mod inspect;
mod journal_tail;
mod layers;
mod marks;
#[cfg(any(test, feature = "simulation"))]
mod memory;
mod merging;
mod note;
mod panics;
#[cfg(test)]
pub(crate) mod reads;
mod space;
mod store;
mod sweep;
#[cfg(test)]
mod tests;
mod tree_versions;
#[cfg(not(any(test, feature = "simulation")))]
mod unsimulated;
mod view;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use crate::command::{Fault, LogPosition};
pub use ahead::Ahead;
use error::OpenError;
pub use generation::Fresh;
use generation::Generation;
pub use inspect::{Contents, contents, copy};
pub use layers::Rows;
use layers::{Shared, Waiting};
pub use memory::MemoryRows;
#[cfg(any(test, feature = "simulation"))]
pub use memory::RowsCopy;
pub use panics::tell_panics;
pub use space::{Garbage, Layout, Scan, Space, Sweep, Visit};
use store::Store;
#[cfg(not(any(test, feature = "simulation")))]
use unsimulated as memory;
pub use view::View;

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
    ahead: Option<Ahead>,
    writer: Option<JoinHandle<()>>,
    generation: Option<Generation>,
    /// The memory that keeps these rows once they are current.
    becomes: Option<MemoryRows>,
}

impl Disk {
    /// Opens the newest generation below `dir`, creating the first if there is none.
    ///
    /// A generation that is damaged is renamed to `<n>.damaged`, never deleted, and an empty one takes its place:
    /// the caller sees that by the missing rows, and decides whether the log reaches back far enough.
    /// A space of `layout` that the store does not have is added to it. Blocks on file operations.
    pub fn open(dir: &Path, layout: &'static Layout) -> Result<Self, Fault> {
        let mut generation = Generation::current(dir)?;
        let store = match Store::open(&generation.path(), layout) {
            Ok(store) => store,
            Err(OpenError::Damaged(why)) => {
                let path = generation.path();
                tracing::error!(why, path = %path.display(), "the state is damaged and set aside");
                generation.set_aside()?;
                Store::open(&generation.path(), layout).map_err(OpenError::into_fault)?
            }
            Err(OpenError::Fault(fault)) => return Err(fault),
        };
        generation.sync_names()?;
        Ok(Self::start(store, generation, layout))
    }

    /// Sets the current generation below `dir` aside, whose rows cannot be what was written, and opens an empty one.
    /// The store must be closed.
    pub fn open_anew(dir: &Path, why: &str, layout: &'static Layout) -> Result<Self, Fault> {
        note::damaged(&Generation::current(dir)?.path(), why);
        Self::open(dir, layout)
    }

    /// Rows in memory only: the same behaviour for tests and simulation, without files and threads.
    pub fn in_memory(layout: &'static Layout) -> Self {
        Self {
            shared: Arc::new(Shared::new(layout)),
            store: None,
            ahead: None,
            writer: None,
            generation: None,
            becomes: None,
        }
    }

    /// A generation that was filled. The next open finds it only after [`make_current`](Self::make_current).
    pub fn filled(fresh: Fresh, layout: &'static Layout) -> Self {
        let (generation, store) = fresh.into_store();
        Self::start(store, generation, layout)
    }

    /// Rows in memory that a simulated machine keeps when this is gone.
    pub fn on(kept: MemoryRows, layout: &'static Layout) -> Self {
        let disk = Self::in_memory(layout);
        disk.shared.load(kept.rows());
        disk.shared.keep_in(kept);
        disk
    }

    /// As [`filled`](Self::filled), of rows in memory.
    pub fn filled_with(
        rows: Vec<(Space, Bytes, Bytes)>,
        becomes: Option<MemoryRows>,
        layout: &'static Layout,
    ) -> Self {
        let mut disk = Self::in_memory(layout);
        disk.shared.load(rows);
        disk.becomes = becomes;
        disk
    }

    fn start(store: Store, generation: Generation, layout: &'static Layout) -> Self {
        let store = Arc::new(store);
        let shared = Arc::new(Shared::new(layout));
        let writer = writer::spawn(shared.clone(), store.clone());
        Self {
            shared,
            ahead: Some(Ahead::of(store.clone())),
            store: Some(store),
            writer: Some(writer),
            generation: Some(generation),
            becomes: None,
        }
    }

    /// The rows, to read and write. Rows written until this is dropped reach fjall together or not at all.
    pub fn rows(&self) -> Rows<'_> {
        Rows::new(&self.shared, self.store.as_deref())
    }

    /// Reads rows before they are asked for; `None` if all rows are in memory.
    pub fn ahead(&self) -> Option<Ahead> {
        self.ahead.clone()
    }

    /// Bytes written to [`rows`](Self::rows) that fjall does not have yet.
    pub fn pending_bytes(&self) -> usize {
        if self.store.is_some() {
            self.shared.pending_bytes()
        } else {
            0
        }
    }

    /// Has rows wait while fjall's memtables take more than these bytes and some are being written out. Without this they may
    /// take five memtables a space.
    pub fn limit_memtables(&self, bytes: u64) {
        self.shared.limit_memtables(bytes);
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
            let synced = self.shared.kept().map_or(Ok(()), MemoryRows::sync);
            waiting.answer(synced);
        }
        durable
    }

    /// All rows as they are when this is called, or a turn or two later; `None` if they can no longer be written.
    pub fn view(&self) -> impl Future<Output = Option<View>> + Send + use<> {
        let asked = self.ahead.clone().map(|ahead| {
            let (view, asked) = oneshot::channel();
            self.shared.ask_view(view);
            (ahead, asked)
        });
        let in_memory = match asked {
            Some(_) => Vec::new(),
            None => self.shared.copy_in_memory(),
        };
        async move {
            let Some((ahead, asked)) = asked else {
                return Some(View::of_memory(in_memory));
            };
            let snapshot = asked.await.ok()?;
            Some(View::of_files(ahead, snapshot))
        }
    }

    /// Makes this generation the one that the next open finds. Durable when it returns.
    pub fn make_current(&self) -> Result<(), Fault> {
        match &self.generation {
            Some(generation) => generation.make_current(),
            None => {
                if let Some(kept) = &self.becomes {
                    kept.replace(&self.shared.rows_in_memory());
                    self.shared.keep_in(kept.clone());
                }
                Ok(())
            }
        }
    }

    /// Closes it and removes its files. Rows that were not written yet are forgotten.
    pub fn remove(mut self) -> Result<(), Fault> {
        self.shared.discard();
        self.stop();
        match self.generation.take() {
            Some(generation) => generation.remove(),
            None => Ok(()),
        }
    }

    fn stop(&mut self) {
        self.shared.close();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing left to write; the next open finds what it had.
            let _ = writer.join();
        }
        if let Some(ahead) = self.ahead.take() {
            ahead.close();
        }
        self.store = None;
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        self.stop();
    }
}
