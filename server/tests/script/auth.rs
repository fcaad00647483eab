//! Lines about users, roles and who asks.

use bytes::Bytes;
use coord_server::command::{
    Access, AuthCommand, AuthQuery, AuthResponse, Command, Permission, Query, TokenChange,
};

use super::parse::{Line, keys, lease};

/// Reads a line whose first word is about authentication; `None` if it is about something else.
pub(crate) fn line(verb: &str, words: &[&str]) -> Option<Line> {
    let name = |at: usize| match words[at] {
        "''" => String::new(),
        word => word.to_owned(),
    };
    let command = |command: AuthCommand| Some(Line::Command(Command::Auth(command)));
    let query = |query: AuthQuery| Some(Line::Query(Query::Auth(query)));
    match (verb, words) {
        ("as", [who]) => Some(Line::As((*who).to_owned())),
        ("watch", [range]) => Some(Line::Watch(keys(range))),
        ("renew", [id]) => Some(Line::Renew(lease(id))),
        ("login", [_, letters]) => command(AuthCommand::Authenticate {
            name: name(0),
            token: match *letters {
                "''" => String::new(),
                letters => letters.to_owned(),
            },
        }),
        ("auth", ["enable"]) => command(AuthCommand::Enable),
        ("auth", ["disable"]) => command(AuthCommand::Disable),
        ("auth", ["status"]) => query(AuthQuery::Status),
        ("user", ["add", _, password]) => command(AuthCommand::UserAdd {
            name: name(1),
            password: (*password != "-").then(|| Bytes::copy_from_slice(password.as_bytes())),
        }),
        ("user", ["del", _]) => command(AuthCommand::UserDelete { name: name(1) }),
        ("user", ["pass", _, password]) => command(AuthCommand::UserChangePassword {
            name: name(1),
            password: Bytes::copy_from_slice(password.as_bytes()),
        }),
        ("user", ["grant", _, _]) => command(AuthCommand::UserGrantRole {
            name: name(1),
            role: name(2),
        }),
        ("user", ["revoke", _, _]) => command(AuthCommand::UserRevokeRole {
            name: name(1),
            role: name(2),
        }),
        ("user", ["get", _]) => query(AuthQuery::User(name(1))),
        ("user", ["list"]) => query(AuthQuery::Users),
        ("role", ["add", _]) => command(AuthCommand::RoleAdd { role: name(1) }),
        ("role", ["del", _]) => command(AuthCommand::RoleDelete { role: name(1) }),
        ("role", ["grant", _, access, range]) => command(AuthCommand::RoleGrantPermission {
            role: name(1),
            permission: Permission {
                access: match *access {
                    "read" => Access::Read,
                    "write" => Access::Write,
                    "readwrite" => Access::ReadWrite,
                    other => panic!("no such access: {other}"),
                },
                keys: keys(range),
            },
        }),
        ("role", ["revoke", _, range]) => command(AuthCommand::RoleRevokePermission {
            role: name(1),
            keys: keys(range),
        }),
        ("role", ["get", _]) => query(AuthQuery::Role(name(1))),
        ("role", ["list"]) => query(AuthQuery::Roles),
        _ => None,
    }
}

/// An answer, as it is printed.
pub(crate) fn response(response: &AuthResponse) -> String {
    match response {
        AuthResponse::Status { enabled, revision } => {
            let enabled = if *enabled { "on" } else { "off" };
            format!("authentication is {enabled}, revision {revision}")
        }
        AuthResponse::Names(names) => format!("{names:?}"),
        AuthResponse::Permissions(permissions) => {
            let each = permissions
                .iter()
                .map(|one| format!("{:?} {:?}", one.access, one.keys));
            format!("{:?}", each.collect::<Vec<_>>())
        }
        AuthResponse::Authenticated { token, revision } => {
            format!("token '{token}' at revision {revision}")
        }
    }
}

/// A change to tokens, as it is printed.
pub(crate) fn token_change(change: &TokenChange) -> String {
    match change {
        TokenChange::Given { token, user } => format!("{user} has token {token}"),
        TokenChange::UserEnded(user) => format!("tokens of {user} end"),
        TokenChange::AllEnded => "all tokens end".to_owned(),
    }
}
