//! Reading all of one moment page by page, for a snapshot. Nothing that is written meanwhile shows.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::Mvcc;
use super::past::{after, damaged_past};
use super::row::{self, Version};
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

impl Mvcc {
    /// The current rows as of `revision`, from key `from` on, some `bytes_max` of them.
    pub fn page_at(
        &self,
        rows: &Rows<'_>,
        from: &Bytes,
        revision: Revision,
        bytes_max: usize,
    ) -> Result<Page, Fault> {
        let mut found: BTreeMap<Bytes, Bytes> = BTreeMap::new();
        let mut bytes = 0;
        // Up to here the page is complete; `None` is to the end.
        let mut last: Option<Bytes> = None;
        // What a snapshot reads is not what clients ask for: keep none of it.
        let visit = &mut |key: &Bytes, row: &Bytes| {
            let version = Version::decode(row.clone())?;
            if version.modified.main <= revision {
                bytes += key.len() + row.len();
                found.insert(key.clone(), row.clone());
            }
            if bytes < bytes_max {
                return Ok(ControlFlow::Continue(()));
            }
            last = Some(key.clone());
            Ok(ControlFlow::Break(()))
        };
        self.leaves.borrow_mut().visit(rows, from, None, 0, visit)?;

        let upto = last.as_ref().map(|last| row::past_prefix(&after(last)));
        let mut bytes = 0;
        let mut seen: Option<Vec<u8>> = None;
        let mut failed = None;
        rows.scan(
            Space::Past,
            &row::past_prefix(from),
            upto.as_deref(),
            &mut |stored, version| {
                let Some((key, ended)) = row::split_past_key(stored) else {
                    failed = Some(damaged_past());
                    return ControlFlow::Break(());
                };
                if ended <= revision || seen.as_ref() == Some(&key) {
                    return ControlFlow::Continue(());
                }
                let row = Bytes::copy_from_slice(version);
                match Version::decode(row.clone()) {
                    Ok(version) if version.modified.main <= revision => {
                        bytes += key.len() + row.len();
                        found.insert(Bytes::copy_from_slice(&key), row);
                    }
                    Ok(_) => {}
                    Err(fault) => {
                        failed = Some(fault);
                        return ControlFlow::Break(());
                    }
                }
                if bytes >= bytes_max {
                    last = Some(Bytes::from(key));
                    return ControlFlow::Break(());
                }
                seen = Some(key);
                ControlFlow::Continue(())
            },
        )?;
        if let Some(fault) = failed {
            return Err(fault);
        }
        let next = last.as_deref().map(after);
        if let Some(next) = &next {
            found.split_off(next);
        }
        Ok(Page {
            rows: found.into_iter().collect(),
            next,
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
    page(rows, Space::Past, from, bytes_max, |stored| {
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
    page(rows, Space::Log, from, bytes_max, |stored| {
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
        bytes += key.len();
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
