//! The meaning of messages: requests as commands and queries, outcomes as responses.

use super::*;

#[test]
fn ranges_mean_what_they_mean_in_etcd() {
    let keys = |key: &str, end: &str| convert::keys(&bytes(key), &bytes(end));
    assert_eq!(keys("a", ""), Keys::One(bytes("a")));
    assert_eq!(
        keys("a", "b"),
        Keys::Range {
            start: bytes("a"),
            end: Some(bytes("b"))
        }
    );
    assert_eq!(
        keys("a", "\0"),
        Keys::Range {
            start: bytes("a"),
            end: None
        }
    );
    assert_eq!(
        keys("\0", "\0"),
        Keys::Range {
            start: bytes("\0"),
            end: None
        }
    );
}

#[test]
fn numbers_below_one_stand_for_nothing_given() {
    let request = pb::RangeRequest {
        revision: -5,
        limit: -1,
        min_mod_revision: 0,
        ..range("a")
    };
    let range = convert::range(&request).unwrap();
    assert_eq!(
        (range.revision, range.limit, range.filter.min_mod),
        (None, None, None)
    );
    let request = pb::RangeRequest {
        max_mod_revision: -1,
        sort_target: 1,
        ..self::range("a")
    };
    let range = convert::range(&request).unwrap();
    assert_eq!(
        range.filter.max_mod,
        Some(Revision(0)),
        "nothing lies below"
    );
    assert_eq!(range.sort, (SortTarget::Version, Order::Ascending));
}

#[test]
fn a_compare_with_the_wrong_operand_compares_with_nothing() {
    let compare = pb::Compare {
        key: bytes("a"),
        target: pb::compare::CompareTarget::Value.into(),
        target_union: Some(pb::compare::TargetUnion::Version(3)),
        ..Default::default()
    };
    let request = pb::TxnRequest {
        compare: vec![compare],
        ..Default::default()
    };
    assert_eq!(
        convert::txn(&request, Requests::default())
            .unwrap()
            .compares[0]
            .operand,
        CompareOperand::Value(Bytes::new())
    );
}

#[test]
fn ignored_parts_of_a_put_are_kept() {
    let request = pb::PutRequest {
        ignore_value: true,
        ignore_lease: true,
        key: bytes("a"),
        ..Default::default()
    };
    let put = convert::put(&request).unwrap();
    assert_eq!((put.value, put.lease), (PutValue::Keep, PutLease::Keep));
}

#[test]
fn a_transaction_is_serializable_only_if_it_reads_and_every_read_says_so() {
    let read = |serializable| {
        op(pb::request_op::Request::RequestRange(pb::RangeRequest {
            serializable,
            ..range("a")
        }))
    };
    assert!(convert::is_serializable(&txn(vec![read(true), read(true)])));
    assert!(!convert::is_serializable(&txn(vec![
        read(true),
        read(false)
    ])));
    assert!(
        !convert::is_serializable(&txn(vec![])),
        "compares alone are linearizable"
    );
}

#[test]
fn small_parts_of_a_request_do_not_hold_its_buffer() {
    let buffer = Bytes::from(vec![b'x'; 100_000]);
    let request = pb::PutRequest {
        key: buffer.slice(..10),
        value: buffer.slice(10..30),
        ..Default::default()
    };
    let put = convert::put(&request).unwrap();
    let within = |part: &Bytes| buffer.as_ptr_range().contains(&part.as_ptr());
    let PutValue::Set(value) = put.value else {
        panic!("a value was given")
    };
    assert!(!within(&put.key) && !within(&value));
}

#[test]
fn each_operation_of_a_transaction_says_the_revision_it_saw() {
    let responses = vec![
        OpResponse::Range(RangeResponse::default()),
        OpResponse::DeleteRange {
            deleted: 0,
            prevs: Vec::new(),
        },
        OpResponse::Put { prev: None },
        OpResponse::Range(RangeResponse::default()),
    ];
    let reply = convert::txn_response(header::only(Revision(9)), Revision(9), true, responses);
    let revisions =
        reply
            .responses
            .iter()
            .map(|response| match response.response.as_ref().unwrap() {
                pb::response_op::Response::ResponseRange(reply) => {
                    reply.header.as_ref().unwrap().revision
                }
                pb::response_op::Response::ResponsePut(reply) => {
                    reply.header.as_ref().unwrap().revision
                }
                pb::response_op::Response::ResponseDeleteRange(reply) => {
                    reply.header.as_ref().unwrap().revision
                }
                pb::response_op::Response::ResponseTxn(_) => panic!("not asked for"),
            });
    assert_eq!(revisions.collect::<Vec<_>>(), [8, 8, 9, 9]);
}

#[test]
fn the_nouns_of_a_put_reach_its_command() {
    let put = convert::put(&pb::PutRequest {
        lease: 5,
        prev_kv: true,
        ..put("a")
    })
    .unwrap();
    assert_eq!(put.lease, PutLease::Set(convert::lease(5)));
    assert!(put.prev_kv);
    assert_eq!(convert::lease(0), None);
    let ops = convert::txn(&txn(vec![delete_op("a", "")]), Requests::default())
        .unwrap()
        .success;
    assert!(matches!(&ops[..], [Op::DeleteRange(delete)] if delete.keys == Keys::One(bytes("a"))));
}

/// Some of everything a transaction may hold.
fn sample_txn() -> pb::TxnRequest {
    let compare = pb::Compare {
        key: bytes("a"),
        target_union: Some(pb::compare::TargetUnion::Version(3)),
        ..Default::default()
    };
    pb::TxnRequest {
        compare: vec![compare],
        success: vec![
            put_op("a"),
            delete_op("b", "c"),
            op(pb::request_op::Request::RequestRange(range("d"))),
        ],
        failure: vec![op(pb::request_op::Request::RequestTxn(txn(vec![put_op(
            "e",
        )])))],
    }
}

proptest::proptest! {
    #[test]
    fn any_transaction_is_converted_or_refused_without_panic(changes: Vec<(usize, u8)>) {
        let mut encoded = sample_txn().encode_to_vec();
        for (at, byte) in changes {
            let length = encoded.len();
            encoded[at % length] = byte;
        }
        if let Ok(request) = pb::TxnRequest::decode(encoded.as_slice()) {
            let _ = convert::txn(&request, Requests::default());
        }
    }

    #[test]
    fn any_request_is_converted_or_refused_without_panic(encoded: Vec<u8>) {
        let encoded = encoded.as_slice();
        let _ = pb::RangeRequest::decode(encoded).map(|request| convert::range(&request).is_ok());
        let _ = pb::PutRequest::decode(encoded).map(|request| convert::put(&request).is_ok());
        let _ = pb::DeleteRangeRequest::decode(encoded)
            .map(|request| convert::delete_range(&request).is_ok());
        let _ = pb::TxnRequest::decode(encoded).map(|request| convert::txn(&request, Requests::default()).is_ok());
    }
}
