//! The log of changes by revision: its rows are watch history and the guide of compaction.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Mvcc;
use super::budget::Budget;
use super::leaves::Visited;
use super::past::ended_after;
use super::row::{self, Version};
use super::{CURRENT, LOG, PAST};
use crate::command::{Event, EventKind, Fault, KeyValue, Revision, Stamp};
use crate::disk::{Ahead, Garbage, Rows, Scan};

/// The kind of a change to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was put and had not been there.
    Create,
    /// It was put and had been there.
    Update,
    /// It was removed.
    Delete,
}

/// The value of a log row.
pub(super) fn log_row(change: Change, key: &[u8]) -> Bytes {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(match change {
        Change::Create => 1,
        Change::Update => 2,
        Change::Delete => 3,
    });
    stored.extend_from_slice(key);
    Bytes::from(stored)
}

fn split_log_row(stored: &[u8]) -> Option<(Change, &[u8])> {
    let (change, key) = stored.split_first()?;
    let change = match change {
        1 => Change::Create,
        2 => Change::Update,
        3 => Change::Delete,
        _ => return None,
    };
    Some((change, key))
}

/// The key that a log row says was removed, if that is what it says.
pub(super) fn removal(stored: &Bytes) -> Result<Option<Bytes>, Fault> {
    match split_log_row(stored).ok_or_else(damaged_change)? {
        (Change::Delete, key) => Ok(Some(stored.slice_ref(key))),
        (Change::Create | Change::Update, _) => Ok(None),
    }
}

fn damaged_change() -> Fault {
    Fault::Corrupt {
        what: "a change in the state store".to_owned(),
        why: "unknown bytes".to_owned(),
    }
}

/// Shows the changes of `[from, upto)` in order until told to stop.
pub(super) fn scan(
    rows: &dyn Scan,
    from: Stamp,
    upto: Option<Stamp>,
    visit: &mut dyn FnMut(Stamp, Change, &[u8]) -> Visited,
) -> Result<(), Fault> {
    let mut outcome = Ok(());
    rows.scan(
        LOG,
        &row::log_key(from),
        upto.map(row::log_key).as_deref(),
        &mut |key, change| {
            let visited = row::split_log_key(key)
                .zip(split_log_row(change))
                .ok_or_else(damaged_change)
                .and_then(|(at, (change, key))| visit(at, change, key));
            visited.unwrap_or_else(|fault| {
                outcome = Err(fault);
                ControlFlow::Break(())
            })
        },
    )?;
    outcome
}

/// The garbage that the change in a log row makes once `floor` is the oldest revision that is read: the version it
/// superseded, and the log row itself if it is older. `None` from the first change on that is newer than `floor`.
pub fn garbage(key: &[u8], value: &[u8], floor: u64) -> Option<Garbage> {
    let at = row::split_log_key(key).filter(|at| at.main.0 <= floor)?;
    let (change, changed) = split_log_row(value)?;
    let mut garbage = Garbage::default();
    if change != Change::Create {
        garbage.rows.push((PAST, row::past_key(changed, at.main)));
    }
    // Events of the floor itself stay: a watch may start there.
    if at.main.0 < floor {
        garbage.rows.push((LOG, Bytes::copy_from_slice(key)));
    }
    Some(garbage)
}

/// Reads what [`changes`](Mvcc::changes) of `[from, upto)` needs, where waiting for the disk is allowed.
pub fn read_changes_ahead(
    rows: &Ahead,
    from: Stamp,
    upto: Stamp,
    prevs: bool,
    budget: &mut Budget,
) -> Result<(), Fault> {
    let mut changes = Vec::new();
    let (start, end) = (row::log_key(from), row::log_key(upto));
    // The change that does not fit any more is looked at, too.
    let most = budget.rows.saturating_add(1);
    rows.scan(LOG, &start, Some(&end), most, &mut |stored, change| {
        let at = row::split_log_key(stored);
        // The reading that needs a damaged row says so.
        if let Some((at, (change, key))) = at.zip(split_log_row(change)) {
            changes.push((at.main, change, Bytes::copy_from_slice(key)));
        }
        ControlFlow::Continue(())
    })?;
    for (at, change, key) in changes {
        if budget.is_spent() {
            break;
        }
        let mut bytes = key.len() + EVENT_OVERHEAD_BYTES;
        if prevs && change != Change::Create {
            bytes += rows.get(PAST, &row::past_key(&key, at))?;
        }
        if change != Change::Delete {
            bytes += rows.get(CURRENT, &key)?;
            let (start, end) = ended_after(&key, at);
            let pass = &mut |_: &[u8], _: &[u8]| ControlFlow::Continue(());
            rows.scan(PAST, &start, Some(&end), 1, pass)?;
        }
        budget.spend(1, bytes);
    }
    Ok(())
}

/// Changes in order, each with its place.
pub type Changes = Vec<(Stamp, Event)>;

impl Mvcc {
    /// The changes from `from` to before `upto`, in order, each with its place: as many as `budget` has room for, but
    /// at least one if there is any. And where to go on; `None` if that was all.
    ///
    /// `floor` is the compaction floor; `prevs` says whether events show what was there before.
    pub fn changes(
        &self,
        rows: &Rows<'_>,
        from: Stamp,
        upto: Stamp,
        floor: Revision,
        prevs: bool,
        budget: &mut Budget,
    ) -> Result<(Changes, Option<Stamp>), Fault> {
        let mut changes = Changes::new();
        let mut next = None;
        scan(rows, from, Some(upto), &mut |at, change, key| {
            if budget.is_spent() && !changes.is_empty() {
                next = Some(at);
                return Ok(ControlFlow::Break(()));
            }
            let event = self.event(rows, at, change, key, floor, prevs)?;
            let prev_bytes = event.prev.as_ref().map_or(0, |prev| prev.value.len());
            let bytes = event.kv.key.len() + event.kv.value.len() + prev_bytes;
            budget.spend(1, bytes + EVENT_OVERHEAD_BYTES);
            changes.push((at, event));
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((changes, next))
    }

    fn event(
        &self,
        rows: &Rows<'_>,
        at: Stamp,
        change: Change,
        key: &[u8],
        floor: Revision,
        prevs: bool,
    ) -> Result<Event, Fault> {
        let key = Bytes::copy_from_slice(key);
        let prev = match change {
            Change::Create => None,
            Change::Update | Change::Delete if !prevs => None,
            // A version that the floor's own changes superseded is compacted: not to be had, swept already or not.
            Change::Update | Change::Delete if at.main <= floor => None,
            Change::Update | Change::Delete => rows
                .get(PAST, &row::past_key(&key, at.main))?
                .map(Version::decode)
                .transpose()?
                .map(|prev| prev.pair(key.clone())),
        };
        let (kind, kv) = match change {
            Change::Create | Change::Update => {
                let version = self.glimpse_at(rows, &key, at.main)?;
                let version = version.filter(|version| version.modified == at);
                let version = version.ok_or_else(|| Fault::Corrupt {
                    what: format!("revision {} in the state store", at.main),
                    why: "the version it wrote is gone".to_owned(),
                })?;
                (EventKind::Put, version.pair(key))
            }
            Change::Delete => (EventKind::Delete, removed(key, at.main)),
        };
        Ok(Event { kind, kv, prev })
    }
}

/// The pair of a delete event.
pub(crate) fn removed(key: Bytes, at: Revision) -> KeyValue {
    KeyValue {
        key,
        create_revision: Revision(0),
        mod_revision: at,
        version: 0,
        value: Bytes::new(),
        lease: None,
    }
}

/// Memory of an event beyond its bytes.
const EVENT_OVERHEAD_BYTES: usize = 192;
