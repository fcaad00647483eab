//! Committed entries as JSON, one object a line: what was changed and by whom, keys whole and values by their length.

use std::io::{self, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::replay::{CameTo, Committed};
use crate::command::{
    AlarmCommand, AuthCommand, Command, DeleteRange, Keys, KvCommand, LeaseCommand, LevelCommand,
    MemberCommand, Op, Principal, Proposal, Put, PutLease, PutValue, Txn,
};
use crate::raft;
use crate::wal::Payload;

type Fields = Map<String, Value>;

/// Writes the line of an entry.
pub(super) fn line(committed: Committed<'_>, out: &mut dyn Write) -> io::Result<()> {
    let Committed {
        entry,
        envelope,
        came_to,
    } = committed;
    let position = entry.position;
    let mut line = fields(json!({
        "index": position.index,
        "term": position.term,
        "leader": position.leader.to_string(),
    }));
    match (&entry.payload, envelope) {
        (Payload::Blank, _) | (Payload::Proposals(_), None) => {
            line.insert("kind".to_owned(), json!("blank"));
        }
        (Payload::Membership(bytes), _) => {
            line.insert("kind".to_owned(), json!("membership"));
            let members = raft::members_of(bytes).unwrap_or_default();
            let members = members.into_iter().map(|(id, peer_urls, is_learner)| {
                json!({"id": id.to_string(), "peerURLs": peer_urls, "isLearner": is_learner})
            });
            line.insert("members".to_owned(), members.collect());
        }
        (Payload::Proposals(_), Some(envelope)) => {
            line.insert("kind".to_owned(), json!("proposals"));
            line.insert("time".to_owned(), json!(envelope.leader_time.0));
            line.insert("featureLevel".to_owned(), json!(envelope.feature_level));
            if let Some(revision) =
                came_to.and_then(|came_to| came_to.iter().rev().find_map(|one| one.revision))
            {
                line.insert("revision".to_owned(), json!(revision.0));
            }
            let proposals = envelope.proposals.iter().enumerate();
            let proposals = proposals.map(|(at, proposal)| {
                self::proposal(proposal, came_to.and_then(|came_to| came_to.get(at)))
            });
            line.insert("proposals".to_owned(), proposals.collect());
        }
    }
    writeln!(out, "{}", Value::Object(line))
}

fn fields(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}

fn proposal(proposal: &Proposal, came_to: Option<&CameTo>) -> Value {
    let mut told = fields(command(&proposal.command));
    told.insert("origin".to_owned(), json!(proposal.origin.to_string()));
    match &proposal.principal {
        Principal::System => drop(told.insert("by".to_owned(), json!("system"))),
        Principal::Anonymous => {}
        Principal::User { name, .. } => drop(told.insert("user".to_owned(), json!(name))),
    }
    if let Some(CameTo { revision, refused }) = came_to {
        if let Some(revision) = revision {
            told.insert("revision".to_owned(), json!(revision.0));
        }
        if let Some(refused) = refused {
            told.insert("refused".to_owned(), json!(refused.to_string()));
        }
    }
    Value::Object(told)
}

fn command(command: &Command) -> Value {
    match command {
        Command::Kv(KvCommand::Put(put)) => self::put(put),
        Command::Kv(KvCommand::DeleteRange(delete)) => self::delete(delete),
        Command::Kv(KvCommand::Txn(txn)) => self::txn(txn),
        Command::Kv(KvCommand::Compact { revision }) => {
            json!({"kind": "compact", "at": revision.0})
        }
        Command::Lease(command) => lease(command),
        Command::Member(MemberCommand::Publish(record)) => json!({
            "kind": "member_publish",
            "id": record.id.to_string(),
            "name": record.name,
            "clientURLs": record.client_urls,
            "featureLevel": record.feature_level,
        }),
        Command::Level(LevelCommand::Raise { level }) => {
            json!({"kind": "level_raise", "level": level})
        }
        Command::Alarm(command) => {
            let (kind, alarm) = match command {
                AlarmCommand::Activate(alarm) => ("alarm_activate", alarm),
                AlarmCommand::Deactivate(alarm) => ("alarm_deactivate", alarm),
            };
            json!({"kind": kind, "alarm": format!("{:?}", alarm.kind), "id": alarm.member.to_string()})
        }
        Command::Auth(command) => auth(command),
    }
}

/// A key as base64, and as text where all of it can be printed.
fn key(told: &mut Fields, name: &str, key: &[u8]) {
    told.insert(name.to_owned(), json!(STANDARD.encode(key)));
    let text = std::str::from_utf8(key).ok();
    if let Some(text) = text.filter(|text| !text.chars().any(char::is_control)) {
        told.insert(format!("{name}Text"), json!(text));
    }
}

fn keys(told: &mut Fields, keys: &Keys) {
    match keys {
        Keys::One(one) => key(told, "key", one),
        Keys::Range { start, end } => {
            key(told, "key", start);
            match end {
                Some(end) => key(told, "rangeEnd", end),
                None => drop(told.insert("rangeEnd".to_owned(), json!(STANDARD.encode([0])))),
            }
        }
    }
}

fn put(put: &Put) -> Value {
    let mut told = fields(json!({"kind": "put"}));
    key(&mut told, "key", &put.key);
    match &put.value {
        PutValue::Set(value) => drop(told.insert("valueBytes".to_owned(), json!(value.len()))),
        PutValue::Keep => drop(told.insert("keepsValue".to_owned(), json!(true))),
    }
    match put.lease {
        PutLease::Set(None) => {}
        PutLease::Set(Some(id)) => drop(told.insert("lease".to_owned(), json!(id.0))),
        PutLease::Keep => drop(told.insert("keepsLease".to_owned(), json!(true))),
    }
    Value::Object(told)
}

fn delete(delete: &DeleteRange) -> Value {
    let mut told = fields(json!({"kind": "delete_range"}));
    keys(&mut told, &delete.keys);
    Value::Object(told)
}

fn txn(txn: &Txn) -> Value {
    let compares = txn.compares.iter().map(|compare| {
        let mut told = Fields::new();
        keys(&mut told, &compare.keys);
        Value::Object(told)
    });
    json!({
        "kind": "txn",
        "compares": compares.collect::<Vec<_>>(),
        "success": txn.success.iter().map(op).collect::<Vec<_>>(),
        "failure": txn.failure.iter().map(op).collect::<Vec<_>>(),
    })
}

fn op(op: &Op) -> Value {
    match op {
        Op::Range(range) => {
            let mut told = fields(json!({"kind": "range"}));
            keys(&mut told, &range.keys);
            Value::Object(told)
        }
        Op::Put(put) => self::put(put),
        Op::DeleteRange(delete) => self::delete(delete),
        Op::Txn(txn) => self::txn(txn),
    }
}

fn lease(command: &LeaseCommand) -> Value {
    match command {
        LeaseCommand::Grant { id, ttl_seconds } => {
            json!({"kind": "lease_grant", "lease": id.0, "ttl": ttl_seconds})
        }
        LeaseCommand::Revoke { id } => json!({"kind": "lease_revoke", "lease": id.0}),
        LeaseCommand::Expire { term, ids } => {
            let ids: Vec<i64> = ids.iter().map(|id| id.0).collect();
            json!({"kind": "lease_expire", "decidedInTerm": term, "leases": ids})
        }
        LeaseCommand::Checkpoint { remaining_seconds } => {
            let ids: Vec<i64> = remaining_seconds.iter().map(|(id, _)| id.0).collect();
            json!({"kind": "lease_checkpoint", "leases": ids})
        }
    }
}

/// Names only: neither passwords nor tokens.
fn auth(command: &AuthCommand) -> Value {
    match command {
        AuthCommand::Enable => json!({"kind": "auth_enable"}),
        AuthCommand::Disable => json!({"kind": "auth_disable"}),
        AuthCommand::Authenticate { name, token: _ } => {
            json!({"kind": "authenticate", "name": name})
        }
        AuthCommand::UserAdd { name, password: _ } => json!({"kind": "user_add", "name": name}),
        AuthCommand::UserDelete { name } => json!({"kind": "user_delete", "name": name}),
        AuthCommand::UserChangePassword { name, password: _ } => {
            json!({"kind": "user_change_password", "name": name})
        }
        AuthCommand::UserGrantRole { name, role } => {
            json!({"kind": "user_grant_role", "name": name, "role": role})
        }
        AuthCommand::UserRevokeRole { name, role } => {
            json!({"kind": "user_revoke_role", "name": name, "role": role})
        }
        AuthCommand::RoleAdd { role } => json!({"kind": "role_add", "role": role}),
        AuthCommand::RoleDelete { role } => json!({"kind": "role_delete", "role": role}),
        AuthCommand::RoleGrantPermission { role, permission } => {
            let mut told = fields(json!({"kind": "role_grant_permission", "role": role}));
            keys(&mut told, &permission.keys);
            Value::Object(told)
        }
        AuthCommand::RoleRevokePermission {
            role,
            keys: revoked,
        } => {
            let mut told = fields(json!({"kind": "role_revoke_permission", "role": role}));
            keys(&mut told, revoked);
            Value::Object(told)
        }
    }
}
