//! Reading all of one moment page by page, for a snapshot. Nothing that is written meanwhile shows.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::Mvcc;
use super::past::{after, damaged_past};
use super::row;
use super::span::{Budget, Span};
use super::{LOG, PAST};
use crate::command::{Fault, Revision};
use crate::disk::{Rows, Space};

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
/// What a row that is stepped over counts beside its key.
const STEP_BYTES: usize = 96;

impl Mvcc {
    /// The current rows as of `revision`, from key `from` on, some `bytes_max` of them. A page may be empty and not the
    /// last: what was rewritten since is stepped over, and that takes time as well.
    pub fn page_at(
        &self,
        rows: &Rows<'_>,
        from: &Bytes,
        revision: Revision,
        bytes_max: usize,
    ) -> Result<Page, Fault> {
        let span = Span {
            start: from.clone(),
            end: None,
        };
        let mut budget = Budget {
            rows: PAGE_ROWS,
            bytes: bytes_max,
        };
        // What a snapshot reads is not what clients ask for: keep none of it.
        let slice = self.as_of(rows, &span, revision, usize::MAX, 0, &mut budget)?;
        let found = slice.found.into_iter();
        Ok(Page {
            rows: found.map(|(key, version)| (key, version.row())).collect(),
            next: slice.next,
        })
    }
}

/// The past rows that ended in `(floor, revision]`, from stored key `from` on.
pub fn past_page(
    rows: &Rows<'_>,
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
    rows: &Rows<'_>,
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
    rows: &Rows<'_>,
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
