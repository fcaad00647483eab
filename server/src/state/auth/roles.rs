//! Commands on roles.

use bytes::Bytes;

use super::Role;
use super::users::check_name;
use crate::command::{AuthRefusal, Keys, Permission, ROOT, Refusal};
use crate::state::law::Law;

impl Law<'_> {
    pub(super) fn role_add(&mut self, name: &str) -> Result<(), Refusal> {
        if name.is_empty() {
            return Err(AuthRefusal::RoleEmpty.into());
        }
        check_name(name)?;
        if self.auth.roles.contains_key(name) {
            return Err(AuthRefusal::RoleExists.into());
        }
        self.role_changed(name, Role::default());
        Ok(())
    }

    pub(super) fn role_delete(&mut self, name: &str) -> Result<(), AuthRefusal> {
        if self.auth.enabled && name == ROOT {
            return Err(AuthRefusal::InvalidManagement);
        }
        if self.auth.roles.remove(name).is_none() {
            return Err(AuthRefusal::RoleNotFound);
        }
        self.store_role(name);
        self.forget_role(name);
        self.auth_changed();
        Ok(())
    }

    /// As etcd: of several permissions that begin at one key, only the first is ever replaced.
    pub(super) fn role_grant(
        &mut self,
        name: &str,
        permission: &Permission,
    ) -> Result<(), AuthRefusal> {
        if !has_keys(&permission.keys) {
            return Err(AuthRefusal::InvalidManagement);
        }
        let role = self.auth.roles.get(name);
        let Role(mut permissions) = role.cloned().ok_or(AuthRefusal::RoleNotFound)?;
        let key = start(&permission.keys);
        let first = permissions.partition_point(|other| start(&other.keys) < key);
        match permissions.get_mut(first) {
            Some(same) if same.keys == permission.keys => same.access = permission.access,
            Some(_) | None => {
                let after = permissions.partition_point(|other| start(&other.keys) <= key);
                permissions.insert(after, permission.clone());
            }
        }
        self.role_changed(name, Role(permissions));
        Ok(())
    }

    pub(super) fn role_revoke(&mut self, name: &str, keys: &Keys) -> Result<(), AuthRefusal> {
        let role = self.auth.roles.get(name);
        let Role(mut permissions) = role.cloned().ok_or(AuthRefusal::RoleNotFound)?;
        let before = permissions.len();
        permissions.retain(|permission| permission.keys != *keys);
        if permissions.len() == before {
            return Err(AuthRefusal::PermissionNotGranted);
        }
        self.role_changed(name, Role(permissions));
        Ok(())
    }
}

fn start(keys: &Keys) -> &Bytes {
    match keys {
        Keys::One(key) | Keys::Range { start: key, .. } => key,
    }
}

fn has_keys(keys: &Keys) -> bool {
    match keys {
        Keys::One(key) => !key.is_empty(),
        Keys::Range { start, end } => {
            !start.is_empty() && end.as_ref().is_none_or(|end| start < end)
        }
    }
}
