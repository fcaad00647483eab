//! Operations on keys: those of the KV service, with all that a transaction holds, and what is watched.

use coord_proto::etcd::etcdserverpb as pb;
use pb::request_op::Request as Op;

use super::Asks;
use crate::audit::{Fact, Kind, Operation, Span};
use crate::etcd::slow::shown::Shown;

/// Names of the two lists of a transaction.
const SUCCESS: &str = "success";
const FAILURE: &str = "failure";

impl Asks for pb::RangeRequest {
    fn shown(&self) -> Option<Shown> {
        Some(Shown::Range(self.clone()))
    }

    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        range(self, "", each);
    }

    fn kept(&self) -> Self {
        self.clone()
    }
}

impl Asks for pb::PutRequest {
    fn shown(&self) -> Option<Shown> {
        Some(Shown::Put(self.clone()))
    }

    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        put(self, "", each);
    }

    fn kept(&self) -> Self {
        Self {
            key: self.key.clone(),
            lease: self.lease,
            prev_kv: self.prev_kv,
            ..Self::default()
        }
    }
}

impl Asks for pb::DeleteRangeRequest {
    fn shown(&self) -> Option<Shown> {
        Some(Shown::DeleteRange(self.clone()))
    }

    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        delete_range(self, "", each);
    }

    fn kept(&self) -> Self {
        self.clone()
    }
}

impl Asks for pb::TxnRequest {
    fn shown(&self) -> Option<Shown> {
        Some(Shown::Txn(self.clone()))
    }

    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        txn(self, "", each);
    }

    /// Values are parts of the frame that it came in, and held until the call ends anyway.
    fn kept(&self) -> Self {
        self.clone()
    }
}

impl Asks for pb::CompactionRequest {
    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        let facts = [("revision", Fact::Number(self.revision))];
        each(Operation {
            facts: &facts,
            ..Operation::new(Kind::Maintenance, "compact")
        });
    }

    fn kept(&self) -> Self {
        *self
    }
}

impl Asks for pb::WatchCreateRequest {
    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        // Without a key it begins with the first there can be.
        let key = if self.key.is_empty() {
            b"\0"
        } else {
            &self.key[..]
        };
        let facts = [("start_revision", Fact::Number(self.start_revision))];
        each(Operation {
            keys: Some(span(key, &self.range_end)),
            facts: set(&facts, self.start_revision != 0),
            ..Operation::new(Kind::Watch, "watch_create")
        });
    }

    fn kept(&self) -> Self {
        self.clone()
    }
}

impl Asks for pb::WatchCancelRequest {
    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        let facts = [("watch_id", Fact::Number(self.watch_id))];
        each(Operation {
            facts: &facts,
            ..Operation::new(Kind::Watch, "watch_cancel")
        });
    }

    fn kept(&self) -> Self {
        *self
    }
}

fn range(range: &pb::RangeRequest, branch: &str, each: &mut dyn FnMut(Operation<'_>)) {
    let facts = [("revision", Fact::Number(range.revision))];
    each(Operation {
        keys: Some(span(&range.key, &range.range_end)),
        facts: set(&facts, range.revision != 0),
        branch,
        ..Operation::new(Kind::Read, "range")
    });
}

fn put(put: &pb::PutRequest, branch: &str, each: &mut dyn FnMut(Operation<'_>)) {
    let facts = [("lease", Fact::Id(put.lease.cast_unsigned()))];
    each(Operation {
        keys: Some(span(&put.key, b"")),
        facts: set(&facts, put.lease != 0),
        branch,
        ..Operation::new(Kind::Write, "put")
    });
}

fn delete_range(
    delete: &pb::DeleteRangeRequest,
    branch: &str,
    each: &mut dyn FnMut(Operation<'_>),
) {
    each(Operation {
        keys: Some(span(&delete.key, &delete.range_end)),
        branch,
        ..Operation::new(Kind::Write, "delete_range")
    });
}

/// Hands over compares, then both lists: which of them was done, the answer says.
fn txn(txn: &pb::TxnRequest, branch: &str, each: &mut dyn FnMut(Operation<'_>)) {
    for compare in &txn.compare {
        each(Operation {
            keys: Some(span(&compare.key, &compare.range_end)),
            branch,
            ..Operation::new(Kind::Read, "compare")
        });
    }
    for (name, list) in [(SUCCESS, &txn.success), (FAILURE, &txn.failure)] {
        let inside;
        let list_branch = match branch {
            "" => name,
            outer => {
                inside = format!("{outer}.{name}");
                &inside
            }
        };
        for (at, op) in list.iter().enumerate() {
            match &op.request {
                Some(Op::RequestRange(inner)) => range(inner, list_branch, each),
                Some(Op::RequestPut(inner)) => put(inner, list_branch, each),
                Some(Op::RequestDeleteRange(inner)) => delete_range(inner, list_branch, each),
                Some(Op::RequestTxn(inner)) => {
                    self::txn(inner, &format!("{list_branch}[{at}]"), each);
                }
                None => {}
            }
        }
    }
}

fn span<'a>(key: &'a [u8], range_end: &'a [u8]) -> Span<'a> {
    Span { key, range_end }
}

/// The details, unless they say nothing.
pub(super) fn set<'a>(
    facts: &'a [(&'static str, Fact<'a>)],
    is_set: bool,
) -> &'a [(&'static str, Fact<'a>)] {
    if is_set { facts } else { &[] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(request: Op) -> pb::RequestOp {
        let request = Some(request);
        pb::RequestOp { request }
    }

    #[test]
    fn a_transaction_names_every_operation_and_where_it_stands() {
        let put = |key: &'static str| {
            op(Op::RequestPut(pb::PutRequest {
                key: key.into(),
                value: "secret".into(),
                ..Default::default()
            }))
        };
        let compare = |key: &'static str| pb::Compare {
            key: key.into(),
            ..Default::default()
        };
        let inner = pb::TxnRequest {
            compare: vec![compare("c2")],
            success: vec![],
            failure: vec![put("p2")],
        };
        let delete = pb::DeleteRangeRequest {
            key: "d".into(),
            range_end: "e".into(),
            prev_kv: false,
        };
        let txn = pb::TxnRequest {
            compare: vec![compare("c1")],
            success: vec![put("p1"), op(Op::RequestTxn(inner))],
            failure: vec![
                op(Op::RequestDeleteRange(delete)),
                op(Op::RequestRange(Default::default())),
            ],
        };
        let mut seen = Vec::new();
        txn.operations(&mut |operation| {
            let key = operation
                .keys
                .map(|span| String::from_utf8_lossy(span.key).into_owned());
            let place = (
                operation.name,
                key.unwrap_or_default(),
                operation.branch.to_owned(),
            );
            seen.push(place);
        });
        let expected = [
            ("compare", "c1", ""),
            ("put", "p1", "success"),
            ("compare", "c2", "success[1]"),
            ("put", "p2", "success[1].failure"),
            ("delete_range", "d", "failure"),
            ("range", "", "failure"),
        ];
        let expected =
            expected.map(|(name, key, branch)| (name, key.to_owned(), branch.to_owned()));
        assert_eq!(seen, expected);
    }
}
