//! fjall: one database, one keyspace per space, small memtables, no fsync but on demand.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fjall::config::{BlockSizePolicy, CompressionPolicy};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, LsmError, OwnedWriteBatch,
    PersistMode, Slice,
};

use super::filling::{FillError, Filling};
use super::layers::Space;
use super::marks::{self, Mark};
use super::merging::{self, Merging};
use super::note::{self, Note};
use super::panics::{self, WatchedWorkers};
use super::{background, journal_tail, tree_versions};
use crate::command::Fault;

/// Blocks read again soon: enough for the index and filter blocks of some million rows.
const CACHE_BYTES: u64 = 24 << 20;
/// Four spaces, each with one of these filling and one being written out. A table is synced whole: a larger one holds up the log.
const MEMTABLE_BYTES: u64 = 4 << 20;
/// The least fjall takes. More would only lengthen an open after a crash.
const JOURNAL_BYTES: u64 = 64 << 20;
/// Where a write failed with less than this left, a table of each space did not fit.
const FULL_BYTES: u64 = 4 * MEMTABLE_BYTES;
/// For flushes; tables are merged elsewhere, see `merging.rs`.
const WORKERS: usize = 1;

/// Why a store did not open.
pub(super) enum OpenError {
    /// It is damaged: set it aside.
    Damaged(String),
    /// Something else is wrong: leave it alone.
    Fault(Fault),
}

impl OpenError {
    /// Where there is nothing to set aside.
    pub(super) fn into_fault(self) -> Fault {
        match self {
            Self::Damaged(why) => Fault::Store(why),
            Self::Fault(fault) => fault,
        }
    }
}

/// An open database.
pub(super) struct Store {
    /// Ends before the database does.
    merging: Merging,
    db: Database,
    spaces: [Keyspace; 4],
    path: PathBuf,
    /// What the spaces held when it was opened.
    pub(super) mark: Mark,
    _watched: WatchedWorkers,
}

impl Store {
    /// Opens or creates the database at `path` and checks that no batch is missing in any space.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let note = note::read(path);
        if let Some(Note::Damaged(why)) = note {
            return Err(OpenError::Damaged(format!(
                "found while it was in use: {why}"
            )));
        }
        tree_versions::check(path)?;
        journal_tail::cut(path)?;
        let failed = |error| classify(path, error);
        let workers = panics::watch_workers(path.to_owned());
        let _watched = panics::note_in(path.to_owned());
        let open = || {
            // Panics are watched thread by thread.
            let _watched = panics::note_in(path.to_owned());
            Database::builder(path)
                .cache_size(CACHE_BYTES)
                .max_journaling_size(JOURNAL_BYTES)
                .worker_threads(WORKERS)
                .open()
        };
        let db = background::on_a_thread(open).map_err(failed)?;
        let open = |name: &str| db.keyspace(name, options).map_err(failed);
        let spaces = [
            open("system")?,
            open("current")?,
            open("past")?,
            open("log")?,
        ];
        let supervisor = db.supervisor.clone();
        let floor = move || supervisor.snapshot_tracker.get_seqno_safe_to_gc();
        let mut store = Self {
            merging: Merging::start(path.to_owned(), spaces.clone(), floor),
            db,
            spaces,
            path: path.to_owned(),
            mark: Mark::default(),
            _watched: workers,
        };
        store.mark = store.check_marks()?;
        if note.is_some() {
            tracing::warn!(path = %path.display(), "every row is checked, because the store failed when it was in use");
            store.check_rows()?;
            note::clear(path).map_err(OpenError::Fault)?;
        }
        Ok(store)
    }

    /// Reads everything: a damaged block is found by reading it.
    fn check_rows(&self) -> Result<(), OpenError> {
        for keyspace in &self.spaces {
            for guard in keyspace.iter() {
                guard
                    .into_inner()
                    .map_err(|error| classify(&self.path, error))?;
            }
        }
        Ok(())
    }

    fn check_marks(&self) -> Result<Mark, OpenError> {
        let mut marks = Vec::new();
        for keyspace in &self.spaces {
            let read = |key: &[u8]| {
                keyspace
                    .get(key)
                    .map_err(|error| classify(&self.path, error))
            };
            match read(&marks::FORMAT_KEY)? {
                None => marks.push(Mark::default()),
                Some(format) if format.as_ref() == marks::FORMAT => {
                    let mark = read(&marks::MARK_KEY)?;
                    let mark = mark.and_then(|mark| Mark::decode(&mark)).ok_or_else(|| {
                        OpenError::Damaged(format!("space {:?} has no mark", keyspace.name()))
                    })?;
                    self.check_numbers(keyspace, mark)?;
                    marks.push(mark);
                }
                Some(format) => {
                    return Err(OpenError::Fault(Fault::Store(format!(
                        "{} has format {:?}, this version knows {:?}: start the version that wrote it",
                        self.path.display(),
                        format.as_ref(),
                        marks::FORMAT
                    ))));
                }
            }
        }
        if marks.iter().any(|mark| *mark != marks[0]) {
            return Err(OpenError::Damaged(format!(
                "the spaces end at different batches: {marks:?}"
            )));
        }
        Ok(marks[0])
    }

    fn check_numbers(&self, keyspace: &Keyspace, mark: Mark) -> Result<(), OpenError> {
        let mut expected = mark.numbers();
        for guard in keyspace.prefix(marks::BATCH_PREFIX) {
            let row = guard.into_inner();
            let (key, seen) = row.map_err(|error| classify(&self.path, error))?;
            let wanted = expected.next();
            if wanted.is_none_or(|wanted| key.as_ref() != marks::batch_key(wanted)) {
                return Err(OpenError::Damaged(format!(
                    "space {:?}: found batch {key:?} where {wanted:?} belongs",
                    keyspace.name()
                )));
            }
            let is_newest = wanted == Some(mark.last);
            if (seen.as_ref() == marks::NEWEST) != is_newest {
                return Err(OpenError::Damaged(format!(
                    "space {:?}: batch {wanted:?} is not in its place",
                    keyspace.name()
                )));
            }
        }
        match expected.next() {
            None => Ok(()),
            Some(wanted) => Err(OpenError::Damaged(format!(
                "space {:?}: batch {wanted} is missing",
                keyspace.name()
            ))),
        }
    }

    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, Fault> {
        let found = self.spaces[space.index()]
            .get(marks::row_key(key))
            .map_err(|error| self.fault(error))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// The rows of `[start, end)`; keys still carry their first byte, see [`strip`](Self::strip).
    pub(super) fn range(&self, space: Space, start: &[u8], end: Option<&[u8]>) -> Stored<'_> {
        let start = marks::row_key(start);
        let end = end.map_or_else(|| vec![marks::ROW + 1], marks::row_key);
        Stored {
            rows: self.spaces[space.index()].range(start..end),
            store: self,
        }
    }

    /// The caller's key in a stored one.
    pub(super) fn strip(stored: &[u8]) -> &[u8] {
        &stored[1..]
    }

    /// A batch that makes `mark` the newest.
    pub(super) fn batch(&self, mark: Mark, rows: usize) -> Batch<'_> {
        let mut batch = OwnedWriteBatch::with_capacity(self.db.clone(), rows + 12)
            .durability(Some(PersistMode::Buffer));
        for keyspace in &self.spaces {
            if mark.last == 1 {
                batch.insert(keyspace, marks::FORMAT_KEY, marks::FORMAT);
            }
            batch.insert(keyspace, marks::MARK_KEY, mark.encode());
            batch.insert(keyspace, marks::batch_key(mark.last), marks::NEWEST);
            if mark.last > mark.checkpoint + 1 {
                batch.insert(keyspace, marks::batch_key(mark.last - 1), marks::FOLLOWED);
            }
        }
        Batch { batch, store: self }
    }

    /// Begins to fill a space with rows in order.
    pub(super) fn fill(&self, space: Space) -> Filling {
        Filling::begin(space, self.spaces[space.index()].clone())
    }

    pub(super) fn fill_fault(&self, error: FillError) -> Fault {
        match error {
            FillError::Disorder => Fault::Corrupt {
                what: "a state that is being received".to_owned(),
                why: "its rows are out of order".to_owned(),
            },
            FillError::Store(error) => self.fault(error),
        }
    }

    /// Starts writing the memtables of these spaces to tables.
    pub(super) fn rotate(&self, spaces: &[Space]) -> Result<(), Fault> {
        for space in spaces {
            self.spaces[space.index()]
                .rotate_memtable()
                .map_err(|error| self.fault(error))?;
        }
        Ok(())
    }

    /// Whether no memtable waits to be written out.
    pub(super) fn is_rotated(&self) -> bool {
        self.spaces
            .iter()
            .all(|keyspace| keyspace.sealed_memtable_count() == 0)
    }

    /// Has tables merged where that is worth it.
    pub(super) fn merge(&self) -> Result<(), Fault> {
        self.merging
            .ask(&self.spaces)
            .map_err(|error| self.fault(error))
    }

    /// Makes all committed batches durable.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.db
            .persist(PersistMode::SyncAll)
            .map_err(|error| self.fault(error))
    }

    /// What it takes of the disk. fjall counts a journal as long as it may become; the file is sparse until then.
    pub(super) fn bytes(&self) -> u64 {
        let tables: u64 = self.spaces.iter().map(Keyspace::disk_space).sum();
        tables + journal_tail::allocated_bytes(&self.path).unwrap_or(0)
    }

    fn fault(&self, error: fjall::Error) -> Fault {
        if matches!(error, fjall::Error::Poisoned) {
            note::unsure(&self.path, "a write failed");
        }
        match classify(&self.path, error) {
            OpenError::Damaged(why) => {
                // The next open must not find only what this one found at first.
                note::damaged(&self.path, &why);
                Fault::Corrupt {
                    what: format!("the state store {}", self.path.display()),
                    why: format!("{why}; the next start sets it aside and rebuilds it"),
                }
            }
            OpenError::Fault(fault) => fault,
        }
    }
}

/// Rows and numbers for one atomic commit.
pub(super) struct Batch<'a> {
    batch: OwnedWriteBatch,
    store: &'a Store,
}

impl Batch<'_> {
    pub(super) fn set(&mut self, space: Space, key: &[u8], value: Option<&[u8]>) {
        let keyspace = &self.store.spaces[space.index()];
        match value {
            Some(value) => self.batch.insert(keyspace, marks::row_key(key), value),
            None => self.batch.remove(keyspace, marks::row_key(key)),
        }
    }

    /// Forgets the number of a batch that is below the checkpoint now.
    pub(super) fn forget(&mut self, number: u64) {
        for keyspace in &self.store.spaces {
            self.batch.remove(keyspace, marks::batch_key(number));
        }
    }

    /// May sleep while fjall is behind.
    pub(super) fn commit(self) -> Result<(), Fault> {
        let Self { batch, store } = self;
        batch.commit().map_err(|error| store.fault(error))
    }
}

/// Rows of a range, read as they are asked for.
pub(super) struct Stored<'a> {
    rows: fjall::Iter,
    store: &'a Store,
}

impl Stored<'_> {
    pub(super) fn next(&mut self) -> Result<Option<(Slice, Slice)>, Fault> {
        self.rows
            .next()
            .map(|guard| guard.into_inner().map_err(|error| self.store.fault(error)))
            .transpose()
    }
}

fn options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(MEMTABLE_BYTES)
        .compaction_strategy(Arc::new(merging::by_fjall()))
        .data_block_size_policy(BlockSizePolicy::all(4 << 10))
        .data_block_compression_policy(CompressionPolicy::new([
            CompressionType::None,
            CompressionType::Lz4,
        ]))
}

/// What a user may still write where `path` is.
fn bytes_left(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

fn classify(path: &Path, error: fjall::Error) -> OpenError {
    match error {
        fjall::Error::Io(source) | fjall::Error::Storage(LsmError::Io(source)) => {
            match source.kind() {
                // What fjall meets in files that are cut short or missing, never what a disk says.
                ErrorKind::NotFound
                | ErrorKind::AlreadyExists
                | ErrorKind::InvalidInput
                | ErrorKind::InvalidData
                | ErrorKind::UnexpectedEof => OpenError::Damaged(source.to_string()),
                _ => OpenError::Fault(Fault::Io {
                    path: path.to_owned(),
                    source,
                }),
            }
        }
        fjall::Error::Locked => OpenError::Fault(Fault::Store(format!(
            "{} is in use by another process",
            path.display()
        ))),
        fjall::Error::Poisoned => OpenError::Fault(Fault::Store(match bytes_left(path) {
            // fjall keeps the reason to itself.
            Some(left) if left < FULL_BYTES => format!(
                "a write failed before, and the disk has {left} bytes left: No space left on device"
            ),
            _ => "a write failed before; the disk may be full or failing, or a table is damaged: the next start checks".to_owned(),
        })),
        error => OpenError::Damaged(error.to_string()),
    }
}
