//! Refusals of the door itself, with etcd's codes and texts.

mod conversion;

use bytes::Bytes;
use coord_proto::etcd::etcdserverpb as pb;
use prost::Message;
use tonic::{Code, Status};

use super::{check, convert, error, header};
use crate::command::{
    CompareOperand, Keys, KvRefusal, LimitRefusal, MemberId, MemberRefusal, Op, OpResponse, Order,
    PutLease, PutValue, RangeResponse, Refusal, Revision, SortTarget, Unavailable,
};
use crate::config::Requests;

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str) -> pb::PutRequest {
    pb::PutRequest {
        key: bytes(key),
        value: bytes("v"),
        ..Default::default()
    }
}

fn range(key: &str) -> pb::RangeRequest {
    pb::RangeRequest {
        key: bytes(key),
        ..Default::default()
    }
}

fn delete(key: &str, end: &str) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: bytes(key),
        range_end: bytes(end),
        prev_kv: false,
    }
}

fn op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

fn put_op(key: &str) -> pb::RequestOp {
    op(pb::request_op::Request::RequestPut(put(key)))
}

fn delete_op(key: &str, end: &str) -> pb::RequestOp {
    op(pb::request_op::Request::RequestDeleteRange(delete(
        key, end,
    )))
}

fn txn(success: Vec<pb::RequestOp>) -> pb::TxnRequest {
    pb::TxnRequest {
        compare: Vec::new(),
        success,
        failure: Vec::new(),
    }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, error::Invalid>, code: Code, text: &str) {
    let status = Status::from(result.expect_err("this is refused"));
    assert_eq!((status.code(), status.message()), (code, text));
}

#[test]
fn a_bad_range_is_refused_as_etcd_does() {
    refused(
        convert::range(&range("")),
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    for bad in [
        pb::RangeRequest {
            sort_order: 3,
            ..range("a")
        },
        pb::RangeRequest {
            sort_target: 5,
            ..range("a")
        },
        pb::RangeRequest {
            sort_target: -1,
            ..range("a")
        },
    ] {
        refused(
            convert::range(&bad),
            Code::InvalidArgument,
            "etcdserver: invalid sort option",
        );
    }
}

#[test]
fn a_bad_put_is_refused_as_etcd_does() {
    refused(
        convert::put(&put("")),
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let request = pb::PutRequest {
        ignore_value: true,
        ..put("a")
    };
    refused(
        convert::put(&request),
        Code::InvalidArgument,
        "etcdserver: value is provided",
    );
    let request = pb::PutRequest {
        ignore_lease: true,
        lease: 3,
        ..put("a")
    };
    refused(
        convert::put(&request),
        Code::InvalidArgument,
        "etcdserver: lease is provided",
    );
    let long = put(&"k".repeat(40_000));
    let text = "etcdserver: key is too long: 40000 bytes, at most 32768 are stored";
    refused(convert::put(&long), Code::InvalidArgument, text);
    refused(
        check::request_size(1_572_865, Requests::default()),
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
    assert_eq!(check::request_size(1_572_864, Requests::default()), Ok(()));
}

#[test]
fn a_bad_transaction_is_refused_as_etcd_does() {
    let many = txn((0..129).map(|number| put_op(&number.to_string())).collect());
    refused(
        convert::txn(&many, Requests::default()),
        Code::InvalidArgument,
        "etcdserver: too many operations in txn request",
    );
    let compares = vec![pb::Compare::default(); 129];
    let many = pb::TxnRequest {
        compare: compares,
        ..Default::default()
    };
    refused(
        convert::txn(&many, Requests::default()),
        Code::InvalidArgument,
        "etcdserver: too many operations in txn request",
    );
    let empty = pb::TxnRequest {
        compare: vec![pb::Compare::default()],
        ..Default::default()
    };
    refused(
        convert::txn(&empty, Requests::default()),
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    );
    let nothing = txn(vec![pb::RequestOp { request: None }]);
    refused(
        convert::txn(&nothing, Requests::default()),
        Code::InvalidArgument,
        "etcdserver: key not found",
    );
    let unknown = pb::Compare {
        key: bytes("a"),
        target: 9,
        ..Default::default()
    };
    let unknown = pb::TxnRequest {
        compare: vec![unknown],
        ..Default::default()
    };
    refused(
        convert::txn(&unknown, Requests::default()),
        Code::InvalidArgument,
        "etcdserver: invalid compare option",
    );
    let large = pb::PutRequest {
        value: vec![0; 1_600_000].into(),
        ..put("a")
    };
    let large = txn(vec![op(pb::request_op::Request::RequestPut(large))]);
    refused(
        convert::txn(&large, Requests::default()),
        Code::InvalidArgument,
        "etcdserver: request is too large",
    );
}

#[test]
fn a_key_changes_once_in_each_branch() {
    let text = "etcdserver: duplicate key given in txn request";
    for ops in [
        vec![put_op("a"), put_op("b"), put_op("a")],
        vec![put_op("b"), delete_op("a", "c")],
        vec![delete_op("a", ""), put_op("a")],
        vec![delete_op("a", "\0"), put_op("z")],
    ] {
        refused(
            convert::txn(&txn(ops), Requests::default()),
            Code::InvalidArgument,
            text,
        );
    }
    for ops in [
        vec![put_op("a"), put_op("b")],
        vec![put_op("c"), delete_op("a", "c")],
        vec![delete_op("a", "c"), delete_op("b", "d")],
    ] {
        convert::txn(&txn(ops), Requests::default()).unwrap();
    }
    let both = pb::TxnRequest {
        success: vec![put_op("a")],
        failure: vec![put_op("a")],
        compare: Vec::new(),
    };
    convert::txn(&both, Requests::default()).unwrap();
}

/// A transaction in a transaction and so on, `depth` in all.
fn nested(depth: usize, inside: Vec<pb::RequestOp>) -> pb::TxnRequest {
    let inside = txn(inside);
    (1..depth).fold(inside, |inner, _| {
        txn(vec![op(pb::request_op::Request::RequestTxn(inner))])
    })
}

#[test]
fn transactions_inside_have_what_operations_are_left() {
    let many = |number: usize| (0..number).map(|key| put_op(&format!("k{key}"))).collect();
    convert::txn(&nested(2, many(127)), Requests::default()).unwrap();
    let text = "etcdserver: too many operations in txn request";
    refused(
        convert::txn(&nested(2, many(128)), Requests::default()),
        Code::InvalidArgument,
        text,
    );
    let requests = Requests {
        txn_ops_max: 1000,
        ..Requests::default()
    };
    convert::txn(&nested(60, Vec::new()), requests).unwrap();
    // Deeper than any member decodes.
    refused(
        convert::txn(&nested(70, Vec::new()), requests),
        Code::InvalidArgument,
        text,
    );
}

#[test]
fn a_key_changes_once_along_every_path() {
    let inner = |success: Vec<pb::RequestOp>, failure: Vec<pb::RequestOp>| {
        op(pb::request_op::Request::RequestTxn(pb::TxnRequest {
            compare: Vec::new(),
            success,
            failure,
        }))
    };
    let text = "etcdserver: duplicate key given in txn request";
    for ops in [
        vec![put_op("a"), inner(vec![put_op("a")], vec![])],
        vec![
            inner(vec![], vec![put_op("a")]),
            inner(vec![put_op("a")], vec![]),
        ],
        vec![delete_op("a", "c"), inner(vec![], vec![put_op("b")])],
        vec![inner(vec![put_op("b")], vec![]), delete_op("b", "")],
        vec![inner(vec![delete_op("b", "")], vec![]), put_op("b")],
        // This one etcd takes.
        vec![
            inner(vec![put_op("b")], vec![]),
            inner(vec![delete_op("b", "")], vec![]),
        ],
    ] {
        refused(
            convert::txn(&txn(ops), Requests::default()),
            Code::InvalidArgument,
            text,
        );
    }
    for ops in [
        vec![inner(vec![put_op("a")], vec![put_op("a")])],
        vec![inner(vec![put_op("a")], vec![delete_op("a", "")])],
        vec![delete_op("a", "c"), inner(vec![delete_op("b", "")], vec![])],
    ] {
        convert::txn(&txn(ops), Requests::default()).unwrap();
    }
}

#[test]
fn refusals_have_etcds_codes_and_texts() {
    for (refusal, code, text) in [
        (
            Refusal::Kv(KvRefusal::Compacted {
                oldest: Revision(3),
            }),
            Code::OutOfRange,
            "mvcc: required revision has been compacted",
        ),
        (
            Refusal::Kv(KvRefusal::FutureRevision {
                current: Revision(3),
            }),
            Code::OutOfRange,
            "mvcc: required revision is a future revision",
        ),
        (
            Refusal::Limit(LimitRefusal::NoSpace),
            Code::ResourceExhausted,
            "mvcc: database space exceeded",
        ),
        (
            Refusal::Limit(LimitRefusal::Level {
                command: "auth enable",
                needs: 2,
                level: 1,
            }),
            Code::FailedPrecondition,
            "not capable: auth enable needs feature level 2, the cluster is at 1: not every member runs a version that \
             knows it",
        ),
        (
            Refusal::Member(MemberRefusal::NotFound(MemberId(3))),
            Code::NotFound,
            "member not found",
        ),
        (
            Refusal::Member(MemberRefusal::NotLeader),
            Code::FailedPrecondition,
            "not leader",
        ),
    ] {
        let status = error::refused(&refusal);
        assert_eq!(
            (status.code(), status.message().to_owned()),
            (code, format!("etcdserver: {text}"))
        );
    }
    let status = error::unavailable(Unavailable::Learner);
    assert_eq!(
        (status.code(), status.message()),
        (
            Code::FailedPrecondition,
            "etcdserver: rpc not supported for learner"
        )
    );
}

#[test]
fn peer_urls_have_a_scheme_a_host_and_a_port_and_nothing_else() {
    let check = |urls: &[&str]| {
        check::peer_urls(&urls.iter().map(|url| (*url).to_owned()).collect::<Vec<_>>())
    };
    for good in [
        "http://a:1",
        "http://10.0.0.1:2380",
        "http://[::1]:2380",
        "http://a.b.svc:2380",
    ] {
        assert_eq!(check(&[good]), Ok(vec![good.to_owned()]), "{good}");
    }
    let normal = check(&["http://b:1", " http://A:1", "http://a:1"]);
    assert_eq!(
        normal,
        Ok(vec!["http://a:1".to_owned(), "http://b:1".to_owned()])
    );
    for bad in [
        "",
        "a:1",
        "ftp://a:1",
        "http://a",
        "http://:1",
        "http://a:x",
        "http://a:1/b",
        "http://a:1/",
        "unix://a:1",
        "http://a:0",
        "http://a:70000",
    ] {
        assert_eq!(
            check(&["http://a:1", bad]),
            Err(error::Invalid::MemberUrls),
            "{bad}"
        );
    }
    assert!(check(&["https://a:1"]).is_ok());
    assert_eq!(check(&[]), Err(error::Invalid::MemberUrls));
}
