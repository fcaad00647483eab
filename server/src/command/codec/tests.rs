//! Golden bytes of the envelope, and that there is only one encoding of each.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::command::*;

fn envelope(command: Command) -> Envelope {
    Envelope {
        feature_level: 1,
        leader_time: UnixMillis(1_700_000_000_000),
        proposals: vec![Proposal {
            origin: MemberId(0x1234),
            run: 7,
            sequence: 300,
            principal: Principal::Anonymous,
            command,
        }],
    }
}

/// Magic, format, level, time, one proposal of member 0x1234, run 7, sequence 300, of nobody.
const HEAD: &[u8] = b"CE\x02\x01\x80\xd0\x95\xff\xbc\x31\x01\xb4\x24\x07\xac\x02\x01";

fn commands() -> Vec<(Command, &'static [u8])> {
    let key = Bytes::from_static(b"k");
    let put = Put {
        key: key.clone(),
        value: PutValue::Set(Bytes::from_static(b"v")),
        lease: PutLease::Set(Some(LeaseId(5))),
        prev_kv: true,
    };
    let keep = Put {
        value: PutValue::Keep,
        lease: PutLease::Keep,
        prev_kv: false,
        ..put.clone()
    };
    let range = Range {
        keys: Keys::Range {
            start: key.clone(),
            end: Some(Bytes::from_static(b"l")),
        },
        revision: Some(Revision(9)),
        limit: Some(10),
        sort: (SortTarget::Mod, Order::Descending),
        keys_only: true,
        count_only: false,
        filter: RangeFilter {
            max_mod: Some(Revision(3)),
            ..RangeFilter::default()
        },
    };
    let delete = DeleteRange {
        keys: Keys::Range {
            start: key.clone(),
            end: None,
        },
        prev_kv: false,
    };
    vec![
        (
            Command::Kv(KvCommand::Put(put.clone())),
            b"\x01\x01k\x01\x01v\x02\x05\x01",
        ),
        (Command::Kv(KvCommand::Put(keep)), b"\x01\x01k\x02\x03\x00"),
        (
            Command::Kv(KvCommand::DeleteRange(delete.clone())),
            b"\x02\x03\x01k\x00",
        ),
        (
            Command::Kv(KvCommand::Txn(Txn {
                compares: vec![Compare {
                    keys: Keys::One(key.clone()),
                    result: CompareResult::NotEqual,
                    operand: CompareOperand::Value(Bytes::from_static(b"x")),
                }],
                success: vec![Op::Range(range), Op::Put(put)],
                failure: vec![Op::DeleteRange(delete)],
            })),
            b"\x03\x01\x01\x01k\x04\x04\x01x\
              \x02\x01\x02\x01k\x01l\x01\x09\x01\x0a\x04\x02\x01\x00\x00\x01\x03\x00\x00\
              \x02\x01k\x01\x01v\x02\x05\x01\
              \x01\x03\x03\x01k\x00",
        ),
        (
            Command::Kv(KvCommand::Compact {
                revision: Revision(8),
            }),
            b"\x04\x08",
        ),
        (
            Command::Lease(LeaseCommand::Grant {
                id: LeaseId(5),
                ttl_seconds: 60,
            }),
            b"\x05\x05\x3c",
        ),
        (
            Command::Lease(LeaseCommand::Revoke { id: LeaseId(5) }),
            b"\x06\x05",
        ),
        (
            Command::Lease(LeaseCommand::Expire {
                term: 2,
                ids: vec![LeaseId(5), LeaseId(-1)],
            }),
            b"\x07\x02\x02\x05\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        ),
        (
            Command::Lease(LeaseCommand::Checkpoint {
                remaining_seconds: vec![(LeaseId(5), 30)],
            }),
            b"\x08\x01\x05\x1e",
        ),
        (
            Command::Member(MemberCommand::Publish(MemberRecord {
                id: MemberId(1),
                incarnation: Incarnation(2),
                name: "m0".to_owned(),
                client_urls: vec!["http://a".to_owned()],
                feature_level: 1,
            })),
            b"\x09\x01\x02\x02m0\x01\x08http://a\x01",
        ),
        (
            Command::Level(LevelCommand::Raise { level: 2 }),
            b"\x0a\x02",
        ),
        (
            Command::Alarm(AlarmCommand::Activate(Alarm {
                kind: AlarmKind::NoSpace,
                member: MemberId(7),
            })),
            b"\x0b\x01\x07",
        ),
        (
            Command::Alarm(AlarmCommand::Deactivate(Alarm {
                kind: AlarmKind::Corrupt,
                member: MemberId(0),
            })),
            b"\x0c\x02\x00",
        ),
        (Command::Auth(AuthCommand::Enable), b"\x0d\x01"),
        (Command::Auth(AuthCommand::Disable), b"\x0d\x02"),
        (
            Command::Auth(AuthCommand::Authenticate {
                name: "u".to_owned(),
                token: "abc".to_owned(),
            }),
            b"\x0d\x03\x01u\x03abc",
        ),
        (
            Command::Auth(AuthCommand::UserAdd {
                name: "u".to_owned(),
                password: Some(Bytes::from_static(b"h")),
            }),
            b"\x0d\x04\x01u\x01\x01h",
        ),
        (
            Command::Auth(AuthCommand::UserAdd {
                name: "u".to_owned(),
                password: None,
            }),
            b"\x0d\x04\x01u\x00",
        ),
        (
            Command::Auth(AuthCommand::UserDelete {
                name: "u".to_owned(),
            }),
            b"\x0d\x05\x01u",
        ),
        (
            Command::Auth(AuthCommand::UserChangePassword {
                name: "u".to_owned(),
                password: Bytes::from_static(b"h"),
            }),
            b"\x0d\x06\x01u\x01h",
        ),
        (
            Command::Auth(AuthCommand::UserGrantRole {
                name: "u".to_owned(),
                role: "r".to_owned(),
            }),
            b"\x0d\x07\x01u\x01r",
        ),
        (
            Command::Auth(AuthCommand::UserRevokeRole {
                name: "u".to_owned(),
                role: "r".to_owned(),
            }),
            b"\x0d\x08\x01u\x01r",
        ),
        (
            Command::Auth(AuthCommand::RoleAdd {
                role: "r".to_owned(),
            }),
            b"\x0d\x09\x01r",
        ),
        (
            Command::Auth(AuthCommand::RoleDelete {
                role: "r".to_owned(),
            }),
            b"\x0d\x0a\x01r",
        ),
        (
            Command::Auth(AuthCommand::RoleGrantPermission {
                role: "r".to_owned(),
                permission: Permission {
                    access: Access::ReadWrite,
                    keys: Keys::Range {
                        start: key.clone(),
                        end: None,
                    },
                },
            }),
            b"\x0d\x0b\x01r\x03\x03\x01k",
        ),
        (
            Command::Auth(AuthCommand::RoleRevokePermission {
                role: "r".to_owned(),
                keys: Keys::One(key.clone()),
            }),
            b"\x0d\x0c\x01r\x01\x01k",
        ),
        (
            Command::Kv(KvCommand::Txn(Txn {
                compares: vec![Compare {
                    keys: Keys::Range {
                        start: key.clone(),
                        end: Some(Bytes::from_static(b"l")),
                    },
                    result: CompareResult::Equal,
                    operand: CompareOperand::Mod(0),
                }],
                success: vec![Op::Txn(Txn {
                    compares: Vec::new(),
                    success: Vec::new(),
                    failure: vec![Op::DeleteRange(DeleteRange {
                        keys: Keys::One(key.clone()),
                        prev_kv: true,
                    })],
                })],
                failure: Vec::new(),
            })),
            b"\x03\x01\x02\x01k\x01l\x01\x03\x00\
              \x01\x04\x00\x00\x01\x03\x01\x01k\x01\
              \x00",
        ),
    ]
}

#[test]
fn every_command_has_its_golden_bytes() {
    for (command, golden) in commands() {
        assert_eq!(command.encoded_bytes(), golden.len(), "{command:?}");
        let envelope = envelope(command);
        let bytes = encode_envelope(&envelope);
        assert_eq!(bytes.as_ref(), [HEAD, golden].concat(), "{envelope:?}");
        assert_eq!(decode_envelope(&bytes).unwrap(), envelope);
    }
}

#[test]
fn every_principal_has_its_golden_bytes() {
    let user = Principal::User {
        name: "ann".to_owned(),
        auth_revision: 300,
    };
    let revoke = Command::Lease(LeaseCommand::Revoke { id: LeaseId(5) });
    for (principal, golden) in [
        (Principal::System, b"\x00".as_slice()),
        (Principal::Anonymous, b"\x01"),
        (user, b"\x02\x03ann\xac\x02"),
    ] {
        let mut envelope = envelope(revoke.clone());
        envelope.proposals[0].principal = principal;
        let bytes = encode_envelope(&envelope);
        let head = &HEAD[..HEAD.len() - 1];
        assert_eq!(bytes.as_ref(), [head, golden, b"\x06\x05"].concat());
        assert_eq!(decode_envelope(&bytes).unwrap(), envelope);
    }
}

#[test]
fn a_transaction_too_deep_is_refused() {
    let nested = |depth| {
        let mut txn = Txn {
            compares: Vec::new(),
            success: Vec::new(),
            failure: Vec::new(),
        };
        for _ in 1..depth {
            txn = Txn {
                compares: Vec::new(),
                success: vec![Op::Txn(txn)],
                failure: Vec::new(),
            };
        }
        decode_envelope(&encode_envelope(&envelope(Command::Kv(KvCommand::Txn(
            txn,
        )))))
    };
    assert!(nested(TXN_DEPTH_MAX).is_ok());
    assert!(matches!(
        nested(TXN_DEPTH_MAX + 1),
        Err(CodecError::OutOfRange {
            what: "depth of a transaction",
            ..
        })
    ));
}

#[test]
fn what_is_cut_short_or_too_long_is_refused() {
    for (command, _) in commands() {
        let bytes = encode_envelope(&envelope(command));
        for length in 0..bytes.len() {
            assert!(decode_envelope(&bytes.slice(..length)).is_err());
        }
        let longer = Bytes::from([bytes.as_ref(), b"\0"].concat());
        assert_eq!(
            decode_envelope(&longer),
            Err(CodecError::Trailing { bytes: 1 })
        );
    }
}

#[test]
fn an_unknown_format_or_command_is_refused() {
    let bytes = encode_envelope(&envelope(Command::Lease(LeaseCommand::Revoke {
        id: LeaseId(5),
    })));
    let with = |at: usize, byte| {
        let mut changed = bytes.to_vec();
        changed[at] = byte;
        decode_envelope(&Bytes::from(changed))
    };
    assert_eq!(with(0, b'X'), Err(CodecError::Magic));
    for unknown in [1, 3] {
        let error = with(2, unknown).unwrap_err().to_string();
        let says = format!("the log entry is of format {unknown}, this version knows 2");
        assert!(error.starts_with(&says), "{error}");
    }
    let at = HEAD.len();
    let tag = 99;
    let what = "command";
    assert_eq!(with(at, tag), Err(CodecError::Unknown { what, tag, at }));
}

proptest! {
    #[test]
    fn whatever_decodes_encodes_to_the_same_bytes(which in 0usize..27, at: usize, bytes: [u8; 3]) {
        let golden = commands().swap_remove(which).0;
        let mut changed = encode_envelope(&envelope(golden)).to_vec();
        let at = at % changed.len();
        let end = changed.len().min(at + 1 + usize::from(bytes[0] % 2));
        changed[at..end].copy_from_slice(&bytes[1..=end - at]);
        let changed = Bytes::from(changed);
        if let Ok(envelope) = decode_envelope(&changed) {
            prop_assert_eq!(encode_envelope(&envelope), changed);
        }
    }

    #[test]
    fn the_size_of_a_command_is_what_its_encoding_takes(
        lengths in proptest::collection::vec(0usize..40_000, 6),
        numbers: [u64; 4],
        shifts: [u8; 4],
    ) {
        let bytes = |at: usize| Bytes::from(vec![7; lengths[at] >> (lengths[at] % 16)]);
        let number = |at: usize| numbers[at] >> (shifts[at] % 64);
        let keys = Keys::Range { start: bytes(0), end: Some(bytes(1)) };
        let txn = Txn {
            compares: vec![
                Compare { keys: Keys::One(bytes(2)), result: CompareResult::Less, operand: CompareOperand::Value(bytes(3)) },
                Compare {
                    keys: Keys::Range { start: bytes(2), end: None },
                    result: CompareResult::Less,
                    operand: CompareOperand::Lease(number(0).cast_signed()),
                },
            ],
            success: vec![
                Op::DeleteRange(DeleteRange { keys: keys.clone(), prev_kv: true }),
                Op::Put(Put {
                    key: bytes(4),
                    value: PutValue::Set(bytes(5)),
                    lease: PutLease::Set(Some(LeaseId(number(1).cast_signed()))),
                    prev_kv: false,
                }),
            ],
            failure: vec![Op::Range(Range {
                keys,
                revision: Some(Revision(number(2))),
                limit: Some(number(3)),
                sort: (SortTarget::Value, Order::Ascending),
                keys_only: false,
                count_only: true,
                filter: RangeFilter { min_mod: Some(Revision(number(0))), ..RangeFilter::default() },
            })],
        };
        let command = Command::Kv(KvCommand::Txn(txn));
        let counted = command.encoded_bytes();
        let principal = Principal::User {
            name: "x".repeat(lengths[0] % 200),
            auth_revision: number(3),
        };
        let bound = proposal_bytes(&principal, &command);
        let proposals = vec![Proposal {
            origin: MemberId(number(0)),
            run: number(1),
            sequence: number(2),
            principal: principal.clone(),
            command,
        }];
        let envelope = Envelope {
            feature_level: u32::MAX,
            leader_time: UnixMillis(u64::MAX),
            proposals,
        };
        let all = encode_envelope(&envelope).len();
        let empty = encode_envelope(&Envelope { proposals: Vec::new(), ..envelope.clone() }).len();
        let mut heads = Counter::default();
        for number in [number(0), number(1), number(2)] {
            wire::Sink::u64(&mut heads, number);
        }
        prop_assert_eq!(empty + heads.bytes + principal.encoded_bytes() + counted, all);
        prop_assert!(empty <= ENVELOPE_HEAD_BYTES_MAX && heads.bytes <= PROPOSAL_HEAD_BYTES_MAX);
        prop_assert!(all - empty <= bound);
    }

    #[test]
    fn any_bytes_are_refused_without_panic(bytes: Vec<u8>) {
        let bytes = [b"CE\x02".as_slice(), &bytes].concat();
        let _ = decode_envelope(&Bytes::from(bytes));
    }
}
