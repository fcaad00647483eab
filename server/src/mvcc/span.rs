//! Reading a span of keys slice by slice, as it is or as it was.
//!
//! A slice ends when its budget is used up and says where the next one begins. Rows that are stepped over cost as much
//! as rows that are found, so no slice takes long: not where most keys are newer than the revision asked for, nor
//! where one key has a hundred thousand superseded versions. Where little changed since the revision, what changed is
//! looked up key by key, and what else was superseded in the span costs nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;

use super::Mvcc;
use super::budget::Budget;
use super::history;
use super::leaves::{LOADS_KEPT, Visited};
use super::past::{damaged_past, superseded_at};
use super::row::{self, Version};
use super::{CURRENT, PAST};
use crate::command::{Fault, Revision, Stamp};
use crate::disk::{Rows, Scan};

/// Superseded versions of one key that are stepped over before the rest of them is jumped: a jump costs as much as some.
const STEPS_MAX: usize = 16;
/// Changes since a revision that are looked at one by one, rather than all that was ever superseded in the span.
const CHANGES_CHEAP: usize = 256;

/// The keys of `[start, end)`, to the end of the key space without `end`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// First key.
    pub start: Bytes,
    /// First key not meant.
    pub end: Option<Bytes>,
}

impl Span {
    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end <= &self.start)
    }

    /// Whether `key` is in it.
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.start.as_ref() && self.end.as_ref().is_none_or(|end| key < end.as_ref())
    }
}

/// A moment that was.
#[derive(Clone, Copy, Debug)]
pub struct AsOf {
    /// The newest revision made by then; not below the compaction floor.
    pub revision: Revision,
    /// Where the next change will stand in what is read; `None` if nobody knows.
    pub top: Option<Stamp>,
}

/// Some versions in key order.
#[derive(Debug, Default)]
pub struct Slice {
    /// Keys and their versions.
    pub found: Vec<(Bytes, Version)>,
    /// Where the next slice begins; `None` if this one reached the end of the span.
    pub next: Option<Bytes>,
}

impl Mvcc {
    /// The first live versions of `span`: at most `limit`, and what `budget` has room for, but at least one. Takes what it
    /// used out of the budget.
    pub fn live(
        &self,
        rows: &Rows<'_>,
        span: &Span,
        limit: usize,
        budget: &mut Budget,
    ) -> Result<Slice, Fault> {
        let mut slice = Slice::default();
        let visit = &mut |key: &Bytes, row: &Bytes| {
            if !slice.found.is_empty() && (slice.found.len() >= limit || budget.is_spent()) {
                slice.next = Some(key.clone());
                return Ok(ControlFlow::Break(()));
            }
            budget.spend(1, key.len() + row.len());
            slice
                .found
                .push((key.clone(), Version::decode(row.clone())?));
            Ok(ControlFlow::Continue(()))
        };
        self.leaves.borrow_mut().visit(
            rows,
            &span.start,
            span.end.as_deref(),
            LOADS_KEPT,
            visit,
        )?;
        Ok(slice)
    }

    /// The first versions of `span` that stood at a moment: at most `limit`, none if `budget` was used up by rows that did
    /// not stand then.
    pub fn as_of(
        &self,
        rows: &Rows<'_>,
        span: &Span,
        moment: AsOf,
        limit: usize,
        budget: &mut Budget,
    ) -> Result<Slice, Fault> {
        if span.is_empty() {
            return Ok(Slice::default());
        }
        let mut search = Search::new(moment, limit);
        // Both halves may take as much: the slice is at most twice as long as asked for.
        let mut live = *budget;
        let end = span.end.as_deref();
        self.leaves
            .borrow_mut()
            .visit(rows, &span.start, end, LOADS_KEPT, &mut |key, row| {
                search.live(key, row, &mut live)
            })?;
        search.finish(rows, span, moment, live, budget)
    }
}

/// As [`Mvcc::as_of`], of rows that nobody keeps in memory.
pub(super) fn rows_as_of(
    rows: &dyn Scan,
    span: &Span,
    moment: AsOf,
    budget: &mut Budget,
) -> Result<Slice, Fault> {
    if span.is_empty() {
        return Ok(Slice::default());
    }
    let mut search = Search::new(moment, usize::MAX);
    let mut live = *budget;
    let mut outcome = Ok(());
    let end = span.end.as_deref();
    rows.scan(CURRENT, &span.start, end, &mut |key, row| {
        let (key, row) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(row));
        search.live(&key, &row, &mut live).unwrap_or_else(|fault| {
            outcome = Err(fault);
            ControlFlow::Break(())
        })
    })?;
    outcome?;
    search.finish(rows, span, moment, live, budget)
}

/// The keys of `span` that changed since the moment; `None` if too much did.
fn changed_since(
    rows: &dyn Scan,
    span: &Span,
    moment: AsOf,
    budget: &mut Budget,
) -> Result<Option<BTreeSet<Bytes>>, Fault> {
    let AsOf { revision, top } = moment;
    let next = revision.next();
    if top.is_some_and(|top| top.main.0.saturating_sub(next.0) > CHANGES_CHEAP as u64) {
        return Ok(None);
    }
    let from = Stamp { main: next, sub: 0 };
    let (mut keys, mut left) = (BTreeSet::new(), CHANGES_CHEAP);
    let mut is_all = true;
    history::scan(rows, from, top, &mut |_, _, key| {
        is_all = left > 0;
        if !is_all {
            return Ok(ControlFlow::Break(()));
        }
        left -= 1;
        if span.contains(key) {
            keys.insert(Bytes::copy_from_slice(key));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    budget.spend(CHANGES_CHEAP - left, 0);
    Ok(is_all.then_some(keys))
}

struct Search {
    revision: Revision,
    limit: usize,
    found: BTreeMap<Bytes, Version>,
    /// Complete to before this key.
    next: Option<Bytes>,
    has_visited: bool,
}

impl Search {
    fn new(moment: AsOf, limit: usize) -> Self {
        Self {
            revision: moment.revision,
            limit,
            found: BTreeMap::new(),
            next: None,
            has_visited: false,
        }
    }

    /// Takes a live version if it stood already.
    fn live(&mut self, key: &Bytes, row: &Bytes, budget: &mut Budget) -> Visited {
        if self.has_visited && (self.found.len() >= self.limit || budget.is_spent()) {
            self.next = Some(key.clone());
            return Ok(ControlFlow::Break(()));
        }
        self.has_visited = true;
        let version = Version::decode(row.clone())?;
        if version.modified.main <= self.revision {
            budget.spend(1, key.len() + row.len());
            self.found.insert(key.clone(), version);
        } else {
            budget.spend(1, 0);
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Adds what stood then of `keys`, which changed since, as far as the first half came.
    fn changed(
        &mut self,
        rows: &dyn Scan,
        keys: BTreeSet<Bytes>,
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        let upto = self.next.clone();
        let is_reached = |key: &Bytes| upto.as_ref().is_none_or(|upto| key < upto);
        for key in keys.into_iter().take_while(is_reached) {
            if let Some(version) = superseded_at(rows, &key, self.revision)? {
                budget.spend(1, key.len() + version.value_bytes());
                self.found.insert(key, version);
            }
        }
        Ok(())
    }

    /// Adds what stood then and was superseded since, of the keys that the first half came to.
    fn superseded(
        &mut self,
        rows: &dyn Scan,
        span: &Span,
        budget: &mut Budget,
    ) -> Result<(), Fault> {
        let upto = self.next.as_ref().or(span.end.as_ref());
        let upto = upto.map(|upto| row::past_prefix(upto));
        let mut walk = Walk {
            search: self,
            key: Vec::new(),
            is_settled: false,
            steps: 0,
            added: 0,
            jump: Some(row::past_prefix(&span.start)),
            failed: None,
        };
        while let Some(from) = walk.jump.take() {
            rows.scan(PAST, &from, upto.as_deref(), &mut |stored, version| {
                walk.visit(stored, version, budget)
            })?;
        }
        walk.failed.map_or(Ok(()), Err)
    }

    /// Adds what was superseded since, after all live versions; `live` is what they left of the budget.
    fn finish(
        mut self,
        rows: &dyn Scan,
        span: &Span,
        moment: AsOf,
        live: Budget,
        budget: &mut Budget,
    ) -> Result<Slice, Fault> {
        let mut past = *budget;
        match changed_since(rows, span, moment, &mut past)? {
            Some(keys) => self.changed(rows, keys, &mut past)?,
            None => self.superseded(rows, span, &mut past)?,
        }
        budget.rows = live.rows.min(past.rows);
        budget.bytes = live.bytes.min(past.bytes);
        Ok(self.slice())
    }

    fn slice(self) -> Slice {
        let Self {
            limit,
            mut found,
            mut next,
            ..
        } = self;
        if let Some(next) = &next {
            found.split_off(next);
        }
        if found.len() > limit {
            next = found.keys().nth(limit).cloned();
        }
        Slice {
            found: found.into_iter().take(limit).collect(),
            next,
        }
    }
}

/// A walk over superseded versions: key by key, each key's by the revision that ended it.
struct Walk<'a> {
    search: &'a mut Search,
    /// The key in hand, as it stands in past rows.
    key: Vec<u8>,
    /// Whether it is known what stood of it.
    is_settled: bool,
    steps: usize,
    added: usize,
    /// Where to go on when the scan has stopped.
    jump: Option<Vec<u8>>,
    failed: Option<Fault>,
}

impl Walk<'_> {
    fn visit(&mut self, stored: &[u8], version: &[u8], budget: &mut Budget) -> ControlFlow<()> {
        let Some((escaped, ended)) = row::cut_past_key(stored) else {
            self.failed = Some(damaged_past());
            return ControlFlow::Break(());
        };
        if self.key != escaped {
            // Between two keys the walk may stop; one key takes a few dozen rows at most.
            if !self.key.is_empty() && (self.added >= self.search.limit || budget.is_spent()) {
                match row::split_past_key(stored) {
                    Some((key, _)) => self.search.next = Some(Bytes::from(key)),
                    None => self.failed = Some(damaged_past()),
                }
                return ControlFlow::Break(());
            }
            self.key.clear();
            self.key.extend_from_slice(escaped);
            self.is_settled = false;
            self.steps = 0;
        }
        budget.spend(1, 0);
        if self.is_settled {
            return self.step(|key| [key, &row::BEHIND_VERSIONS].concat());
        }
        let revision = self.search.revision;
        if ended <= revision {
            return self.step(|key| {
                let next = revision.next().0.to_be_bytes();
                [key, &row::TERMINATOR, &next].concat()
            });
        }
        // Of the versions that ended after `revision` only the first can have stood then.
        self.is_settled = true;
        self.steps = 0;
        match Version::decode(Bytes::copy_from_slice(version)) {
            Ok(version) if version.modified.main <= revision => {
                let Some((key, _)) = row::split_past_key(stored) else {
                    self.failed = Some(damaged_past());
                    return ControlFlow::Break(());
                };
                budget.spend(0, key.len() + version.value_bytes());
                self.search.found.insert(Bytes::from(key), version);
                self.added += 1;
                ControlFlow::Continue(())
            }
            Ok(_) => ControlFlow::Continue(()),
            Err(fault) => {
                self.failed = Some(fault);
                ControlFlow::Break(())
            }
        }
    }

    /// Steps over a row, or stops to go on from what `jump` makes of the key.
    fn step(&mut self, jump: impl Fn(&[u8]) -> Vec<u8>) -> ControlFlow<()> {
        self.steps += 1;
        if self.steps < STEPS_MAX {
            return ControlFlow::Continue(());
        }
        self.steps = 0;
        self.jump = Some(jump(&self.key));
        ControlFlow::Break(())
    }
}
