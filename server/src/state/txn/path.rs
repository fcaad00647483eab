//! The path of a transaction: which branch it and the transactions inside of it take, the operations along it, and how
//! their answers stand in each other. Plain functions of the command; whoever knows the keys decides the compares.

use std::cmp::Ordering;

use crate::command::{Compare, CompareOperand, CompareResult, Fault, Op, OpResponse, Txn};
use crate::mvcc::Version;

/// How the answers to a list of operations stand in each other.
#[derive(Debug)]
pub(in crate::state) struct Shape {
    succeeded: bool,
    /// Operations of the branch taken.
    ops: usize,
    /// Those that are transactions, by place.
    inner: Vec<(usize, Shape)>,
}

impl Shape {
    /// Of a transaction that took this path.
    pub(in crate::state) fn of(txn: &Txn, path: &[bool]) -> Self {
        Self::along(txn, &mut path.iter().copied())
    }

    fn along(txn: &Txn, path: &mut impl Iterator<Item = bool>) -> Self {
        let succeeded = path.next().unwrap_or_default();
        let ops = taken(txn, succeeded);
        let mut inner = Vec::new();
        for (place, op) in ops.iter().enumerate() {
            if let Op::Txn(txn) = op {
                inner.push((place, Self::along(txn, path)));
            }
        }
        Self {
            succeeded,
            ops: ops.len(),
            inner,
        }
    }

    /// The outermost transaction's answer, of those to the operations along the path.
    pub(in crate::state) fn answer(
        self,
        leaves: &mut impl Iterator<Item = OpResponse>,
    ) -> (bool, Vec<OpResponse>) {
        let Self {
            succeeded,
            ops,
            inner,
        } = self;
        let mut inner = inner.into_iter().peekable();
        let mut answers = Vec::with_capacity(ops);
        for place in 0..ops {
            match inner.next_if(|(at, _)| *at == place) {
                Some((_, shape)) => {
                    let (succeeded, responses) = shape.answer(leaves);
                    answers.push(OpResponse::Txn {
                        succeeded,
                        responses,
                    });
                }
                None => answers.extend(leaves.next()),
            }
        }
        (succeeded, answers)
    }
}

/// The operations along a path, those of inner transactions in their place.
#[derive(Debug)]
pub(in crate::state) enum Along<'a> {
    /// There are no inner transactions.
    Plain(&'a [Op]),
    Nested(Vec<&'a Op>),
}

impl<'a> Along<'a> {
    pub(in crate::state) fn of(txn: &'a Txn, path: &[bool]) -> Self {
        match path {
            [] => Self::Plain(&[]),
            [succeeded] => Self::Plain(taken(txn, *succeeded)),
            path => {
                let mut ops = Vec::new();
                Self::collect(txn, &mut path.iter().copied(), &mut ops);
                Self::Nested(ops)
            }
        }
    }

    fn collect(txn: &'a Txn, path: &mut impl Iterator<Item = bool>, ops: &mut Vec<&'a Op>) {
        for op in taken(txn, path.next().unwrap_or_default()) {
            match op {
                Op::Txn(inner) => Self::collect(inner, path, ops),
                Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => ops.push(op),
            }
        }
    }

    pub(in crate::state) fn len(&self) -> usize {
        match self {
            Self::Plain(ops) => ops.len(),
            Self::Nested(ops) => ops.len(),
        }
    }

    pub(in crate::state) fn get(&self, place: usize) -> Option<&'a Op> {
        match self {
            Self::Plain(ops) => ops.get(place),
            Self::Nested(ops) => ops.get(place).copied(),
        }
    }

    pub(in crate::state) fn iter(&self) -> impl Iterator<Item = &'a Op> {
        (0..self.len()).filter_map(|place| self.get(place))
    }
}

fn taken(txn: &Txn, succeeded: bool) -> &[Op] {
    match succeeded {
        true => &txn.success,
        false => &txn.failure,
    }
}

/// How each transaction goes, as `ask` decides its compares, the outermost first; whether `ask` knew all of them.
pub(in crate::state) fn find_path(
    txn: &Txn,
    path: &mut Vec<bool>,
    ask: &mut dyn FnMut(&Compare) -> Result<Option<bool>, Fault>,
) -> Result<bool, Fault> {
    let mut succeeded = true;
    for compare in &txn.compares {
        match ask(compare)? {
            Some(true) => {}
            Some(false) => {
                succeeded = false;
                break;
            }
            None => return Ok(false),
        }
    }
    path.push(succeeded);
    for op in taken(txn, succeeded) {
        if let Op::Txn(inner) = op
            && !find_path(inner, path, ask)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a compare holds for one key, or for a missing one.
pub(in crate::state) fn holds(compare: &Compare, found: Option<&Version>) -> bool {
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
