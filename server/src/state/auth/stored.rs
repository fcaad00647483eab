//! The rows: whether it is on and the revision, one for each user, one for each role.

use bytes::Bytes;

use super::{Auth, Role, User};
use crate::command::codec::wire::{Reader, Sink, Writer};
use crate::command::codec::{Canonical, CodecError, read_list, write_list};
use crate::command::{Fault, Permission};
use crate::disk::Rows;
use crate::state::law::Law;
use crate::state::ledger::{self, system_key, tag};
use crate::state::spaces::SYSTEM;

impl Law<'_> {
    pub(super) fn store_auth(&mut self) {
        let mut out = Writer::with_capacity(12);
        out.bool(self.auth.enabled);
        out.u64(self.auth.revision);
        self.rows
            .put(SYSTEM, Bytes::from_static(&[tag::AUTH]), out.finish());
    }

    /// Writes a user as it is now, or that there is none.
    pub(super) fn store_user(&mut self, name: &str) {
        let key = system_key(tag::USER, name.as_bytes());
        match self.auth.users.get(name) {
            Some(User { password, roles }) => {
                let mut out = Writer::with_capacity(128);
                out.bool(password.is_some());
                if let Some(hash) = password {
                    out.bytes(hash);
                }
                let roles: Vec<&str> = roles.iter().map(String::as_str).collect();
                write_list(&mut out, &roles, |role, out| {
                    Sink::bytes(out, role.as_bytes());
                });
                self.rows.put(SYSTEM, key, out.finish());
            }
            None => self.rows.delete(SYSTEM, key),
        }
    }

    /// Writes a role as it is now, or that there is none.
    pub(super) fn store_role(&mut self, name: &str) {
        let key = system_key(tag::ROLE, name.as_bytes());
        match self.auth.roles.get(name) {
            Some(Role(permissions)) => {
                let mut out = Writer::with_capacity(128);
                write_list(&mut out, permissions, Permission::write);
                self.rows.put(SYSTEM, key, out.finish());
            }
            None => self.rows.delete(SYSTEM, key),
        }
    }
}

fn name(key: &[u8]) -> Result<String, CodecError> {
    String::from_utf8(key.to_vec()).map_err(|_| CodecError::Text { at: 0 })
}

/// The tables in the rows.
pub(in crate::state) fn load(rows: &Rows<'_>) -> Result<Auth, Fault> {
    let mut auth = Auth::default();
    if let Some(row) = rows.get(SYSTEM, &[tag::AUTH])? {
        let mut input = Reader::new(row);
        let mut read = || {
            auth.enabled = input.bool()?;
            auth.revision = input.u64()?;
            input.end()
        };
        read().map_err(|error| ledger::damaged("whether authentication is on", &error))?;
    }
    ledger::each(rows, tag::USER, |key, row| {
        let mut input = Reader::new(row);
        let password = match input.bool()? {
            false => None,
            true => Some(input.bytes()?),
        };
        let roles = read_list(&mut input, 1, Reader::text)?;
        let roles = roles.into_iter().collect();
        auth.users.insert(name(key)?, User { password, roles });
        input.end()
    })?;
    ledger::each(rows, tag::ROLE, |key, row| {
        let mut input = Reader::new(row);
        let permissions = read_list(&mut input, 3, Permission::read)?;
        auth.roles.insert(name(key)?, Role(permissions));
        input.end()
    })?;
    for name in Vec::from_iter(auth.users.keys().cloned()) {
        auth.merge(&name);
    }
    Ok(auth)
}
