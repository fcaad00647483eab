//! Commands and what they are made of. Tags are never used again for something else.

use bytes::Bytes;

use super::CodecError;
use super::wire::{Reader, Sink};
use crate::command::{
    Command, Compare, CompareOperand, CompareResult, DeleteRange, Incarnation, Keys, LeaseId,
    MemberId, MemberRecord, Op, Order, Put, PutLease, PutValue, Range, RangeFilter, Revision,
    SortTarget, Txn,
};

pub(super) fn write_command(out: &mut impl Sink, command: &Command) {
    match command {
        Command::Put(put) => {
            out.u8(1);
            write_put(out, put);
        }
        Command::DeleteRange(delete) => {
            out.u8(2);
            write_delete(out, delete);
        }
        Command::Txn(txn) => {
            out.u8(3);
            write_txn(out, txn);
        }
        Command::Compact { revision } => {
            out.u8(4);
            out.u64(revision.0);
        }
        Command::LeaseGrant { id, ttl_seconds } => {
            out.u8(5);
            out.i64(id.0);
            out.i64(*ttl_seconds);
        }
        Command::LeaseRevoke { id } => {
            out.u8(6);
            out.i64(id.0);
        }
        Command::LeaseExpire { term, ids } => {
            out.u8(7);
            out.u64(*term);
            out.u64(ids.len() as u64);
            for id in ids {
                out.i64(id.0);
            }
        }
        Command::LeaseCheckpoint { remaining_seconds } => {
            out.u8(8);
            out.u64(remaining_seconds.len() as u64);
            for (id, seconds) in remaining_seconds {
                out.i64(id.0);
                out.i64(*seconds);
            }
        }
        Command::MemberPublish(record) => {
            out.u8(9);
            write_member(out, record);
        }
        Command::RaiseLevel { level } => {
            out.u8(10);
            out.u64(u64::from(*level));
        }
    }
}

pub(super) fn read_command(input: &mut Reader) -> Result<Command, CodecError> {
    let at = input.at();
    Ok(match input.u8()? {
        1 => Command::Put(read_put(input)?),
        2 => Command::DeleteRange(read_delete(input)?),
        3 => Command::Txn(read_txn(input)?),
        4 => Command::Compact {
            revision: Revision(input.u64()?),
        },
        5 => Command::LeaseGrant {
            id: LeaseId(input.i64()?),
            ttl_seconds: input.i64()?,
        },
        6 => Command::LeaseRevoke {
            id: LeaseId(input.i64()?),
        },
        7 => Command::LeaseExpire {
            term: input.u64()?,
            ids: read_list(input, 1, |input| Ok(LeaseId(input.i64()?)))?,
        },
        8 => Command::LeaseCheckpoint {
            remaining_seconds: read_list(input, 2, |input| {
                Ok((LeaseId(input.i64()?), input.i64()?))
            })?,
        },
        9 => Command::MemberPublish(read_member(input)?),
        10 => Command::RaiseLevel {
            level: input.u32("feature level")?,
        },
        tag => return Err(unknown("command", tag, at)),
    })
}

/// The bytes of a member's record; the state keeps them as they are.
pub(crate) fn write_member(out: &mut impl Sink, record: &MemberRecord) {
    let MemberRecord {
        id,
        incarnation,
        name,
        client_urls,
        feature_level,
    } = record;
    out.u64(id.0);
    out.u64(incarnation.0);
    out.bytes(name.as_bytes());
    out.u64(client_urls.len() as u64);
    for url in client_urls {
        out.bytes(url.as_bytes());
    }
    out.u64(u64::from(*feature_level));
}

pub(crate) fn read_member(input: &mut Reader) -> Result<MemberRecord, CodecError> {
    Ok(MemberRecord {
        id: MemberId(input.u64()?),
        incarnation: Incarnation(input.u64()?),
        name: input.text()?,
        client_urls: read_list(input, 1, Reader::text)?,
        feature_level: input.u32("feature level")?,
    })
}

fn write_put(out: &mut impl Sink, put: &Put) {
    let Put {
        key,
        value,
        lease,
        prev_kv,
    } = put;
    out.bytes(key);
    match value {
        PutValue::Set(value) => {
            out.u8(1);
            out.bytes(value);
        }
        PutValue::Keep => out.u8(2),
    }
    match lease {
        PutLease::Set(None) => out.u8(1),
        PutLease::Set(Some(id)) => {
            out.u8(2);
            out.i64(id.0);
        }
        PutLease::Keep => out.u8(3),
    }
    out.bool(*prev_kv);
}

fn read_put(input: &mut Reader) -> Result<Put, CodecError> {
    let key = input.bytes()?;
    let at = input.at();
    let value = match input.u8()? {
        1 => PutValue::Set(input.bytes()?),
        2 => PutValue::Keep,
        tag => return Err(unknown("put value", tag, at)),
    };
    let at = input.at();
    let lease = match input.u8()? {
        1 => PutLease::Set(None),
        2 => PutLease::Set(Some(LeaseId(input.i64()?))),
        3 => PutLease::Keep,
        tag => return Err(unknown("put lease", tag, at)),
    };
    Ok(Put {
        key,
        value,
        lease,
        prev_kv: input.bool()?,
    })
}

fn write_delete(out: &mut impl Sink, delete: &DeleteRange) {
    let DeleteRange { keys, prev_kv } = delete;
    write_keys(out, keys);
    out.bool(*prev_kv);
}

fn read_delete(input: &mut Reader) -> Result<DeleteRange, CodecError> {
    Ok(DeleteRange {
        keys: read_keys(input)?,
        prev_kv: input.bool()?,
    })
}

fn write_keys(out: &mut impl Sink, keys: &Keys) {
    match keys {
        Keys::One(key) => {
            out.u8(1);
            out.bytes(key);
        }
        Keys::Range {
            start,
            end: Some(end),
        } => {
            out.u8(2);
            out.bytes(start);
            out.bytes(end);
        }
        Keys::Range { start, end: None } => {
            out.u8(3);
            out.bytes(start);
        }
    }
}

fn read_keys(input: &mut Reader) -> Result<Keys, CodecError> {
    let at = input.at();
    Ok(match input.u8()? {
        1 => Keys::One(input.bytes()?),
        2 => Keys::Range {
            start: input.bytes()?,
            end: Some(input.bytes()?),
        },
        3 => Keys::Range {
            start: input.bytes()?,
            end: None,
        },
        tag => return Err(unknown("keys", tag, at)),
    })
}

fn write_range(out: &mut impl Sink, range: &Range) {
    let Range {
        keys,
        revision,
        limit,
        sort: (target, order),
        keys_only,
        count_only,
        filter,
    } = range;
    let RangeFilter {
        min_mod,
        max_mod,
        min_create,
        max_create,
    } = filter;
    write_keys(out, keys);
    write_optional(out, revision.map(|revision| revision.0));
    write_optional(out, *limit);
    out.u8(match target {
        SortTarget::Key => 1,
        SortTarget::Version => 2,
        SortTarget::Create => 3,
        SortTarget::Mod => 4,
        SortTarget::Value => 5,
    });
    out.u8(match order {
        Order::Ascending => 1,
        Order::Descending => 2,
    });
    out.bool(*keys_only);
    out.bool(*count_only);
    for bound in [min_mod, max_mod, min_create, max_create] {
        write_optional(out, bound.map(|revision| revision.0));
    }
}

fn read_range(input: &mut Reader) -> Result<Range, CodecError> {
    let keys = read_keys(input)?;
    let revision = read_optional(input)?.map(Revision);
    let limit = read_optional(input)?;
    let at = input.at();
    let target = match input.u8()? {
        1 => SortTarget::Key,
        2 => SortTarget::Version,
        3 => SortTarget::Create,
        4 => SortTarget::Mod,
        5 => SortTarget::Value,
        tag => return Err(unknown("sort target", tag, at)),
    };
    let at = input.at();
    let order = match input.u8()? {
        1 => Order::Ascending,
        2 => Order::Descending,
        tag => return Err(unknown("sort order", tag, at)),
    };
    Ok(Range {
        keys,
        revision,
        limit,
        sort: (target, order),
        keys_only: input.bool()?,
        count_only: input.bool()?,
        filter: RangeFilter {
            min_mod: read_optional(input)?.map(Revision),
            max_mod: read_optional(input)?.map(Revision),
            min_create: read_optional(input)?.map(Revision),
            max_create: read_optional(input)?.map(Revision),
        },
    })
}

fn write_txn(out: &mut impl Sink, txn: &Txn) {
    let Txn {
        compares,
        success,
        failure,
    } = txn;
    out.u64(compares.len() as u64);
    for compare in compares {
        write_compare(out, compare);
    }
    for branch in [success, failure] {
        out.u64(branch.len() as u64);
        for op in branch {
            match op {
                Op::Range(range) => {
                    out.u8(1);
                    write_range(out, range);
                }
                Op::Put(put) => {
                    out.u8(2);
                    write_put(out, put);
                }
                Op::DeleteRange(delete) => {
                    out.u8(3);
                    write_delete(out, delete);
                }
            }
        }
    }
}

fn read_txn(input: &mut Reader) -> Result<Txn, CodecError> {
    Ok(Txn {
        compares: read_list(input, 4, read_compare)?,
        success: read_list(input, 4, read_op)?,
        failure: read_list(input, 4, read_op)?,
    })
}

fn read_op(input: &mut Reader) -> Result<Op, CodecError> {
    let at = input.at();
    Ok(match input.u8()? {
        1 => Op::Range(read_range(input)?),
        2 => Op::Put(read_put(input)?),
        3 => Op::DeleteRange(read_delete(input)?),
        tag => return Err(unknown("operation", tag, at)),
    })
}

fn write_compare(out: &mut impl Sink, compare: &Compare) {
    let Compare {
        key,
        result,
        operand,
    } = compare;
    out.bytes(key);
    out.u8(match result {
        CompareResult::Equal => 1,
        CompareResult::Greater => 2,
        CompareResult::Less => 3,
        CompareResult::NotEqual => 4,
    });
    match operand {
        CompareOperand::Version(number) => write_number(out, 1, *number),
        CompareOperand::Create(number) => write_number(out, 2, *number),
        CompareOperand::Mod(number) => write_number(out, 3, *number),
        CompareOperand::Value(value) => {
            out.u8(4);
            out.bytes(value);
        }
        CompareOperand::Lease(number) => write_number(out, 5, *number),
    }
}

fn write_number(out: &mut impl Sink, tag: u8, number: i64) {
    out.u8(tag);
    out.i64(number);
}

fn read_compare(input: &mut Reader) -> Result<Compare, CodecError> {
    let key: Bytes = input.bytes()?;
    let at = input.at();
    let result = match input.u8()? {
        1 => CompareResult::Equal,
        2 => CompareResult::Greater,
        3 => CompareResult::Less,
        4 => CompareResult::NotEqual,
        tag => return Err(unknown("compare result", tag, at)),
    };
    let at = input.at();
    let operand = match input.u8()? {
        1 => CompareOperand::Version(input.i64()?),
        2 => CompareOperand::Create(input.i64()?),
        3 => CompareOperand::Mod(input.i64()?),
        4 => CompareOperand::Value(input.bytes()?),
        5 => CompareOperand::Lease(input.i64()?),
        tag => return Err(unknown("compare operand", tag, at)),
    };
    Ok(Compare {
        key,
        result,
        operand,
    })
}

fn write_optional(out: &mut impl Sink, value: Option<u64>) {
    match value {
        None => out.u8(0),
        Some(value) => {
            out.u8(1);
            out.u64(value);
        }
    }
}

fn read_optional(input: &mut Reader) -> Result<Option<u64>, CodecError> {
    Ok(match input.bool()? {
        false => None,
        true => Some(input.u64()?),
    })
}

fn read_list<T>(
    input: &mut Reader,
    bytes_min: usize,
    mut read: impl FnMut(&mut Reader) -> Result<T, CodecError>,
) -> Result<Vec<T>, CodecError> {
    let count = input.count(bytes_min)?;
    let mut list = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        list.push(read(input)?);
    }
    Ok(list)
}

fn unknown(what: &'static str, tag: u8, at: usize) -> CodecError {
    CodecError::Unknown { what, tag, at }
}
