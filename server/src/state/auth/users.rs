//! Commands on users.

use bytes::Bytes;

use super::{Role, User};
use crate::command::{AuthRefusal, KEY_BYTES_MAX, KvRefusal, ROOT, Refusal, TokenChange};
use crate::state::law::Law;

/// A name is part of a row's key, which has a bound.
pub(super) fn check_name(name: &str) -> Result<(), Refusal> {
    if name.len() > KEY_BYTES_MAX {
        return Err(Refusal::Kv(KvRefusal::KeyTooLong {
            bytes: name.len(),
            max: KEY_BYTES_MAX,
        }));
    }
    Ok(())
}

impl Law<'_> {
    pub(super) fn user_add(&mut self, name: &str, password: Option<Bytes>) -> Result<(), Refusal> {
        if name.is_empty() {
            return Err(AuthRefusal::UserEmpty.into());
        }
        check_name(name)?;
        if self.auth.users.contains_key(name) {
            return Err(AuthRefusal::UserExists.into());
        }
        let user = User {
            password,
            ..User::default()
        };
        self.auth.users.insert(name.to_owned(), user);
        self.user_changed(name);
        Ok(())
    }

    pub(super) fn user_delete(&mut self, name: &str) -> Result<(), AuthRefusal> {
        if self.auth.enabled && name == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        if self.auth.users.remove(name).is_none() {
            return Err(AuthRefusal::UserNotFound);
        }
        self.token_changes
            .push(TokenChange::UserEnded(name.to_owned()));
        self.user_changed(name);
        Ok(())
    }

    /// A user that can't have a password is left without one.
    pub(super) fn user_change_password(
        &mut self,
        name: &str,
        password: &Bytes,
    ) -> Result<(), AuthRefusal> {
        let user = self.auth.users.get_mut(name);
        let user = user.ok_or(AuthRefusal::UserNotFound)?;
        if user.password.is_some() {
            user.password = Some(password.clone());
        }
        self.token_changes
            .push(TokenChange::UserEnded(name.to_owned()));
        self.user_changed(name);
        Ok(())
    }

    /// The role `root` can be given although nobody has made it.
    pub(super) fn user_grant_role(&mut self, name: &str, role: &str) -> Result<(), AuthRefusal> {
        let user = self.auth.users.get_mut(name);
        let user = user.ok_or(AuthRefusal::UserNotFound)?;
        if role != ROOT && !self.auth.roles.contains_key(role) {
            return Err(AuthRefusal::RoleNotFound);
        }
        if user.roles.insert(role.to_owned()) {
            self.user_changed(name);
        }
        Ok(())
    }

    pub(super) fn user_revoke_role(&mut self, name: &str, role: &str) -> Result<(), AuthRefusal> {
        if self.auth.enabled && name == ROOT && role == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        let user = self.auth.users.get_mut(name);
        let user = user.ok_or(AuthRefusal::UserNotFound)?;
        if !user.roles.remove(role) {
            return Err(AuthRefusal::RoleNotGranted);
        }
        self.user_changed(name);
        Ok(())
    }

    fn user_changed(&mut self, name: &str) {
        self.store_user(name);
        self.auth.merge(name);
        self.auth_changed();
    }

    /// Takes a role that is gone from all who have it.
    pub(super) fn forget_role(&mut self, role: &str) {
        let with = self.auth.users.iter_mut();
        let with = with.filter_map(|(name, user)| user.roles.remove(role).then(|| name.clone()));
        for name in Vec::from_iter(with) {
            self.store_user(&name);
            self.auth.merge(&name);
        }
    }

    /// Writes a role that has changed, and what follows from it.
    pub(super) fn role_changed(&mut self, name: &str, role: Role) {
        self.auth.roles.insert(name.to_owned(), role);
        self.store_role(name);
        self.auth.merge_users_of(name);
        self.auth_changed();
    }
}
