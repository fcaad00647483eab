//! Transactions: all compares on the starting state, all checks of the branch taken, then its operations.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use super::apply::{Law, Ruling};
use super::kv::check_key;
use super::view::View;
use crate::command::{
    Compare, CompareOperand, CompareResult, Fault, Op, OpResponse, Refusal, Response, Txn,
};
use crate::mvcc::Version;

impl Law<'_> {
    pub(super) fn txn(&mut self, txn: &Txn) -> Ruling {
        let checked = check_shape(&txn.success).and_then(|()| check_shape(&txn.failure));
        if let Err(refusal) = checked {
            return Ok(Err(refusal));
        }
        let succeeded = compares_hold(&self.view(), &txn.compares)?;
        let branch = if succeeded {
            &txn.success
        } else {
            &txn.failure
        };
        for op in branch {
            let checked = match op {
                Op::Range(range) => self.view().check_revision(range.revision),
                Op::Put(put) => self.check_put(put)?,
                Op::DeleteRange(_) => Ok(()),
            };
            if let Err(refusal) = checked {
                return Ok(Err(refusal));
            }
        }
        let mut responses = Vec::with_capacity(branch.len());
        for op in branch {
            responses.push(match op {
                Op::Range(range) => OpResponse::Range(self.view().range(range)?),
                Op::Put(put) => OpResponse::Put {
                    prev: self.put(put)?,
                },
                Op::DeleteRange(delete) => {
                    let (deleted, prevs) = self.delete_range(delete)?;
                    OpResponse::DeleteRange { deleted, prevs }
                }
            });
        }
        Ok(Ok(Response::Txn {
            succeeded,
            responses,
        }))
    }
}

/// Answers a transaction that changes nothing whichever way its compares go.
pub(super) fn read_only(view: &View<'_>, txn: &Txn) -> Result<Result<Response, Refusal>, Fault> {
    let succeeded = compares_hold(view, &txn.compares)?;
    let branch = if succeeded {
        &txn.success
    } else {
        &txn.failure
    };
    let mut responses = Vec::with_capacity(branch.len());
    for op in branch {
        let Op::Range(range) = op else {
            return Err(Fault::Store(
                "a transaction that writes was asked as a question".to_owned(),
            ));
        };
        if let Err(refusal) = view.check_revision(range.revision) {
            return Ok(Err(refusal));
        }
        responses.push(OpResponse::Range(view.range(range)?));
    }
    Ok(Ok(Response::Txn {
        succeeded,
        responses,
    }))
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
                return Err(Refusal::DuplicateKey);
            }
        }
    }
    for op in branch {
        if let Op::DeleteRange(delete) = op
            && keys.iter().any(|key| delete.keys.contains(key))
        {
            return Err(Refusal::DuplicateKey);
        }
    }
    Ok(())
}

fn compares_hold(view: &View<'_>, compares: &[Compare]) -> Result<bool, Fault> {
    for compare in compares {
        let found = view.mvcc.get(view.rows, &compare.key)?;
        if !holds(compare, found.as_ref()) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn holds(compare: &Compare, found: Option<&Version>) -> bool {
    let Compare {
        key: _,
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
