//! The one checker: whether a principal may do a command or ask a question, over the whole tree of it.
//!
//! etcd's order of checks is kept, because it shows in which refusal a client reads. A check of many attached keys jumps
//! from permission to permission, so that it takes as many steps as the user has, not as the lease has keys.

use std::cell::RefCell;
use std::collections::BTreeSet;

use bytes::Bytes;

use super::Auth;
use crate::command::{
    Access, AuthCommand, AuthQuery, AuthRefusal, Command, DeleteRange, Keys, KvCommand,
    LeaseCommand, LeaseId, Op, Principal, Put, PutLease, Query, ROOT, Txn,
};
use crate::disk::Rows;
use crate::state::{No, State, lease};

/// The permission of one principal, on one state.
pub(in crate::state) struct Permit<'a, 'r> {
    auth: &'a Auth,
    rows: &'a Rows<'r>,
    who: Who<'a>,
    /// Leases whose keys were found permitted: a transaction may name one a thousand times.
    seen: RefCell<BTreeSet<(LeaseId, Access)>>,
}

enum Who<'a> {
    /// The cluster itself, or anybody while authentication is off.
    Anyone,
    Nobody,
    User {
        name: &'a str,
        revision: u64,
    },
}

impl<'a, 'r> Permit<'a, 'r> {
    pub(in crate::state) fn new(
        auth: &'a Auth,
        rows: &'a Rows<'r>,
        principal: &'a Principal,
    ) -> Self {
        let who = match principal {
            _ if !auth.enabled => Who::Anyone,
            Principal::System => Who::Anyone,
            Principal::Anonymous => Who::Nobody,
            Principal::User {
                name,
                auth_revision,
            } => Who::User {
                name,
                revision: *auth_revision,
            },
        };
        Self {
            auth,
            rows,
            who,
            seen: RefCell::default(),
        }
    }

    /// Whether it may do `command`.
    pub(in crate::state) fn command(&self, command: &Command) -> Result<(), No> {
        if matches!(self.who, Who::Anyone) {
            return Ok(());
        }
        match command {
            Command::Kv(KvCommand::Put(put)) => self.put(put),
            Command::Kv(KvCommand::DeleteRange(delete)) => Ok(self.delete(delete)?),
            Command::Kv(KvCommand::Txn(txn)) => self.txn(txn),
            Command::Kv(KvCommand::Compact { .. }) => Ok(self.admin()?),
            Command::Lease(LeaseCommand::Grant { .. }) => Ok(self.named()?),
            Command::Lease(LeaseCommand::Revoke { id }) => {
                self.named()?;
                self.attached(Access::Write, *id)
            }
            Command::Auth(AuthCommand::Authenticate { .. }) => Ok(()),
            Command::Auth(_) | Command::Alarm(_) => Ok(self.admin()?),
            // The cluster's own.
            Command::Lease(LeaseCommand::Expire { .. } | LeaseCommand::Checkpoint { .. })
            | Command::Member(_)
            | Command::Level(_) => Err(AuthRefusal::PermissionDenied.into()),
        }
    }

    /// Whether it may ask `query`. All leases are asked for one by one, see [`attached`](Self::attached).
    pub(in crate::state) fn query(&self, query: &Query) -> Result<(), No> {
        if matches!(self.who, Who::Anyone) {
            return Ok(());
        }
        match query {
            Query::Range(range) => Ok(self.keys(Access::Read, &range.keys)?),
            Query::Txn(txn) => self.txn(txn),
            Query::Lease { id, keys } => {
                self.named()?;
                match keys {
                    true => self.attached(Access::Read, *id),
                    false => Ok(()),
                }
            }
            Query::Leases | Query::Alarms => Ok(self.named()?),
            Query::Auth(query) => Ok(self.auth_query(query)?),
        }
    }

    fn auth_query(&self, query: &AuthQuery) -> Result<(), AuthRefusal> {
        let name = match self.who {
            Who::User { name, .. } => name,
            Who::Anyone | Who::Nobody => "",
        };
        match query {
            AuthQuery::Status => Ok(()),
            AuthQuery::Users | AuthQuery::Roles => self.admin(),
            AuthQuery::User(asked) if asked == name => Ok(()),
            AuthQuery::Role(role)
                if self
                    .auth
                    .users
                    .get(name)
                    .is_some_and(|user| user.roles.contains(role)) =>
            {
                Ok(())
            }
            AuthQuery::User(_) | AuthQuery::Role(_) => self.admin(),
        }
    }

    /// Whether it says who it is.
    pub(in crate::state) fn named(&self) -> Result<(), AuthRefusal> {
        match self.who {
            Who::Nobody => Err(AuthRefusal::UserEmpty),
            Who::Anyone | Who::User { .. } => Ok(()),
        }
    }

    /// Whether it has the role `root`. As in etcd, no matter since when.
    pub(in crate::state) fn admin(&self) -> Result<(), AuthRefusal> {
        match self.who {
            Who::Anyone => Ok(()),
            Who::Nobody => Err(AuthRefusal::UserEmpty),
            Who::User { name: "", .. } => Err(AuthRefusal::UserEmpty),
            Who::User { name, .. } => {
                let user = self.auth.users.get(name);
                match user.ok_or(AuthRefusal::UserNotFound)?.roles.contains(ROOT) {
                    true => Ok(()),
                    false => Err(AuthRefusal::PermissionDenied),
                }
            }
        }
    }

    /// Whether all of `keys` are permitted.
    pub(in crate::state) fn keys(&self, access: Access, keys: &Keys) -> Result<(), AuthRefusal> {
        let (name, revision) = match self.who {
            Who::Anyone => return Ok(()),
            Who::Nobody => return Err(AuthRefusal::UserEmpty),
            Who::User { name, revision } => (name, revision),
        };
        if revision < self.auth.revision {
            return Err(AuthRefusal::OldRevision);
        }
        let user = self.auth.users.get(name);
        let user = user.ok_or(AuthRefusal::PermissionDenied)?;
        let merged = self.auth.merged.get(name);
        let is_covered = || merged.is_some_and(|merged| merged.covers(access, keys));
        match user.roles.contains(ROOT) || is_covered() {
            true => Ok(()),
            false => Err(AuthRefusal::PermissionDenied),
        }
    }

    /// Whether all keys attached to a lease are permitted.
    pub(in crate::state) fn attached(&self, access: Access, id: LeaseId) -> Result<(), No> {
        if self.admin().is_ok() || self.seen.borrow().contains(&(id, access)) {
            return Ok(());
        }
        self.all_attached(access, id)?;
        self.seen.borrow_mut().insert((id, access));
        Ok(())
    }

    fn all_attached(&self, access: Access, id: LeaseId) -> Result<(), No> {
        let mut from = Bytes::new();
        loop {
            let next = lease::attached_keys(self.rows, id, &from, 0, &mut Vec::new())?;
            let Some(key) = next else { return Ok(()) };
            self.keys(access, &Keys::One(key.clone()))?;
            let Who::User { name, .. } = self.who else {
                return Ok(());
            };
            let merged = self.auth.merged.get(name);
            match merged.and_then(|merged| merged.covered_upto(access, &key)) {
                Some(upto) => from = upto,
                None => return Ok(()),
            }
        }
    }

    /// Attaching a key to a lease takes the right to write all keys it has: a user that can't end a lease must not
    /// hold keys by it.
    fn put(&self, put: &Put) -> Result<(), No> {
        let key = Keys::One(put.key.clone());
        self.keys(Access::Write, &key)?;
        if let PutLease::Set(Some(id)) = put.lease {
            self.attached(Access::Write, id)?;
        }
        if put.prev_kv {
            self.keys(Access::Read, &key)?;
        }
        Ok(())
    }

    fn delete(&self, delete: &DeleteRange) -> Result<(), AuthRefusal> {
        self.keys(Access::Write, &delete.keys)?;
        match delete.prev_kv {
            true => self.keys(Access::Read, &delete.keys),
            false => Ok(()),
        }
    }

    /// Both branches, whichever is taken: a refusal must not depend on the result of a compare.
    fn txn(&self, txn: &Txn) -> Result<(), No> {
        for compare in &txn.compares {
            self.keys(Access::Read, &compare.keys)?;
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                Op::Range(range) => self.keys(Access::Read, &range.keys)?,
                Op::Put(put) => self.put(put)?,
                Op::DeleteRange(delete) => self.delete(delete)?,
                Op::Txn(inner) => self.txn(inner)?,
            }
        }
        Ok(())
    }
}

impl State {
    /// Whether `principal` may do `command`, as far as this member has applied. Where it is applied it is asked again.
    pub fn may(&self, principal: &Principal, command: &Command) -> Result<(), No> {
        // The case of most clusters.
        if !self.auth.enabled {
            return Ok(());
        }
        let rows = self.disk.rows();
        Permit::new(&self.auth, &rows, principal).command(command)
    }

    /// Whether `principal` may watch `keys`.
    pub fn may_watch(&self, principal: &Principal, keys: &Keys) -> Result<(), AuthRefusal> {
        let rows = self.disk.rows();
        Permit::new(&self.auth, &rows, principal).keys(Access::Read, keys)
    }

    /// Whether `principal` may renew a lease: it takes the right to write all its keys.
    pub fn may_renew(&self, principal: &Principal, id: LeaseId) -> Result<(), No> {
        let rows = self.disk.rows();
        let permit = Permit::new(&self.auth, &rows, principal);
        permit.named()?;
        permit.attached(Access::Write, id)
    }

    /// Whether `principal` says who it is, if it must.
    pub fn is_named(&self, principal: &Principal) -> Result<(), AuthRefusal> {
        let rows = self.disk.rows();
        Permit::new(&self.auth, &rows, principal).named()
    }

    /// Whether `principal` may do what only root may.
    pub fn is_admin(&self, principal: &Principal) -> Result<(), AuthRefusal> {
        let rows = self.disk.rows();
        Permit::new(&self.auth, &rows, principal).admin()
    }
}
