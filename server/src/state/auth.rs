//! Users, roles and whether they are asked for: replicated like all law, in rows of the system space.
//!
//! [`Auth`] is what the rows hold, in memory, with each user's permissions merged. `users.rs` and `roles.rs` change it,
//! `permit.rs` is the one checker: it walks the whole tree of a command or a question, at the door and again where it is
//! applied or answered. Source: etcd `server/auth/store.go` and `server/etcdserver/apply/auth.go`.

#[cfg(test)]
pub(super) mod fuzz;
mod merged;
mod permit;
mod roles;
mod stored;
mod users;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::State;
use super::law::Law;
use crate::command::{
    Access, AuthCommand, AuthQuery, AuthRefusal, AuthResponse, AuthTables, AuthUser, Keys,
    Permission, ROOT, Refusal, Response, TokenChange,
};

use merged::Merged;
pub(super) use permit::Permit;
pub(super) use stored::load;

/// The users and roles, and their permissions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Auth {
    enabled: bool,
    /// Counts changes to users and roles, and turning it off; 1 at first, as in etcd.
    revision: u64,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, Role>,
    /// By user; follows from the rest.
    merged: BTreeMap<String, Merged>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct User {
    /// The hash of its password; `None` if it can't have one.
    password: Option<Bytes>,
    roles: BTreeSet<String>,
}

/// Permissions by key; several for one key stand in the order they were granted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Role(Vec<Permission>);

impl Default for Auth {
    fn default() -> Self {
        Self {
            enabled: false,
            revision: 1,
            users: BTreeMap::new(),
            roles: BTreeMap::new(),
            merged: BTreeMap::new(),
        }
    }
}

impl Auth {
    /// Merges anew what a user may, after it or one of its roles changed.
    fn merge(&mut self, name: &str) {
        let Some(user) = self.users.get(name) else {
            self.merged.remove(name);
            return;
        };
        let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
        let permissions = roles.flat_map(|role| &role.0);
        self.merged.insert(name.to_owned(), Merged::of(permissions));
    }

    /// As [`merge`](Self::merge), for all users with a role.
    fn merge_users_of(&mut self, role: &str) {
        let with = self
            .users
            .iter()
            .filter(|(_, user)| user.roles.contains(role));
        for name in Vec::from_iter(with.map(|(name, _)| name.clone())) {
            self.merge(&name);
        }
    }

    /// Answers a question; that it may be asked was checked.
    pub(super) fn answer(&self, query: &AuthQuery) -> Result<AuthResponse, AuthRefusal> {
        Ok(match query {
            AuthQuery::Status => AuthResponse::Status {
                enabled: self.enabled,
                revision: self.revision,
            },
            AuthQuery::User(name) => {
                let user = self.users.get(name).ok_or(AuthRefusal::UserNotFound)?;
                AuthResponse::Names(user.roles.iter().cloned().collect())
            }
            AuthQuery::Users => AuthResponse::Names(self.users.keys().cloned().collect()),
            AuthQuery::Role(name) => {
                let role = self.roles.get(name).ok_or(AuthRefusal::RoleNotFound)?;
                AuthResponse::Permissions(match name.as_str() {
                    ROOT => vec![everything()],
                    _ => role.0.clone(),
                })
            }
            AuthQuery::Roles => AuthResponse::Names(self.roles.keys().cloned().collect()),
        })
    }
}

/// The permission of the role `root`.
fn everything() -> Permission {
    Permission {
        access: Access::ReadWrite,
        keys: Keys::Range {
            start: Bytes::new(),
            end: None,
        },
    }
}

impl Law<'_> {
    /// Changes users, roles or whether they are asked for.
    pub(super) fn change_auth(&mut self, command: &AuthCommand) -> Result<Response, Refusal> {
        match command {
            AuthCommand::Enable => self.enable_auth()?,
            AuthCommand::Disable => self.disable_auth(),
            AuthCommand::Authenticate { name, token } => {
                return Ok(Response::Auth(self.authenticate(name, token)?));
            }
            AuthCommand::UserAdd { name, password } => self.user_add(name, password.clone())?,
            AuthCommand::UserDelete { name } => self.user_delete(name)?,
            AuthCommand::UserChangePassword { name, password } => {
                self.user_change_password(name, password)?;
            }
            AuthCommand::UserGrantRole { name, role } => self.user_grant_role(name, role)?,
            AuthCommand::UserRevokeRole { name, role } => self.user_revoke_role(name, role)?,
            AuthCommand::RoleAdd { role } => self.role_add(role)?,
            AuthCommand::RoleDelete { role } => self.role_delete(role)?,
            AuthCommand::RoleGrantPermission { role, permission } => {
                self.role_grant(role, permission)?;
            }
            AuthCommand::RoleRevokePermission { role, keys } => self.role_revoke(role, keys)?,
        }
        Ok(Response::Done)
    }

    /// Turning it on is no change of users: earlier checks stay good.
    fn enable_auth(&mut self) -> Result<(), AuthRefusal> {
        if self.auth.enabled {
            return Ok(());
        }
        let root = self.auth.users.get(ROOT);
        let root = root.ok_or(AuthRefusal::RootUserNotExist)?;
        if !root.roles.contains(ROOT) {
            return Err(AuthRefusal::RootRoleNotExist);
        }
        self.auth.enabled = true;
        self.store_auth();
        Ok(())
    }

    fn disable_auth(&mut self) {
        if !self.auth.enabled {
            return;
        }
        self.auth.enabled = false;
        self.token_changes.push(TokenChange::AllEnded);
        self.auth_changed();
    }

    fn authenticate(&mut self, name: &str, letters: &str) -> Result<AuthResponse, AuthRefusal> {
        if !self.auth.enabled {
            return Err(AuthRefusal::NotEnabled);
        }
        let user = self.auth.users.get(name).ok_or(AuthRefusal::Failed)?;
        if user.password.is_none() {
            return Err(AuthRefusal::Failed);
        }
        let token = match letters {
            "" => String::new(),
            letters => format!("{letters}.{}", self.at.index),
        };
        if !token.is_empty() {
            self.token_changes.push(TokenChange::Given {
                token: token.clone(),
                user: name.to_owned(),
            });
        }
        Ok(AuthResponse::Authenticated {
            token,
            revision: self.auth.revision,
        })
    }

    /// Counts a change to users or roles.
    fn auth_changed(&mut self) {
        self.auth.revision += 1;
        self.store_auth();
    }
}

impl State {
    /// All users and roles as they are now, for a copy of the state.
    pub fn auth_tables(&self) -> AuthTables {
        let users = self.auth.users.iter().map(|(name, user)| AuthUser {
            name: name.clone(),
            password: user.password.clone(),
            roles: user.roles.iter().cloned().collect(),
        });
        let roles = self.auth.roles.iter();
        AuthTables {
            is_enabled: self.auth.enabled,
            revision: self.auth.revision,
            users: users.collect(),
            roles: roles
                .map(|(name, role)| (name.clone(), role.0.clone()))
                .collect(),
        }
    }

    /// The auth revision, while authentication is on.
    pub fn auth_revision(&self) -> Option<u64> {
        self.auth.enabled.then_some(self.auth.revision)
    }

    /// A user's password hash, with the auth revision it stands at.
    ///
    /// Refusals: authentication is off, there is no such user, or it has no password.
    pub fn password(&self, name: &str) -> Result<(Bytes, u64), AuthRefusal> {
        if !self.auth.enabled {
            return Err(AuthRefusal::NotEnabled);
        }
        let user = self.auth.users.get(name).ok_or(AuthRefusal::Failed)?;
        let hash = user.password.clone().ok_or(AuthRefusal::NoPasswordUser)?;
        Ok((hash, self.auth.revision))
    }
}
