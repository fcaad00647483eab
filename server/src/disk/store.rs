//! fjall: one database, one keyspace per space, small memtables, no fsync but on demand.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
pub(super) use fjall::Snapshot;
use fjall::config::{BlockSizePolicy, CompressionPolicy};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
    Readable, Slice,
};

use super::error::{OpenError, classify};
use super::filling::{FillError, Filling};
use super::marks::{self, BadFormat, Mark};
use super::merging::{self, Merging};
use super::note::{self, Note};
use super::panics::{self, WatchedWorkers};
use super::space::{Layout, Space, Visit, bounds};
use super::{background, journal_tail, tree_versions};
use crate::command::Fault;
use crate::command::format::{FIRST_LEVEL, Format};

/// Blocks read again soon: enough for the index and filter blocks of some million rows.
const CACHE_BYTES: u64 = 24 << 20;
/// Each space has one of these filling and one being written out. A table is synced whole: a larger one holds up the log.
const MEMTABLE_BYTES: u64 = 4 << 20;
/// The least fjall takes. More would only lengthen an open after a crash.
const JOURNAL_BYTES: u64 = 64 << 20;
/// For flushes; tables are merged elsewhere, see `merging.rs`.
const WORKERS: usize = 1;

/// An open database.
pub(super) struct Store {
    /// Ends before the database does.
    merging: Merging,
    db: Database,
    /// Those of the layout, then those that a later version added: they are kept at the same batch, and not touched.
    spaces: Vec<Keyspace>,
    names: Vec<String>,
    path: PathBuf,
    /// The batches that the spaces held when it was opened.
    pub(super) mark: Mark,
    /// The format of its own rows, for as long as it lives.
    format: u8,
    _watched: WatchedWorkers,
}

impl Store {
    /// Opens or creates the database at `path`, adds spaces of the layout that it does not have yet, and checks that no
    /// batch is missing in any space.
    pub(super) fn open(path: &Path, layout: &Layout) -> Result<Self, OpenError> {
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
        let small = open(layout.names[Layout::SMALL.index()])?;
        let listed = read_list(&small, path)?;
        let mut names: Vec<String> = layout.names.iter().map(|&name| name.to_owned()).collect();
        let later = listed
            .iter()
            .filter(|name| !layout.names.contains(&name.as_str()));
        names.extend(later.cloned());
        let spaces = names.iter().map(|name| open(name));
        let spaces = spaces.collect::<Result<Vec<_>, _>>()?;
        let supervisor = db.supervisor.clone();
        let floor = move || supervisor.snapshot_tracker.get_seqno_safe_to_gc();
        let mut store = Self {
            merging: Merging::start(path.to_owned(), spaces.clone(), floor),
            db,
            spaces,
            names,
            path: path.to_owned(),
            mark: Mark::default(),
            format: Format::Store.at(FIRST_LEVEL),
            _watched: workers,
        };
        (store.mark, store.format) = store.check_marks(&listed)?;
        store.add_spaces(&listed)?;
        if note.is_some() {
            tracing::warn!(path = %path.display(), "every row is checked, because the store failed when it was in use");
            store.check_rows()?;
            note::clear(path).map_err(OpenError::Fault)?;
        }
        Ok(store)
    }

    /// Its spaces.
    pub(super) fn spaces(&self) -> &[Keyspace] {
        &self.spaces
    }

    /// Reads everything: a damaged block is found by reading it.
    pub(super) fn check_rows(&self) -> Result<(), OpenError> {
        for keyspace in &self.spaces {
            for guard in keyspace.iter() {
                guard
                    .into_inner()
                    .map_err(|error| classify(&self.path, error))?;
            }
        }
        Ok(())
    }

    /// The mark and the format that all spaces have which the list names. A store whose first batch is not written yet has
    /// no list, and the format that it was made with.
    fn check_marks(&self, listed: &[String]) -> Result<(Mark, u8), OpenError> {
        let mut marks = Vec::new();
        for (keyspace, name) in self.spaces.iter().zip(&self.names) {
            if !listed.is_empty() && !listed.contains(name) {
                let format = keyspace.get(marks::FORMAT_KEY);
                if format
                    .map_err(|error| classify(&self.path, error))?
                    .is_some()
                {
                    return Err(OpenError::Damaged(format!(
                        "space {name:?} is in use and not on the list of spaces"
                    )));
                }
                continue;
            }
            let read = |key: &[u8]| {
                keyspace
                    .get(key)
                    .map_err(|error| classify(&self.path, error))
            };
            match read(&marks::FORMAT_KEY)? {
                None => marks.push((Mark::default(), self.format)),
                Some(row) => {
                    let format =
                        marks::read_format(&row).map_err(|bad| self.bad_format(&row, bad))?;
                    let mark = read(&marks::MARK_KEY)?;
                    let mark = mark.and_then(|mark| Mark::decode(&mark)).ok_or_else(|| {
                        OpenError::Damaged(format!("space {:?} has no mark", keyspace.name()))
                    })?;
                    self.check_numbers(keyspace, mark)?;
                    marks.push((mark, format));
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

    /// Gives each space that the list lacks what the others have, in one batch with the new list. It is durable when this
    /// returns: a crash before leaves the old list, and an empty space beside it.
    fn add_spaces(&self, listed: &[String]) -> Result<(), OpenError> {
        let is_new = |name: &String| !listed.contains(name);
        if listed.is_empty() || !self.names.iter().any(is_new) {
            return Ok(());
        }
        let mut batch = OwnedWriteBatch::with_capacity(self.db.clone(), 16);
        for (keyspace, _) in self
            .spaces
            .iter()
            .zip(&self.names)
            .filter(|(_, name)| is_new(name))
        {
            batch.insert(keyspace, marks::FORMAT_KEY, marks::format_row(self.format));
            batch.insert(keyspace, marks::MARK_KEY, self.mark.encode());
            for number in self.mark.numbers() {
                let seen: &[u8] = match number == self.mark.last {
                    true => &marks::NEWEST,
                    false => &marks::FOLLOWED,
                };
                batch.insert(keyspace, marks::batch_key(number), seen);
            }
        }
        batch.insert(self.small(), marks::LIST_KEY, marks::list(&self.names));
        let added = batch.durability(Some(PersistMode::SyncAll)).commit();
        added.map_err(|error| classify(&self.path, error))
    }

    /// Begins a store for a cluster at this level; nothing may be written to it yet.
    pub(super) fn written_for(&mut self, level: u32) {
        assert_eq!(
            self.mark,
            Mark::default(),
            "its first batch says its format"
        );
        self.format = Format::Store.at(level);
    }

    fn bad_format(&self, row: &[u8], bad: BadFormat) -> OpenError {
        let place = self.path.display().to_string();
        OpenError::Fault(match bad {
            BadFormat::Newer(unknown) => Fault::Newer { place, unknown },
            BadFormat::None => Fault::Store(format!("{place}: its format row is {row:?}")),
        })
    }

    fn small(&self) -> &Keyspace {
        &self.spaces[Layout::SMALL.index()]
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
        #[cfg(test)]
        super::reads::note(space, key, Some(&[key, &[0]].concat()));
        let found = self.spaces[space.index()]
            .get(marks::row_key(key))
            .map_err(|error| self.fault(error))?;
        Ok(found.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// The rows of `[start, end)`, of now or of a snapshot of this store; keys still carry their first byte, see
    /// [`strip`](Self::strip).
    pub(super) fn range(
        &self,
        at: Option<&Snapshot>,
        space: Space,
        start: &[u8],
        end: Option<&[u8]>,
    ) -> Stored<'_> {
        #[cfg(test)]
        if at.is_none() {
            super::reads::note(space, start, end);
        }
        let start = marks::row_key(start);
        let end = end.map_or_else(|| vec![marks::ROW + 1], marks::row_key);
        let keyspace = &self.spaces[space.index()];
        Stored {
            rows: match at {
                Some(snapshot) => snapshot.range(keyspace, start..end),
                None => keyspace.range(start..end),
            },
            store: self,
        }
    }

    /// Shows the first `rows` rows of [`range`](Self::range), without that byte, until `visit` breaks.
    pub(super) fn scan(
        &self,
        at: Option<&Snapshot>,
        (space, start, end): (Space, &[u8], Option<&[u8]>),
        rows: usize,
        visit: Visit<'_>,
    ) -> Result<(), Fault> {
        if bounds(start, end).is_none() {
            return Ok(());
        }
        let mut stored = self.range(at, space, start, end);
        for _ in 0..rows {
            let Some((key, value)) = stored.next()? else {
                break;
            };
            if visit(Self::strip(&key), &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// All that is committed now.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.db.snapshot()
    }

    /// The caller's key in a stored one.
    pub(super) fn strip(stored: &[u8]) -> &[u8] {
        &stored[1..]
    }

    /// A batch that makes `mark` the newest.
    pub(super) fn batch(&self, mark: Mark, rows: usize) -> Batch<'_> {
        let mut batch = OwnedWriteBatch::with_capacity(self.db.clone(), rows + 12)
            .durability(Some(PersistMode::Buffer));
        if mark.last == 1 {
            batch.insert(self.small(), marks::LIST_KEY, marks::list(&self.names));
        }
        for keyspace in &self.spaces {
            if mark.last == 1 {
                batch.insert(keyspace, marks::FORMAT_KEY, marks::format_row(self.format));
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

    /// Starts writing the memtables of all spaces to tables.
    pub(super) fn rotate(&self) -> Result<(), Fault> {
        self.spaces.iter().try_for_each(|space| self.rotated(space))
    }

    /// Starts writing the memtable of the small rows to a table.
    pub(super) fn rotate_small(&self) -> Result<(), Fault> {
        self.rotated(self.small())
    }

    fn rotated(&self, space: &Keyspace) -> Result<(), Fault> {
        let rotated = space.rotate_memtable();
        rotated.map(|_| ()).map_err(|error| self.fault(error))
    }

    /// Whether no memtable waits to be written out.
    pub(super) fn is_rotated(&self) -> bool {
        self.spaces
            .iter()
            .all(|keyspace| keyspace.sealed_memtable_count() == 0)
    }

    /// Bytes in memtables, also in those that wait to be written out.
    pub(super) fn memtable_bytes(&self) -> u64 {
        self.db.write_buffer_size()
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

    /// Bytes that it takes of the disk. fjall counts a journal as long as it may become; the file is sparse until
    /// then.
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

/// The spaces that a store says it has; none before its first batch.
fn read_list(small: &Keyspace, path: &Path) -> Result<Vec<String>, OpenError> {
    let read = |key: &[u8]| small.get(key).map_err(|error| classify(path, error));
    match (read(&marks::FORMAT_KEY)?, read(&marks::LIST_KEY)?) {
        // Another format is refused where the marks are checked.
        (Some(format), _) if marks::read_format(&format).is_err() => Ok(Vec::new()),
        (_, Some(list)) => marks::listed(&list)
            .ok_or_else(|| OpenError::Damaged("the list of spaces cannot be read".to_owned())),
        (Some(_), None) => Err(OpenError::Damaged(
            "the list of spaces is missing".to_owned(),
        )),
        (None, None) => Ok(Vec::new()),
    }
}
