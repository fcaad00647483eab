//! Lines to commands and questions.

use bytes::Bytes;
use coord_server::command::{
    Command, Compare, CompareOperand, CompareResult, DeleteRange, Incarnation, Keys, KvCommand,
    LeaseCommand, LeaseId, MemberCommand, MemberId, MemberRecord, Op, Order, Put, PutLease,
    PutValue, Query, Range, RangeFilter, Revision, SortTarget, Txn,
};

/// A parsed line.
pub(crate) enum Line {
    Command(Command),
    Query(Query),
    History {
        from: Revision,
        upto: Revision,
    },
    /// From now on this one asks.
    As(String),
    Watch(Keys),
    Renew(LeaseId),
    Bytes,
}

/// Reads one line.
pub(crate) fn line(line: &str) -> Line {
    let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
    let words: Vec<_> = rest.split_whitespace().collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    if let Some(line) = super::auth::line(verb, &words) {
        return line;
    }
    match verb {
        "get" => Line::Query(Query::Range(range(&words))),
        "ask" => match txn(rest.strip_prefix("txn ").unwrap()) {
            Command::Kv(KvCommand::Txn(txn)) => Line::Query(Query::Txn(txn)),
            other => panic!("{other:?}"),
        },
        "lease" => Line::Query(Query::Lease {
            id: lease(words[0]),
            keys: true,
        }),
        "leases" => Line::Query(Query::Leases),
        "history" => Line::History {
            from: Revision(number(0)),
            upto: Revision(words.get(1).map_or(u64::MAX, |upto| upto.parse().unwrap())),
        },
        "bytes" => Line::Bytes,
        "put" => Line::Command(Command::Kv(KvCommand::Put(put(&words)))),
        "del" => Line::Command(Command::Kv(KvCommand::DeleteRange(delete(&words)))),
        "txn" => Line::Command(txn(rest)),
        "compact" => Line::Command(Command::Kv(KvCommand::Compact {
            revision: Revision(number(0)),
        })),
        "grant" => Line::Command(Command::Lease(LeaseCommand::Grant {
            id: lease(words[0]),
            ttl_seconds: words[1].parse().unwrap(),
        })),
        "revoke" => Line::Command(Command::Lease(LeaseCommand::Revoke {
            id: lease(words[0]),
        })),
        "expire" => Line::Command(Command::Lease(LeaseCommand::Expire {
            term: number(0),
            ids: words[1..].iter().map(|id| lease(id)).collect(),
        })),
        "checkpoint" => Line::Command(Command::Lease(LeaseCommand::Checkpoint {
            remaining_seconds: words
                .iter()
                .map(|word| {
                    let (id, seconds) = word.split_once('=').unwrap();
                    (lease(id), seconds.parse().unwrap())
                })
                .collect(),
        })),
        "member" => Line::Command(Command::Member(MemberCommand::Publish(MemberRecord {
            id: MemberId(number(0)),
            incarnation: Incarnation(number(1)),
            name: words[2].to_owned(),
            client_urls: Vec::new(),
            feature_level: 1,
        }))),
        other => panic!("no such verb: {other}"),
    }
}

fn word(text: &str) -> Bytes {
    if text == "''" {
        return Bytes::new();
    }
    if let Some((byte, count)) = text.split_once('*') {
        return Bytes::from(word(byte).repeat(count.parse().unwrap()));
    }
    Bytes::from(text.replace("\\0", "\0"))
}

pub(super) fn lease(text: &str) -> LeaseId {
    LeaseId(text.parse().unwrap())
}

pub(super) fn keys(text: &str) -> Keys {
    let Some(range) = text.strip_prefix('[') else {
        return Keys::One(word(text));
    };
    let (start, end) = range.strip_suffix(')').unwrap().split_once(',').unwrap();
    Keys::Range {
        start: word(start),
        end: (!end.is_empty()).then(|| word(end)),
    }
}

fn put(words: &[&str]) -> Put {
    let mut put = Put {
        key: word(words[0]),
        value: PutValue::Set(word(words[1])),
        lease: PutLease::Set(None),
        prev_kv: false,
    };
    for option in &words[2..] {
        match option.split_once('=') {
            Some(("lease", id)) => put.lease = PutLease::Set(Some(lease(id))),
            None if *option == "prev" => put.prev_kv = true,
            None if *option == "keep-value" => put.value = PutValue::Keep,
            None if *option == "keep-lease" => put.lease = PutLease::Keep,
            _ => panic!("no such option: {option}"),
        }
    }
    put
}

fn delete(words: &[&str]) -> DeleteRange {
    DeleteRange {
        keys: keys(words[0]),
        prev_kv: words.get(1) == Some(&"prev"),
    }
}

fn range(words: &[&str]) -> Range {
    let mut range = Range {
        keys: keys(words[0]),
        revision: None,
        limit: None,
        sort: (SortTarget::Key, Order::Ascending),
        keys_only: false,
        count_only: false,
        filter: RangeFilter::default(),
    };
    for option in &words[1..] {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let revision = || Some(Revision(value.parse().unwrap()));
        match name {
            "rev" => range.revision = revision(),
            "limit" => range.limit = Some(value.parse().unwrap()),
            "count" => range.count_only = true,
            "keys" => range.keys_only = true,
            "sort" => range.sort = sort(value),
            "min-mod" => range.filter.min_mod = revision(),
            "max-mod" => range.filter.max_mod = revision(),
            "min-create" => range.filter.min_create = revision(),
            "max-create" => range.filter.max_create = revision(),
            other => panic!("no such option: {other}"),
        }
    }
    range
}

fn sort(text: &str) -> (SortTarget, Order) {
    let (target, order) = text.split_once('-').unwrap();
    let target = match target {
        "key" => SortTarget::Key,
        "version" => SortTarget::Version,
        "create" => SortTarget::Create,
        "mod" => SortTarget::Mod,
        "value" => SortTarget::Value,
        other => panic!("no such target: {other}"),
    };
    let order = match order {
        "asc" => Order::Ascending,
        "desc" => Order::Descending,
        other => panic!("no such order: {other}"),
    };
    (target, order)
}

fn txn(text: &str) -> Command {
    let (compares, branches) = text.split_once('?').unwrap();
    let (success, failure) = branches.split_once(':').unwrap();
    let parts = |text: &str, by: char| -> Vec<String> {
        let parts = text.split(by).map(|part| part.trim().to_owned());
        parts.filter(|part| !part.is_empty()).collect()
    };
    Command::Kv(KvCommand::Txn(Txn {
        compares: parts(compares, '&')
            .iter()
            .map(|one| compare(one))
            .collect(),
        success: parts(success, ';').iter().map(|one| op(one)).collect(),
        failure: parts(failure, ';').iter().map(|one| op(one)).collect(),
    }))
}

fn op(text: &str) -> Op {
    let words: Vec<_> = text.split_whitespace().collect();
    match words[0] {
        "put" => Op::Put(put(&words[1..])),
        "del" => Op::DeleteRange(delete(&words[1..])),
        "get" => Op::Range(range(&words[1..])),
        other => panic!("no such operation: {other}"),
    }
}

fn compare(text: &str) -> Compare {
    let (target, rest) = text.split_once('(').unwrap();
    let (key, rest) = rest.split_once(')').unwrap();
    let results = [
        ("!=", CompareResult::NotEqual),
        ("=", CompareResult::Equal),
        (">", CompareResult::Greater),
        ("<", CompareResult::Less),
    ];
    let (result, held) = results
        .into_iter()
        .find_map(|(sign, result)| Some((result, rest.strip_prefix(sign)?)))
        .unwrap();
    let number = || held.parse::<i64>().unwrap();
    let operand = match target {
        "version" => CompareOperand::Version(number()),
        "create" => CompareOperand::Create(number()),
        "mod" => CompareOperand::Mod(number()),
        "value" => CompareOperand::Value(word(held)),
        "lease" => CompareOperand::Lease(number()),
        other => panic!("no such target: {other}"),
    };
    Compare {
        keys: keys(key),
        result,
        operand,
    }
}
