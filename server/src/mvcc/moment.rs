//! Reading all of one moment page by page, for a snapshot. Nothing that is written meanwhile shows.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::budget::Budget;
use super::history::removal;
use super::past::{after, damaged_past};
use super::row::{self, Version};
use super::span::{AsOf, Slice, Span, rows_as_of};
use super::{LOG, PAST};
use crate::command::{Fault, Revision, Stamp};
use crate::disk::{Scan, Space};

/// Rows in key order.
#[derive(Debug, Default)]
pub struct Page {
    /// Keys and values, as they are stored.
    pub rows: Vec<(Bytes, Bytes)>,
    /// Where the next page begins; `None` if this was the last.
    pub next: Option<Bytes>,
}

/// Rows looked at in one page: some milliseconds, also where all of them are stepped over.
const PAGE_ROWS: usize = 2048;
/// Budget that a row which is stepped over takes, beside its key.
const STEP_BYTES: usize = 96;

/// The current rows as of a moment, from key `from` on, some `bytes_max` of them. A page may be empty and not the
/// last: keys that were rewritten since are stepped over, and that takes time as well.
pub fn page_at(
    rows: &dyn Scan,
    from: &Bytes,
    moment: AsOf,
    bytes_max: usize,
) -> Result<Page, Fault> {
    let slice = versions_at(rows, from, moment, bytes_max)?;
    let found = slice.found.into_iter();
    Ok(Page {
        rows: found.map(|(key, version)| (key, version.row())).collect(),
        next: slice.next,
    })
}

/// As [`page_at`], the versions themselves.
pub fn versions_at(
    rows: &dyn Scan,
    from: &Bytes,
    moment: AsOf,
    bytes_max: usize,
) -> Result<Slice, Fault> {
    let span = Span {
        start: from.clone(),
        end: None,
    };
    let mut budget = Budget {
        rows: PAGE_ROWS,
        bytes: bytes_max,
    };
    rows_as_of(rows, &span, moment, &mut budget)
}

/// The versions that ended in `(floor, revision]` with their keys, from stored key `from` on; the next slice begins at a
/// stored key, too.
pub fn superseded(
    rows: &dyn Scan,
    from: &Bytes,
    floor: Revision,
    revision: Revision,
    bytes_max: usize,
) -> Result<Slice, Fault> {
    let page = past_page(rows, from, floor, revision, bytes_max)?;
    let version = |(stored, row): (Bytes, Bytes)| {
        let (key, _) = row::split_past_key(&stored).ok_or_else(damaged_past)?;
        Ok((Bytes::from(key), Version::decode(row)?))
    };
    let found = page.rows.into_iter().map(version);
    Ok(Slice {
        found: found.collect::<Result<_, Fault>>()?,
        next: page.next,
    })
}

/// Some removals in their order.
#[derive(Debug, Default)]
pub struct Removals {
    /// Where each happened, and its key.
    pub found: Vec<(Stamp, Bytes)>,
    /// The stored key at which to go on; `None` if these were the last.
    pub next: Option<Bytes>,
}

/// The removals of `[floor, revision]`, from stored key `from` on.
pub fn removals(
    rows: &dyn Scan,
    from: &Bytes,
    floor: Revision,
    revision: Revision,
    bytes_max: usize,
) -> Result<Removals, Fault> {
    let page = log_page(rows, from, floor, revision, bytes_max)?;
    let mut found = Vec::new();
    for (stored, change) in &page.rows {
        let at = row::split_log_key(stored).ok_or_else(damaged_past)?;
        found.extend(removal(change)?.map(|key| (at, key)));
    }
    let next = page.next;
    Ok(Removals { found, next })
}

/// The past rows that ended in `(floor, revision]`, from stored key `from` on.
pub fn past_page(
    rows: &dyn Scan,
    from: &Bytes,
    floor: Revision,
    revision: Revision,
    bytes_max: usize,
) -> Result<Page, Fault> {
    page(rows, PAST, from, bytes_max, |stored| {
        let (_, ended) = row::split_past_key(stored)?;
        Some(ended > floor && ended <= revision)
    })
}

/// The changes of `[floor, revision]`, from stored key `from` on.
pub fn log_page(
    rows: &dyn Scan,
    from: &Bytes,
    floor: Revision,
    revision: Revision,
    bytes_max: usize,
) -> Result<Page, Fault> {
    page(rows, LOG, from, bytes_max, |stored| {
        let at = row::split_log_key(stored)?.main;
        Some(at >= floor && at <= revision)
    })
}

fn page(
    rows: &dyn Scan,
    space: Space,
    from: &Bytes,
    bytes_max: usize,
    belongs: impl Fn(&[u8]) -> Option<bool>,
) -> Result<Page, Fault> {
    let mut page = Page::default();
    let mut bytes = 0;
    let mut failed = None;
    rows.scan(space, from, None, &mut |key, value| {
        // Rows that are stepped over take time as well.
        bytes += key.len() + STEP_BYTES;
        match belongs(key) {
            Some(true) => {
                bytes += value.len();
                page.rows
                    .push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            }
            Some(false) => {}
            None => {
                failed = Some(damaged_past());
                return ControlFlow::Break(());
            }
        }
        if bytes < bytes_max {
            return ControlFlow::Continue(());
        }
        page.next = Some(after(key));
        ControlFlow::Break(())
    })?;
    failed.map_or(Ok(page), Err)
}
