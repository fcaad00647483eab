//! A request as the log shows it, values left out, and the numbers about it and its answer.

use std::any::Any;
use std::fmt::Write;

use coord_proto::etcd::etcdserverpb as pb;
use pb::request_op::Request as Op;
use pb::response_op::Response as OpResponse;
use prost::Message;

/// The requests that etcd shows; of others it tells the method alone.
#[derive(Clone, Debug)]
pub(in crate::etcd) enum Shown {
    Range(pb::RangeRequest),
    Put(pb::PutRequest),
    DeleteRange(pb::DeleteRangeRequest),
    Txn(pb::TxnRequest),
}

/// The numbers of a call; -1 where etcd has none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) request_count: i64,
    pub(super) request_size: i64,
    pub(super) response_count: i64,
    pub(super) response_size: i64,
    /// The answer in etcd's words; empty where there is none.
    pub(super) response: String,
}

impl Numbers {
    pub(super) fn of(shown: Option<&Shown>, answer: Option<&dyn Any>) -> Self {
        let none = Self {
            request_count: -1,
            request_size: -1,
            response_count: -1,
            response_size: -1,
            response: String::new(),
        };
        let Some(shown) = shown else { return none };
        let of = |request: (i64, usize), response: Option<(i64, usize)>, words: String| {
            let (response_count, response_size) = response.unwrap_or((0, 0));
            Self {
                request_count: request.0,
                request_size: signed(request.1),
                response_count,
                response_size: signed(response_size),
                response: words,
            }
        };
        match shown {
            Shown::Range(range) => {
                let answer = answer.and_then(|answer| answer.downcast_ref::<pb::RangeResponse>());
                let words = answer.map(|found| {
                    let (kvs, size) = (found.kvs.len(), found.encoded_len());
                    format!("range_response_count:{kvs} size:{size}")
                });
                let response = answer.map(|found| (found.count, found.encoded_len()));
                of(
                    (0, range.encoded_len()),
                    response,
                    words.unwrap_or_default(),
                )
            }
            Shown::Put(put) => {
                let answer = answer.and_then(|answer| answer.downcast_ref::<pb::PutResponse>());
                let size = answer.map(Message::encoded_len);
                of(
                    (1, put.encoded_len()),
                    size.map(|size| (0, size)),
                    sized(size),
                )
            }
            Shown::DeleteRange(delete) => {
                let answer =
                    answer.and_then(|answer| answer.downcast_ref::<pb::DeleteRangeResponse>());
                let size = answer.map(Message::encoded_len);
                let response = answer.map(|done| (done.deleted, done.encoded_len()));
                of((0, delete.encoded_len()), response, sized(size))
            }
            Shown::Txn(txn) => {
                let answer = answer.and_then(|answer| answer.downcast_ref::<pb::TxnResponse>());
                let done = match answer.is_some_and(|answer| answer.succeeded) {
                    true => &txn.success,
                    false => &txn.failure,
                };
                let bytes = done.iter().map(Message::encoded_len).sum();
                let size = answer.map(Message::encoded_len);
                let words = match answer {
                    Some(answer) if is_read_only(txn) => read(answer),
                    _ => sized(size),
                };
                let request = (signed(done.len()), bytes);
                of(request, size.map(|size| (0, size)), words)
            }
        }
    }
}

fn signed(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn sized(size: Option<usize>) -> String {
    size.map_or_else(String::new, |size| format!("size:{size}"))
}

fn read(answer: &pb::TxnResponse) -> String {
    let counts = answer
        .responses
        .iter()
        .filter_map(|response| match &response.response {
            Some(OpResponse::ResponseRange(found)) => {
                Some(format!("range_response_count:{}", found.kvs.len()))
            }
            _ => None,
        });
    let counts = Vec::from_iter(counts).join(" ");
    format!("responses:<{counts}> size:{}", answer.encoded_len())
}

fn is_read_only(txn: &pb::TxnRequest) -> bool {
    txn.success
        .iter()
        .chain(&txn.failure)
        .all(|op| match &op.request {
            Some(Op::RequestRange(_)) | None => true,
            Some(Op::RequestTxn(inner)) => is_read_only(inner),
            Some(Op::RequestPut(_) | Op::RequestDeleteRange(_)) => false,
        })
}

impl Shown {
    /// How etcd's line about a read begins; empty for a change.
    pub(super) fn prefix(&self) -> &'static str {
        match self {
            Self::Range(_) => "read-only range ",
            Self::Txn(txn) if is_read_only(txn) => "read-only txn ",
            Self::Put(_) | Self::DeleteRange(_) | Self::Txn(_) => "",
        }
    }

    /// The request by itself.
    pub(super) fn content(&self) -> String {
        let mut out = String::new();
        match self {
            Self::Range(it) => range(it, &mut out),
            Self::Put(it) => put(it, &mut out),
            Self::DeleteRange(it) => delete_range(it, &mut out),
            Self::Txn(it) => txn(it, &mut out),
        }
        out
    }

    /// The request as what is applied.
    pub(super) fn applied(&self) -> String {
        let content = self.content();
        match self {
            Self::Range(_) => content,
            Self::Txn(_) if !self.prefix().is_empty() => content,
            Self::Put(_) => format!("put:<{content}>"),
            Self::DeleteRange(_) => format!("delete_range:{{{}}}", content.trim_end()),
            Self::Txn(_) => format!("txn:<{content}>"),
        }
    }
}

fn range(it: &pb::RangeRequest, out: &mut String) {
    key("key", &it.key, out);
    key("range_end", &it.range_end, out);
    number("limit", it.limit, out);
    number("revision", it.revision, out);
    if it.sort_order != 0 {
        word("sort_order", it.sort_order().as_str_name(), out);
    }
    if it.sort_target != 0 {
        word("sort_target", it.sort_target().as_str_name(), out);
    }
    truth("serializable", it.serializable, out);
    truth("keys_only", it.keys_only, out);
    truth("count_only", it.count_only, out);
    number("min_mod_revision", it.min_mod_revision, out);
    number("max_mod_revision", it.max_mod_revision, out);
    number("min_create_revision", it.min_create_revision, out);
    number("max_create_revision", it.max_create_revision, out);
}

fn put(it: &pb::PutRequest, out: &mut String) {
    key("key", &it.key, out);
    number("value_size", signed(it.value.len()), out);
    number("lease", it.lease, out);
    truth("prev_kv", it.prev_kv, out);
    truth("ignore_value", it.ignore_value, out);
    truth("ignore_lease", it.ignore_lease, out);
}

fn delete_range(it: &pb::DeleteRangeRequest, out: &mut String) {
    key("key", &it.key, out);
    key("range_end", &it.range_end, out);
    truth("prev_kv", it.prev_kv, out);
}

fn txn(it: &pb::TxnRequest, out: &mut String) {
    for compare in &it.compare {
        out.push_str("compare:<");
        if compare.result != 0 {
            word("result", compare.result().as_str_name(), out);
        }
        if compare.target != 0 {
            word("target", compare.target().as_str_name(), out);
        }
        key("key", &compare.key, out);
        key("range_end", &compare.range_end, out);
        match &compare.target_union {
            Some(pb::compare::TargetUnion::Value(value)) => {
                number("value_size", signed(value.len()), out);
            }
            Some(pb::compare::TargetUnion::Version(with)) => number("version", *with, out),
            Some(pb::compare::TargetUnion::CreateRevision(with)) => {
                number("create_revision", *with, out);
            }
            Some(pb::compare::TargetUnion::ModRevision(with)) => {
                number("mod_revision", *with, out);
            }
            Some(pb::compare::TargetUnion::Lease(with)) => number("lease", *with, out),
            None => {}
        }
        out.push_str("> ");
    }
    for (name, list) in [("success", &it.success), ("failure", &it.failure)] {
        for op in list {
            let _ = write!(out, "{name}:<");
            match &op.request {
                Some(Op::RequestRange(inner)) => {
                    plain("request_range", out, |out| range(inner, out))
                }
                Some(Op::RequestPut(inner)) => part("request_put", out, |out| put(inner, out)),
                Some(Op::RequestDeleteRange(inner)) => {
                    plain("request_delete_range", out, |out| delete_range(inner, out));
                }
                Some(Op::RequestTxn(inner)) => part("request_txn", out, |out| txn(inner, out)),
                None => {}
            }
            out.push_str("> ");
        }
    }
}

/// An operation that is shown without its value.
fn part(name: &str, out: &mut String, inner: impl FnOnce(&mut String)) {
    let _ = write!(out, "{name}:<");
    inner(out);
    out.push_str("> ");
}

/// An operation that is shown as it is.
fn plain(name: &str, out: &mut String, inner: impl FnOnce(&mut String)) {
    let _ = write!(out, "{name}:{{");
    inner(out);
    out.truncate(out.trim_end().len());
    out.push_str("} ");
}

fn key(name: &str, bytes: &[u8], out: &mut String) {
    if !bytes.is_empty() {
        let _ = write!(out, "{name}:\"{}\" ", bytes.escape_ascii());
    }
}

fn number(name: &str, number: i64, out: &mut String) {
    if number != 0 {
        let _ = write!(out, "{name}:{number} ");
    }
}

fn word(name: &str, word: &str, out: &mut String) {
    let _ = write!(out, "{name}:{word} ");
}

fn truth(name: &str, is: bool, out: &mut String) {
    if is {
        let _ = write!(out, "{name}:true ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_as_their_size() {
        let put = pb::PutRequest {
            key: bytes::Bytes::from_static(b"a\"\xff"),
            value: "secret".into(),
            lease: 7,
            ..Default::default()
        };
        let compare = pb::Compare {
            key: "c".into(),
            target: pb::compare::CompareTarget::Value.into(),
            target_union: Some(pb::compare::TargetUnion::Value("secret".into())),
            ..Default::default()
        };
        let op = pb::RequestOp {
            request: Some(Op::RequestPut(put.clone())),
        };
        let txn = Shown::Txn(pb::TxnRequest {
            compare: vec![compare],
            success: vec![op],
            failure: vec![],
        });
        let shown = r#"compare:<target:VALUE key:"c" value_size:6 > success:<request_put:<key:"a\"\xff" value_size:6 lease:7 > > "#;
        assert_eq!(txn.content(), shown);
        assert_eq!(txn.prefix(), "");
        assert!(Shown::Put(put).applied().starts_with("put:<key:"));
    }

    #[test]
    fn a_range_is_counted_as_etcd_counts_it() {
        let shown = Shown::Range(pb::RangeRequest {
            key: "a".into(),
            ..Default::default()
        });
        let answer = pb::RangeResponse {
            kvs: vec![Default::default()],
            count: 5,
            ..Default::default()
        };
        let numbers = Numbers::of(Some(&shown), Some(&answer));
        assert_eq!(
            numbers.response,
            format!("range_response_count:1 size:{}", answer.encoded_len())
        );
        assert_eq!((numbers.request_count, numbers.response_count), (0, 5));
        assert_eq!(Numbers::of(Some(&shown), None).response, "");
        assert_eq!(Numbers::of(None, None).request_size, -1);
    }
}
