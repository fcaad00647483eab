//! Transactions: all compares on the starting state, all checks of the branch taken, then its operations.
//!
//! An operation is applied wherever the transaction is; what it answers is made only for the member that answers. A read
//! of a range never happens in here: its answer is read afterwards, in slices, from the versions that stood when its turn
//! had come. At operation `i` of a transaction that makes revision `r`, these are the ones of `r` for keys that an
//! earlier operation changed, and those of `r - 1` for all others: a key changes only once in a revision.

use std::cmp::Ordering;
use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::apply::Law;
use super::kv::{Deleting, check_key};
use super::reading::{Part, Piece, RangeReading};
use super::view;
use crate::command::{
    Compare, CompareOperand, CompareResult, Fault, Keys, KvRefusal, Op, OpResponse, Refusal,
    Revision, Txn,
};
use crate::mvcc::{Budget, Version};

/// A transaction whose branch is being applied.
#[derive(Debug)]
pub(super) struct Branch {
    pub(super) succeeded: bool,
    /// Operations that are applied.
    done: usize,
    deleting: Deleting,
    /// One for each applied operation, if somebody waits for the answer.
    answered: Vec<Answered>,
}

/// What an operation has answered.
#[derive(Debug)]
enum Answered {
    Ready(OpResponse),
    /// Read it afterwards.
    Later,
    /// So many are gone; the pairs are read afterwards.
    Deleted(u64),
}

impl Branch {
    fn ops<'a>(&self, txn: &'a Txn) -> &'a [Op] {
        match self.succeeded {
            true => &txn.success,
            false => &txn.failure,
        }
    }
}

impl Law<'_> {
    /// Compares and checks. Nothing is written yet.
    pub(super) fn begin_txn(&mut self, txn: &Txn) -> Result<Result<Branch, Refusal>, Fault> {
        let checked = check_shape(&txn.success).and_then(|()| check_shape(&txn.failure));
        if let Err(refusal) = checked {
            return Ok(Err(refusal));
        }
        if txn
            .compares
            .iter()
            .any(|compare| !matches!(compare.keys, Keys::One(_)))
        {
            return Ok(Err(KvRefusal::NotYet.into()));
        }
        let succeeded = compares_hold(&txn.compares, |key| self.mvcc.get(&self.rows, key))?;
        let branch = Branch {
            succeeded,
            done: 0,
            deleting: Deleting::default(),
            answered: Vec::new(),
        };
        for op in branch.ops(txn) {
            let checked = match op {
                Op::Range(range) => {
                    view::check_revision(range.revision, self.ledger.revision, self.ledger.floor)
                }
                Op::Put(put) => self.check_put(put)?,
                Op::DeleteRange(_) => Ok(()),
                Op::Txn(_) => Err(KvRefusal::NotYet.into()),
            };
            if let Err(refusal) = checked {
                return Ok(Err(refusal));
            }
        }
        self.spend(txn.compares.len() + branch.ops(txn).len(), 0);
        Ok(Ok(branch))
    }

    /// Applies operations until the turn is over; whether all are applied.
    pub(super) fn go_on_txn(&mut self, txn: &Txn, branch: &mut Branch) -> Result<bool, Fault> {
        while let Some(op) = branch.ops(txn).get(branch.done) {
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

/// What a transaction answers, and the oldest revision that this needs: `newest` is the store's after it, `changed`
/// whether it made that one.
pub(super) fn pieces(
    txn: &Txn,
    branch: Branch,
    newest: Revision,
    changed: bool,
) -> (VecDeque<Piece>, Revision) {
    let ops = branch.ops(txn);
    let mut oldest = newest;
    let mut pieces = VecDeque::with_capacity(ops.len());
    for (place, (op, answered)) in ops.iter().zip(branch.answered).enumerate() {
        let as_seen = |keys: &Keys| match changed {
            true => parts(ops, place, keys, newest),
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
            // The law lets none begin.
            (Answered::Later | Answered::Deleted(_), Op::Txn(_)) => continue,
            (Answered::Deleted(_), Op::Range(range)) => {
                Piece::Range(RangeReading::of(range, note(as_seen(&range.keys))))
            }
        });
    }
    (pieces, oldest)
}

/// `keys` as the operation at `place` saw them, in a branch that made revision `newest`.
fn parts(ops: &[Op], place: usize, keys: &Keys, newest: Revision) -> VecDeque<Part> {
    let before = Revision(newest.0 - 1);
    let mut changed: Vec<(Bytes, Option<Bytes>)> = Vec::new();
    for op in &ops[..place] {
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

/// Refuses what is wrong with a branch whatever the state holds: bad keys, and keys changed twice.
///
/// Two deletes may overlap. A put may not meet another put of its key or a delete that covers it, before or after.
fn check_shape(branch: &[Op]) -> Result<(), Refusal> {
    // What most transactions are: nothing to compare it with.
    if let [Op::Put(put)] = branch {
        return check_key(&put.key);
    }
    let mut keys = BTreeSet::new();
    for op in branch {
        if let Op::Put(put) = op {
            check_key(&put.key)?;
            if !keys.insert(&put.key) {
                return Err(Refusal::Kv(KvRefusal::DuplicateKey));
            }
        }
    }
    for op in branch {
        if let Op::DeleteRange(delete) = op
            && keys.iter().any(|key| delete.keys.contains(key))
        {
            return Err(Refusal::Kv(KvRefusal::DuplicateKey));
        }
    }
    Ok(())
}

/// Whether all compares hold, on what `get` finds.
pub(super) fn compares_hold(
    compares: &[Compare],
    get: impl Fn(&[u8]) -> Result<Option<Version>, Fault>,
) -> Result<bool, Fault> {
    for compare in compares {
        let Keys::One(key) = &compare.keys else {
            continue;
        };
        if !holds(compare, get(key)?.as_ref()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(compare: &Compare, found: Option<&Version>) -> bool {
    let Compare {
        keys: _,
        result,
        operand,
    } = compare;
    // etcd's numbers are signed; ours never reach the sign.
    let number = |of: fn(&Version) -> u64| found.map_or(0, |found| of(found).cast_signed());
    let ordering = match operand {
        CompareOperand::Version(held) => number(|found| found.version).cmp(held),
        CompareOperand::Create(held) => number(|found| found.create.0).cmp(held),
        CompareOperand::Mod(held) => number(|found| found.modified.main.0).cmp(held),
        CompareOperand::Lease(held) => found
            .and_then(|found| found.lease)
            .map_or(0, |lease| lease.0)
            .cmp(held),
        CompareOperand::Value(held) => match found {
            Some(found) => found.value().cmp(held),
            None => return false,
        },
    };
    match result {
        CompareResult::Equal => ordering == Ordering::Equal,
        CompareResult::Greater => ordering == Ordering::Greater,
        CompareResult::Less => ordering == Ordering::Less,
        CompareResult::NotEqual => ordering != Ordering::Equal,
    }
}
