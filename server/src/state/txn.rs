//! Transactions: all compares on the starting state, all checks of the branch taken, then its operations.
//!
//! An operation is applied wherever the transaction is; its answer is made only on the member that answers. A read
//! of a range never happens in here: its answer is read afterwards, in slices, from the versions that stood when its turn
//! had come. At operation `i` of a transaction that makes revision `r`, these are the ones of `r` for keys that an
//! earlier operation changed, and those of `r - 1` for all others: a key changes only once in a revision.

mod path;

use std::collections::VecDeque;

use bytes::Bytes;

use super::kv::{Deleting, check_key};
use super::law::Law;
use super::reading::{Part, Piece, RangeReading};
use super::{No, view};
use crate::command::{Compare, Fault, Keys, KvRefusal, Op, OpResponse, Refusal, Revision, Txn};
use crate::mvcc::{Budget, Slice, Span};
pub(super) use path::{Along, Shape, find_path, holds};

/// Keys that one look of a compare over a range visits.
const COMPARED: Budget = Budget {
    rows: 256,
    bytes: 256 << 10,
};

/// A transaction that is being applied.
///
/// First all compares are decided, those of inner transactions too, on what stands then; that gives the path. Then the
/// operations along it are checked, and applied as one list.
#[derive(Debug, Default)]
pub(super) struct Branch {
    /// Compares that are decided, in the order in which they are come to; and how far the next one is.
    decided: Vec<bool>,
    comparing: Comparing,
    /// How each transaction went: the outermost, then those in the branch it took, in order. Empty while not all are
    /// decided.
    path: Vec<bool>,
    /// Operations that are applied.
    done: usize,
    deleting: Deleting,
    /// One for each applied operation, if somebody waits for the answer.
    answered: Vec<Answered>,
}

/// A compare over a range of keys, which may take several turns.
#[derive(Debug, Default)]
struct Comparing {
    /// Where to go on; its start if it has not begun.
    from: Option<Bytes>,
    /// Whether there was any key so far.
    any: bool,
}

/// The answer of an operation.
#[derive(Debug)]
enum Answered {
    Ready(OpResponse),
    /// Read it afterwards.
    Later,
    /// The number of keys that are gone; the pairs are read afterwards.
    Deleted(u64),
}

impl Branch {
    /// Looks at what is wrong with a transaction whatever the state holds. Nothing is written yet.
    pub(super) fn begin(txn: &Txn) -> Result<Self, Refusal> {
        check_keys(txn)?;
        if txn.changes_a_key_twice() {
            return Err(KvRefusal::DuplicateKey.into());
        }
        Ok(Self::default())
    }

    /// The removal that it is in the middle of.
    pub(super) fn deleting<'a>(&'a self, txn: &'a Txn) -> Option<(&'a Keys, &'a Deleting)> {
        self.deleting.next()?;
        match Along::of(txn, &self.path).get(self.done)? {
            Op::DeleteRange(delete) => Some((&delete.keys, &self.deleting)),
            Op::Range(_) | Op::Put(_) | Op::Txn(_) => None,
        }
    }

    /// Where the compare goes on that it is in the middle of.
    pub(super) fn comparing<'a>(&'a self, txn: &'a Txn) -> Option<(&'a Bytes, Option<&'a Bytes>)> {
        let from = self.comparing.from.as_ref()?;
        let compare = txn.compares.get(self.decided.len())?;
        match &compare.keys {
            Keys::Range { end, .. } => Some((from, end.as_ref())),
            Keys::One(_) => None,
        }
    }

    /// How the answers stand in each other.
    pub(super) fn shape(&self, txn: &Txn) -> Shape {
        Shape::of(txn, &self.path)
    }
}

impl Law<'_> {
    /// Decides compares, then checks and applies operations, until the turn is over; whether all are applied. Refused is
    /// only what has not written anything.
    pub(super) fn go_on_txn(&mut self, txn: &Txn, branch: &mut Branch) -> Result<bool, No> {
        if branch.path.is_empty() {
            if !self.decide_txn(txn, branch)? {
                return Ok(false);
            }
            self.check_along(&Along::of(txn, &branch.path))?;
        }
        Ok(self.apply_along(&Along::of(txn, &branch.path), branch)?)
    }

    /// Decides compares until the turn is over; whether the path is known.
    fn decide_txn(&mut self, txn: &Txn, branch: &mut Branch) -> Result<bool, Fault> {
        let Branch {
            decided,
            comparing,
            path,
            ..
        } = branch;
        let mut place = 0;
        let mut known = Vec::new();
        let is_known = find_path(txn, &mut known, &mut |compare| {
            place += 1;
            if let Some(decided) = decided.get(place - 1) {
                return Ok(Some(*decided));
            }
            let holds = self.compare_some(compare, comparing)?;
            decided.extend(holds);
            Ok(holds)
        })?;
        self.spend(place, 0);
        if is_known {
            *path = known;
            decided.clear();
        }
        Ok(is_known)
    }

    /// Goes on with one compare; `None` if the turn is over before it is decided.
    fn compare_some(
        &mut self,
        compare: &Compare,
        comparing: &mut Comparing,
    ) -> Result<Option<bool>, Fault> {
        let (start, end) = match &compare.keys {
            Keys::One(key) => {
                let found = self.mvcc.get(&self.rows, key)?;
                return Ok(Some(holds(compare, found.as_ref())));
            }
            Keys::Range { start, end } => (start, end),
        };
        let mut from = comparing.from.take().unwrap_or_else(|| start.clone());
        loop {
            if self.is_spent() {
                comparing.from = Some(from);
                return Ok(None);
            }
            let span = Span {
                start: from,
                end: end.clone(),
            };
            let mut budget = COMPARED;
            let slice = match span.is_empty() {
                true => Slice::default(),
                false => self.mvcc.live(&self.rows, &span, usize::MAX, &mut budget)?,
            };
            self.spend(slice.found.len(), COMPARED.bytes - budget.bytes);
            comparing.any |= !slice.found.is_empty();
            let all_hold = slice
                .found
                .iter()
                .all(|(_, version)| holds(compare, Some(version)));
            match slice.next {
                Some(next) if all_hold => from = next,
                Some(_) | None => {
                    let any = std::mem::take(&mut comparing.any);
                    // Without any key it is as with one that is missing.
                    return Ok(Some(all_hold && (any || holds(compare, None))));
                }
            }
        }
    }

    fn check_along(&mut self, ops: &Along<'_>) -> Result<(), No> {
        for op in ops.iter() {
            match op {
                Op::Range(range) => {
                    view::check_revision(range.revision, self.ledger.revision, self.ledger.floor)?;
                }
                Op::Put(put) => self.check_put(put)?,
                Op::DeleteRange(_) | Op::Txn(_) => {}
            }
        }
        self.spend(ops.len(), 0);
        Ok(())
    }

    fn apply_along(&mut self, ops: &Along<'_>, branch: &mut Branch) -> Result<bool, Fault> {
        while let Some(op) = ops.get(branch.done) {
            if self.is_spent() {
                return Ok(false);
            }
            let answered = match op {
                Op::Range(range) => match &range.keys {
                    Keys::One(_) if self.may_answer_now() => {
                        let mut reading = RangeReading::at(range, self.newest());
                        let moment = self.moment();
                        reading.step(&moment, &mut Budget::NONE.clone())?;
                        let found = reading.finish(self.mvcc);
                        self.answer_bytes += found.kvs.first().map_or(0, |kv| kv.value.len());
                        Answered::Ready(OpResponse::Range(found))
                    }
                    Keys::One(_) | Keys::Range { .. } => Answered::Later,
                },
                Op::Put(put) => {
                    let prev = self.put(put)?;
                    if put.prev_kv && !self.may_answer_now() {
                        Answered::Later
                    } else {
                        self.answer_bytes += prev.as_ref().map_or(0, |kv| kv.value.len());
                        Answered::Ready(OpResponse::Put { prev })
                    }
                }
                // The operations inside stand here themselves.
                Op::Txn(_) => Answered::Later,
                Op::DeleteRange(delete) => {
                    if !self.delete_some(&delete.keys, &mut branch.deleting)? {
                        return Ok(false);
                    }
                    let deleted = std::mem::take(&mut branch.deleting).deleted;
                    match delete.prev_kv && deleted > 0 {
                        true => Answered::Deleted(deleted),
                        false => Answered::Ready(OpResponse::DeleteRange {
                            deleted,
                            prevs: Vec::new(),
                        }),
                    }
                }
            };
            branch.done += 1;
            if self.is_wanted {
                branch.answered.push(answered);
            }
        }
        Ok(true)
    }
}

/// The answer of a transaction, and the oldest revision that this needs: `newest` is the store's after it, `changed`
/// whether it made that one.
pub(super) fn pieces(
    txn: &Txn,
    branch: Branch,
    newest: Revision,
    changed: bool,
) -> (VecDeque<Piece>, Revision) {
    let ops = Along::of(txn, &branch.path);
    let mut oldest = newest;
    let mut pieces = VecDeque::with_capacity(ops.len());
    for (place, (op, answered)) in ops.iter().zip(branch.answered).enumerate() {
        let as_seen = |keys: &Keys| match changed {
            true => parts(&ops, place, keys, newest),
            false => VecDeque::from([Part {
                keys: keys.clone(),
                at: newest,
            }]),
        };
        let mut note = |parts: VecDeque<Part>| {
            for part in &parts {
                oldest = oldest.min(part.at);
            }
            parts
        };
        pieces.push_back(match (answered, op) {
            (Answered::Ready(response), _) => Piece::Ready(response),
            (Answered::Later, Op::Range(range)) => Piece::Range(match range.revision {
                Some(at) if at < newest => {
                    let keys = range.keys.clone();
                    RangeReading::of(range, note(VecDeque::from([Part { keys, at }])))
                }
                Some(_) | None => RangeReading::of(range, note(as_seen(&range.keys))),
            }),
            (Answered::Later | Answered::Deleted(_), Op::Put(put)) => {
                let keys = Keys::One(put.key.clone());
                Piece::Replaced(RangeReading::all(note(as_seen(&keys))))
            }
            (Answered::Deleted(deleted), Op::DeleteRange(delete)) => Piece::Removed {
                deleted,
                prevs: RangeReading::all(note(as_seen(&delete.keys))),
            },
            (Answered::Later, Op::DeleteRange(delete)) => Piece::Removed {
                deleted: 0,
                prevs: RangeReading::all(note(as_seen(&delete.keys))),
            },
            // The operations inside stand here themselves.
            (Answered::Later | Answered::Deleted(_), Op::Txn(_)) => continue,
            (Answered::Deleted(_), Op::Range(range)) => {
                Piece::Range(RangeReading::of(range, note(as_seen(&range.keys))))
            }
        });
    }
    (pieces, oldest)
}

/// `keys` as the operation at `place` saw them, in a branch that made revision `newest`.
fn parts(ops: &Along<'_>, place: usize, keys: &Keys, newest: Revision) -> VecDeque<Part> {
    let before = Revision(newest.0 - 1);
    let mut changed: Vec<(Bytes, Option<Bytes>)> = Vec::new();
    for op in ops.iter().take(place) {
        let keys = match op {
            Op::Range(_) | Op::Txn(_) => continue,
            Op::Put(put) => &Keys::One(put.key.clone()),
            Op::DeleteRange(delete) => &delete.keys,
        };
        changed.push(match keys {
            Keys::One(key) => (key.clone(), Some(behind(key))),
            Keys::Range { start, end } => (start.clone(), end.clone()),
        });
    }
    let (mut at, end) = match keys {
        Keys::One(key) => {
            let is_changed = changed
                .iter()
                .any(|(start, end)| key >= start && end.as_ref().is_none_or(|end| key < end));
            return VecDeque::from([Part {
                keys: keys.clone(),
                at: if is_changed { newest } else { before },
            }]);
        }
        Keys::Range { start, end } => (start.clone(), end.clone()),
    };
    changed.sort();
    let mut parts = VecDeque::new();
    let mut add = |start: &Bytes, upto: &Option<Bytes>, at: Revision| {
        if upto.as_ref().is_none_or(|upto| start < upto) {
            let (start, end) = (start.clone(), upto.clone());
            parts.push_back(Part {
                keys: Keys::Range { start, end },
                at,
            });
        }
    };
    for (start, upto) in changed {
        let is_behind = end.as_ref().is_some_and(|end| start >= *end);
        let is_before = upto.as_ref().is_some_and(|upto| *upto <= at);
        let is_empty = upto.as_ref().is_some_and(|upto| *upto <= start);
        if is_behind || is_before || is_empty {
            continue;
        }
        if start > at {
            add(&at, &Some(start.clone()), before);
            at = start;
        }
        let upto = match (upto, &end) {
            (Some(upto), Some(end)) => Some(upto.min(end.clone())),
            (Some(upto), None) => Some(upto),
            (None, end) => end.clone(),
        };
        add(&at, &upto, newest);
        match upto {
            Some(upto) => at = upto,
            None => return parts,
        }
    }
    add(&at, &end, before);
    parts
}

/// The first key after `key`.
fn behind(key: &Bytes) -> Bytes {
    Bytes::from([key.as_ref(), &[0]].concat())
}

/// Refuses keys that cannot be stored, in any branch.
fn check_keys(txn: &Txn) -> Result<(), Refusal> {
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Put(put) => check_key(&put.key)?,
            Op::Txn(inner) => check_keys(inner)?,
            Op::Range(_) | Op::DeleteRange(_) => {}
        }
    }
    Ok(())
}
