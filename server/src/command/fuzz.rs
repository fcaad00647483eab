//! Log entries of any bytes, and transactions of any shape.

mod numbers;

use bytes::Bytes;

pub use numbers::Numbers;

use super::codec::{decode_envelope, encode_envelope};
use super::*;

/// Keys that transactions are about: neighbours, and the first that there can be.
const KEYS: [&[u8]; 6] = [b"a", b"a\0", b"b", b"c", b"d", b"\0"];
const DEPTH_MAX: u8 = 5;

fn envelope_of(command: Command) -> Envelope {
    Envelope {
        feature_level: level::FIRST_LEVEL,
        leader_time: UnixMillis(1_700_000_000_000),
        proposals: vec![Proposal {
            origin: MemberId(1),
            run: 2,
            sequence: 3,
            principal: Principal::Anonymous,
            command,
        }],
    }
}

/// A command is the same once it went through the log. Panics if it is not.
pub fn is_kept(command: Command) {
    let written = envelope_of(command);
    let read = decode_envelope(&encode_envelope(&written));
    assert_eq!(read.as_ref(), Ok(&written), "it is kept as it was");
}

/// Reads a log entry: refused, or there are no other bytes for it.
pub fn envelope(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(read) = decode_envelope(&bytes) {
        assert_eq!(encode_envelope(&read), bytes, "{read:?}");
    }
}

/// Entries of several commands.
pub fn envelopes() -> Vec<Vec<u8>> {
    let key = Bytes::from_static(b"a");
    let keys = Keys::Range {
        start: key.clone(),
        end: Some(Bytes::from_static(b"b")),
    };
    let choices: Vec<u8> = (0..=255).collect();
    let commands = [
        Command::Kv(KvCommand::Txn(txn(&mut Numbers::new(&choices), 0))),
        Command::Kv(KvCommand::DeleteRange(DeleteRange {
            keys: keys.clone(),
            prev_kv: true,
        })),
        Command::Lease(LeaseCommand::Revoke { id: LeaseId(-5) }),
        Command::Auth(AuthCommand::RoleGrantPermission {
            role: "reader".to_owned(),
            permission: Permission {
                access: Access::ReadWrite,
                keys,
            },
        }),
    ];
    let bytes = |command| encode_envelope(&envelope_of(command)).to_vec();
    commands.into_iter().map(bytes).collect()
}

/// Makes a transaction of choices, and works out a second time, pair by pair, whether a key would change twice.
pub fn transaction(data: &[u8]) {
    let txn = txn(&mut Numbers::new(data), 0);
    let twice = changes_twice(&txn.success) || changes_twice(&txn.failure);
    assert_eq!(txn.changes_a_key_twice(), twice, "{txn:?}");
    is_kept(Command::Kv(KvCommand::Txn(txn)));
}

fn key(numbers: &mut Numbers<'_>) -> Bytes {
    numbers.key(&KEYS)
}

fn keys(numbers: &mut Numbers<'_>) -> Keys {
    numbers.keys(&KEYS)
}

fn txn(numbers: &mut Numbers<'_>, depth: u8) -> Txn {
    let compares = (0..numbers.below(2)).map(|_| Compare {
        keys: keys(numbers),
        result: CompareResult::Equal,
        operand: CompareOperand::Version(numbers.byte().into()),
    });
    let compares = compares.collect();
    let ops = |numbers: &mut Numbers<'_>| {
        let count = numbers.below(4);
        (0..count).map(|_| op(numbers, depth)).collect()
    };
    Txn {
        compares,
        success: ops(numbers),
        failure: ops(numbers),
    }
}

fn op(numbers: &mut Numbers<'_>, depth: u8) -> Op {
    match numbers.below(6) {
        0 | 1 => Op::Put(Put {
            key: key(numbers),
            value: PutValue::Keep,
            lease: PutLease::Set(None),
            prev_kv: false,
        }),
        2 => Op::DeleteRange(DeleteRange {
            keys: keys(numbers),
            prev_kv: false,
        }),
        _ if depth < DEPTH_MAX => Op::Txn(txn(numbers, depth + 1)),
        _ => Op::Txn(Txn {
            compares: Vec::new(),
            success: Vec::new(),
            failure: Vec::new(),
        }),
    }
}

/// The keys that an operation puts, and those that it deletes, in whichever branches.
fn changes(op: &Op) -> (Vec<Keys>, Vec<Keys>) {
    match op {
        Op::Range(_) => (Vec::new(), Vec::new()),
        Op::Put(put) => (vec![Keys::One(put.key.clone())], Vec::new()),
        Op::DeleteRange(delete) => (Vec::new(), vec![delete.keys.clone()]),
        Op::Txn(inner) => {
            let (mut puts, mut deletes) = (Vec::new(), Vec::new());
            for op in inner.success.iter().chain(&inner.failure) {
                let (more_puts, more_deletes) = changes(op);
                puts.extend(more_puts);
                deletes.extend(more_deletes);
            }
            (puts, deletes)
        }
    }
}

/// Whether two operations of a branch could put the same key, or one put what the other deletes; or two inside one of them.
fn changes_twice(branch: &[Op]) -> bool {
    let meet = |some: &[Keys], others: &[Keys]| {
        let mut some = some.iter();
        some.any(|one| others.iter().any(|other| one.meets(other)))
    };
    branch.iter().enumerate().any(|(number, op)| {
        let (puts, deletes) = changes(op);
        let beside = branch.iter().skip(number + 1).any(|other| {
            let (other_puts, other_deletes) = changes(other);
            meet(&puts, &other_puts) || meet(&puts, &other_deletes) || meet(&deletes, &other_puts)
        });
        let inside = match op {
            Op::Txn(inner) => changes_twice(&inner.success) || changes_twice(&inner.failure),
            Op::Range(_) | Op::Put(_) | Op::DeleteRange(_) => false,
        };
        beside || inside
    })
}
