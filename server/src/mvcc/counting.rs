//! Counting the keys of a span as of a revision, slice by slice.
//!
//! The keys there now are counted exactly without looking at them. From that, each change since the revision is
//! undone by the log: a creation takes one away, a removal brings one back. Where more changed than the span has
//! keys, the keys that stood then are counted one by one. Changes that are made between two slices are beyond where
//! the undoing ends.

use std::ops::ControlFlow;

use bytes::Bytes;

use super::budget::Budget;
use super::history::{self, Change};
use super::span::{AsOf, Span};
use super::{Mvcc, RowSpan};
use crate::command::{Fault, Revision, Stamp};
use crate::disk::Rows;

/// Changes looked at rather than counting a small range anew.
const CHANGES_CHEAP: u64 = 1024;

/// A count on its way.
#[derive(Debug)]
pub struct Counting {
    span: Span,
    revision: Revision,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Begin,
    Undo {
        now: u64,
        created: u64,
        removed: u64,
        /// The next change to look at, up to the first that was not there when this began.
        next: Stamp,
        upto: Stamp,
        /// The number of changes that are worth looking at.
        worth: u64,
    },
    Keys {
        from: Bytes,
        count: u64,
    },
}

impl Counting {
    /// Of the keys of `span` that stood at `revision`.
    pub fn new(span: Span, revision: Revision) -> Self {
        Self {
            span,
            revision,
            way: Way::Begin,
        }
    }
}

impl Counting {
    /// The rows that it looks at next, of those that nobody keeps in memory.
    pub fn reads(&self) -> Option<RowSpan> {
        match &self.way {
            Way::Begin => None,
            Way::Undo { next, upto, .. } => Some(RowSpan::changes(*next, *upto)),
            Way::Keys { from, .. } => Some(RowSpan::past(&Span {
                start: from.clone(),
                end: self.span.end.clone(),
            })),
        }
    }
}

impl Mvcc {
    /// Goes on with a count; answers it once it is known. `top` is where the next change will stand.
    pub fn count_on(
        &self,
        rows: &Rows<'_>,
        counting: &mut Counting,
        top: Stamp,
        budget: &mut Budget,
    ) -> Result<Option<u64>, Fault> {
        let Counting {
            span,
            revision,
            way,
        } = counting;
        if span.is_empty() {
            return Ok(Some(0));
        }
        loop {
            match way {
                Way::Begin => {
                    let end = span.end.as_deref();
                    if let Some(left) = self.remainders.borrow().find(*revision, &span.start, end) {
                        return Ok(Some(left));
                    }
                    let now = self.leaves.borrow_mut().count(rows, &span.start, end)?;
                    budget.spend(1, 0);
                    let next = Stamp {
                        main: revision.next(),
                        sub: 0,
                    };
                    if next >= top {
                        return Ok(Some(now));
                    }
                    let worth = now.saturating_mul(2) + CHANGES_CHEAP;
                    *way = match top.main.0 - next.main.0 > worth {
                        true => Way::Keys {
                            from: span.start.clone(),
                            count: 0,
                        },
                        false => Way::Undo {
                            now,
                            created: 0,
                            removed: 0,
                            next,
                            upto: top,
                            worth,
                        },
                    };
                }
                Way::Undo {
                    now,
                    created,
                    removed,
                    next,
                    upto,
                    worth,
                } => {
                    let mut is_cut = false;
                    history::scan(rows, *next, Some(*upto), &mut |at, change, key| {
                        if *worth == 0 || budget.is_spent() {
                            *next = at;
                            is_cut = true;
                            return Ok(ControlFlow::Break(()));
                        }
                        budget.spend(1, 0);
                        *worth -= 1;
                        match change {
                            Change::Create if span.contains(key) => *created += 1,
                            Change::Delete if span.contains(key) => *removed += 1,
                            Change::Create | Change::Delete | Change::Update => {}
                        }
                        Ok(ControlFlow::Continue(()))
                    })?;
                    if !is_cut {
                        return Ok(Some(*now + *removed - *created));
                    }
                    if *worth > 0 {
                        return Ok(None);
                    }
                    *way = Way::Keys {
                        from: span.start.clone(),
                        count: 0,
                    };
                }
                Way::Keys { from, count } => {
                    if budget.is_spent() {
                        return Ok(None);
                    }
                    let rest = Span {
                        start: from.clone(),
                        end: span.end.clone(),
                    };
                    let moment = AsOf {
                        revision: *revision,
                        top: Some(top),
                    };
                    let slice = self.as_of(rows, &rest, moment, usize::MAX, budget)?;
                    *count += slice.found.len() as u64;
                    match slice.next {
                        Some(next) => *from = next,
                        None => return Ok(Some(*count)),
                    }
                }
            }
        }
    }
}
