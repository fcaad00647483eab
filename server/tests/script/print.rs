//! Answers to lines.

use coord_server::command::{
    Event, EventKind, KeyValue, LeaseChange, OpResponse, Outcome, RangeResponse, Response,
};

/// The revision and the answer.
pub(crate) fn outcome(outcome: &Outcome) -> Vec<String> {
    let Outcome { revision, result } = outcome;
    let mut printed = match result {
        Ok(response) => self::response(response),
        Err(refusal) => vec![format!("refused: {refusal}")],
    };
    printed[0] = format!("@{revision} {}", printed[0]);
    printed
}

fn response(response: &Response) -> Vec<String> {
    match response {
        Response::Put { prev } => put(prev.as_ref()),
        Response::DeleteRange { deleted, prevs } => delete(*deleted, prevs),
        Response::Range(found) => range(found),
        Response::Txn {
            succeeded,
            responses,
        } => txn(*succeeded, responses),
        Response::LeaseGrant { id, ttl_seconds } => {
            vec![format!("granted {} for {ttl_seconds} s", id.0)]
        }
        Response::Lease(None) => vec!["no such lease".to_owned()],
        Response::Lease(Some(found)) => {
            let keys: Vec<_> = found.keys.iter().map(|key| text(key)).collect();
            let lease = found.lease;
            vec![format!(
                "lease {} of {} s, remaining {}, keys {keys:?}",
                lease.id.0, lease.ttl_seconds, lease.remaining_seconds
            )]
        }
        Response::Leases(ids) => {
            let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
            vec![format!("leases {ids:?}")]
        }
        Response::Alarms(alarms) => vec![format!("alarms {alarms:?}")],
        Response::Auth(response) => vec![super::auth::response(response)],
        Response::Done => vec!["done".to_owned()],
    }
}

fn txn(succeeded: bool, responses: &[OpResponse]) -> Vec<String> {
    let mut printed = vec![if succeeded { "then" } else { "else" }.to_owned()];
    for response in responses {
        let lines = match response {
            OpResponse::Range(found) => range(found),
            OpResponse::Put { prev } => put(prev.as_ref()),
            OpResponse::DeleteRange { deleted, prevs } => delete(*deleted, prevs),
            OpResponse::Txn {
                succeeded,
                responses,
            } => txn(*succeeded, responses),
        };
        printed.extend(lines.into_iter().map(|line| format!("| {line}")));
    }
    printed
}

fn put(prev: Option<&KeyValue>) -> Vec<String> {
    vec![match prev {
        None => "put".to_owned(),
        Some(prev) => format!("put, was {}", pair(prev)),
    }]
}

fn delete(deleted: u64, prevs: &[KeyValue]) -> Vec<String> {
    let mut printed = vec![format!("deleted {deleted}")];
    printed.extend(prevs.iter().map(|prev| format!("was {}", pair(prev))));
    printed
}

fn range(found: &RangeResponse) -> Vec<String> {
    let RangeResponse { kvs, more, count } = found;
    let more = if *more { ", more" } else { "" };
    let mut printed = vec![format!("{} of {count}{more}", kvs.len())];
    printed.extend(kvs.iter().map(pair));
    printed
}

/// One change.
pub(crate) fn event(event: &Event) -> String {
    let Event { kind, kv, prev } = event;
    let prev = match prev {
        None => String::new(),
        Some(prev) => format!(", was {}", pair(prev)),
    };
    match kind {
        EventKind::Put => format!("PUT {}{prev}", pair(kv)),
        EventKind::Delete => format!("DELETE {} at {}{prev}", text(&kv.key), kv.mod_revision),
    }
}

/// One change to a lease.
pub(crate) fn lease_change(change: &LeaseChange) -> String {
    match change {
        LeaseChange::Granted { lease, index: _ } => format!("lease {} granted", lease.id.0),
        LeaseChange::Ended(id) => format!("lease {} ended", id.0),
        LeaseChange::Checkpointed(lease) => {
            format!(
                "lease {} has {} s left",
                lease.id.0, lease.remaining_seconds
            )
        }
        LeaseChange::Replaced { upto } => format!("leases replaced up to {upto}"),
    }
}

fn pair(kv: &KeyValue) -> String {
    let KeyValue {
        key,
        create_revision,
        mod_revision,
        version,
        value,
        lease,
    } = kv;
    let lease = lease.map_or(String::new(), |lease| format!(" lease {}", lease.0));
    format!(
        "{}={} (create {create_revision}, mod {mod_revision}, version {version}{lease})",
        text(key),
        text(value)
    )
}

fn text(bytes: &[u8]) -> String {
    if bytes.len() > 40 {
        return format!("<{} bytes>", bytes.len());
    }
    String::from_utf8_lossy(bytes).replace('\0', "\\0")
}
