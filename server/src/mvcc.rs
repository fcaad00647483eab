//! Keys by revision: current values, past ones, and the log of changes.
//!
//! Owns three row spaces. *Current*: key to its live version. *Past*: key and the revision that superseded a version, to
//! that version; so the version of a key at revision `r` is the first past row that ends after `r`, if it began by then.
//! *Log*: revision and place in it, to the kind of change and the key; it orders watch history and compaction.
//! A key changes at most once in a revision.
//!
//! It decides nothing: no limits, leases, refusals or revisions of its own. Callers say what to write and only ask for
//! revisions above the compaction floor. Read [`Mvcc`] first, then `leaves.rs` for how current keys are found.

mod budget;
mod counting;
mod history;
mod leaves;
mod moment;
mod past;
mod row;
mod span;
#[cfg(test)]
mod tests;
mod undo;

use bytes::Bytes;
use std::cell::RefCell;

use crate::command::{Fault, KeyValue, LeaseId, Revision, Stamp};
use crate::disk::{Rows, Space};
pub use budget::Budget;
pub use counting::Counting;
pub(crate) use history::removed;
pub use history::{Change, Changes, garbage, read_changes_ahead};
pub(crate) use leaves::RESIDENT_BYTES_MAX;
use leaves::{Absent, Leaves};
pub use moment::{Page, Removals, log_page, page_at, past_page, removals, superseded, versions_at};
use past::Remainders;
pub use row::{Version, key_fits};
pub use span::{AsOf, Slice, Span};
pub use undo::{Undone, undo};

/// Each key's live version.
pub const CURRENT: Space = Space::new(1);
/// Superseded versions.
pub const PAST: Space = Space::new(2);
/// Changes, in order.
pub const LOG: Space = Space::new(3);

/// Keys that are read in one pass if they lie close together, at least: fewer cost less one by one.
const MANY: usize = if cfg!(test) { 2 } else { 64 };
/// Rows that are read for each key of such a pass, at most: where others lie between them, the rest are read one by one.
pub const CLOSE: usize = 2;
/// Bytes of such a pass.
const CLOSE_BYTES: usize = 256 << 10;

/// The fields that a put stores besides its place in history.
#[derive(Clone, Debug)]
pub struct Store<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// The lease it is attached to.
    pub lease: Option<LeaseId>,
}

/// Stored rows, by their stored keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSpan {
    /// Where they are.
    pub space: Space,
    /// The first.
    pub start: Bytes,
    /// The first not meant; all that follow without it.
    pub end: Option<Bytes>,
}

impl RowSpan {
    /// The superseded versions of the keys of `span`.
    pub fn past(span: &Span) -> Self {
        Self {
            space: PAST,
            start: row::past_prefix(&span.start).into(),
            end: span.end.as_deref().map(|end| row::past_prefix(end).into()),
        }
    }

    /// The versions of a key that ended after `revision`.
    pub fn ended_after(key: &[u8], revision: Revision) -> Self {
        let (start, end) = past::ended_after(key, revision);
        Self {
            space: PAST,
            start,
            end: Some(end),
        }
    }

    /// The changes from `from` to before `upto`.
    pub fn changes(from: Stamp, upto: Stamp) -> Self {
        Self {
            space: LOG,
            start: row::log_key(from),
            end: Some(row::log_key(upto)),
        }
    }
}

/// The key space. Caches only: every row is in [`Rows`].
pub struct Mvcc {
    leaves: RefCell<Leaves>,
    remainders: RefCell<Remainders>,
}

impl Mvcc {
    /// Reads the index of current keys, and keeps at most so many bytes of them in memory. Takes about a second for each two
    /// million keys.
    pub fn open(rows: &Rows<'_>, resident_bytes_max: usize) -> Result<Self, Fault> {
        Ok(Self {
            leaves: RefCell::new(Leaves::open(rows, resident_bytes_max)?),
            remainders: RefCell::default(),
        })
    }

    /// Lets go of all rows in memory; they are read again when they are asked for.
    pub fn forget_resident(&self) {
        self.leaves.borrow_mut().forget();
    }

    /// Whether all current rows are in memory.
    pub fn is_near(&self) -> bool {
        self.leaves.borrow().are_resident()
    }

    /// Whether it knows how much is not in memory.
    #[cfg(test)]
    fn knows_what_is_near(&self) -> bool {
        self.leaves.borrow().knows_absent()
    }

    /// The rows that are read for a look at `key`, or a put of it; `None` if they are in memory.
    pub fn far_key(&self, key: &Bytes) -> Option<RowSpan> {
        let (start, end) = match self.leaves.borrow().absent_key(key)? {
            Absent::Row => (key.clone(), Some(past::after(key))),
            Absent::Leaf(start, end) => (start, end),
        };
        Some(RowSpan {
            space: CURRENT,
            start,
            end,
        })
    }

    /// The rows that are read for the first `rows` keys of `span`; `None` if they are in memory.
    pub fn far(&self, span: &Span, rows: usize) -> Option<RowSpan> {
        let leaves = self.leaves.borrow();
        let (start, end) = leaves.absent(&span.start, span.end.as_deref(), rows)?;
        Some(RowSpan {
            space: CURRENT,
            start,
            end,
        })
    }

    /// A key's live version.
    pub fn get(&self, rows: &Rows<'_>, key: &[u8]) -> Result<Option<Version>, Fault> {
        self.leaves
            .borrow_mut()
            .get(rows, key)?
            .map(Version::decode)
            .transpose()
    }

    /// The live versions of `keys`, which ascend, each at its key's place. Keys that lie close together are read in one pass.
    pub fn get_each(&self, rows: &Rows<'_>, keys: &[Bytes]) -> Result<Vec<Option<Version>>, Fault> {
        let mut versions = Vec::with_capacity(keys.len());
        if let [first, .., last] = keys
            && keys.len() >= MANY
        {
            let span = Span {
                start: first.clone(),
                end: Some(past::after(last)),
            };
            let mut budget = Budget {
                rows: CLOSE * keys.len(),
                bytes: CLOSE_BYTES,
            };
            let slice = self.live(rows, &span, usize::MAX, &mut budget)?;
            let mut found = slice.found.into_iter().peekable();
            let is_read = |key: &&Bytes| slice.next.as_ref().is_none_or(|next| *key < next);
            for key in keys.iter().take_while(is_read) {
                while found.next_if(|(other, _)| other < key).is_some() {}
                let version = found.next_if(|(other, _)| other == key);
                versions.push(version.map(|(_, version)| version));
            }
        }
        for key in &keys[versions.len()..] {
            versions.push(self.get(rows, key)?);
        }
        Ok(versions)
    }

    /// Writes a key's next version and answers the pair; `prev` is its live version, from [`get`](Self::get).
    pub fn put(
        &self,
        rows: &mut Rows<'_>,
        at: Stamp,
        store: &Store<'_>,
        prev: Option<&Version>,
    ) -> Result<KeyValue, Fault> {
        let version = Version::new(at, store, prev);
        let key = Bytes::copy_from_slice(store.key);
        let change = match prev {
            None => Change::Create,
            Some(prev) => {
                rows.put(PAST, row::past_key(&key, at.main), prev.row());
                Change::Update
            }
        };
        rows.put(LOG, row::log_key(at), history::log_row(change, &key));
        rows.put(CURRENT, key.clone(), version.row());
        self.leaves
            .borrow_mut()
            .set(rows, key.clone(), version.row(), prev.is_some())?;
        Ok(version.pair(key))
    }

    /// Removes a key whose live version is `prev`.
    pub fn delete(&self, rows: &mut Rows<'_>, at: Stamp, key: &Bytes, prev: &Version) {
        rows.put(PAST, row::past_key(key, at.main), prev.row());
        rows.put(LOG, row::log_key(at), history::log_row(Change::Delete, key));
        rows.delete(CURRENT, key.clone());
        self.leaves.borrow_mut().remove(key);
    }

    /// How many keys of `span` are live.
    pub fn count(&self, rows: &Rows<'_>, span: &Span) -> Result<u64, Fault> {
        let mut leaves = self.leaves.borrow_mut();
        leaves.count(rows, &span.start, span.end.as_deref())
    }

    /// Remembers that at `revision` the range has `left` keys after `last`, for the page that may follow.
    pub fn remember(&self, revision: Revision, end: Option<&Bytes>, last: &[u8], left: u64) {
        let mut remainders = self.remainders.borrow_mut();
        remainders.remember(revision, end, last, left);
    }
}
