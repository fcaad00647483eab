//! Authentication: tokens, passwords, and a look at the law before anything is proposed.

use bytes::Bytes;

use super::{Coordinator, Error};
use crate::auth::Said;
use crate::command::{
    AuthCommand, AuthRefusal, AuthResponse, Command, Keys, LeaseId, Outcome, Principal, Refusal,
    Response, Revision, Unavailable,
};

/// How often a login begins anew because users or roles changed while its password was checked.
const LOGINS_MAX: usize = 16;

impl Coordinator {
    /// The principal of a request that carries `token`, or that comes from the holder of a certificate with this common
    /// name. Nobody's while authentication is off, whatever it carries.
    ///
    /// Errors: the token means nobody, here or anywhere.
    pub async fn principal(
        &self,
        token: Option<&str>,
        common_name: Option<&str>,
    ) -> Result<Principal, Error> {
        let auth_revision = || self.state.with(|state| state.auth_revision());
        let Some(revision) = auth_revision() else {
            return Ok(Principal::Anonymous);
        };
        let Some(token) = token else {
            return Ok(match common_name {
                Some(name) => Principal::User {
                    name: name.to_owned(),
                    auth_revision: revision,
                },
                None => Principal::Anonymous,
            });
        };
        let said = match self.tokens.look_up(token, revision) {
            // Another member may have given it a moment ago; after this, everything that was answered is applied here.
            Said::Unknown => {
                self.read_barrier().await?;
                let revision = auth_revision().unwrap_or(revision);
                self.tokens.look_up(token, revision)
            }
            said => said,
        };
        match said {
            Said::Principal(principal) => Ok(principal),
            Said::Unknown | Said::Nobody => Err(refused(AuthRefusal::InvalidToken)),
        }
    }

    /// The name of the user that a request with this token or common name would be made as, if any: for those who write down
    /// what happened. Waits for nothing and keeps no token alive.
    pub fn user_of(&self, token: Option<&str>, common_name: Option<&str>) -> Option<String> {
        self.state.with(|state| state.auth_revision())?;
        match token {
            Some(token) => self.tokens.owner(token),
            None => common_name.map(str::to_owned),
        }
    }

    /// Whether users must say who they are.
    pub fn has_auth(&self) -> bool {
        self.state.with(|state| state.auth_revision()).is_some()
    }

    /// Gives a token for a password.
    ///
    /// Errors: `Refused` if authentication is off, or name and password do not belong together.
    pub async fn authenticate(
        &self,
        name: String,
        password: String,
    ) -> Result<(Revision, String), Error> {
        self.read_barrier().await?;
        for _ in 0..LOGINS_MAX {
            let checked = self.state.with(|state| state.password(&name));
            let (hash, checked_at) = checked.map_err(refused)?;
            let given = password.clone();
            if !self.passwords.is_right(&name, given, hash).await {
                tracing::info!(user = name, "invalid password");
                return Err(refused(AuthRefusal::Failed));
            }
            let command = AuthCommand::Authenticate {
                name: name.clone(),
                token: self.tokens.letters(),
            };
            let outcome = self.propose(Principal::Anonymous, command.into()).await?;
            let Outcome { revision, result } = outcome;
            let Response::Auth(AuthResponse::Authenticated {
                token,
                revision: given_at,
            }) = result?
            else {
                return Err(Unavailable::Stopped.into());
            };
            // Or it is a token for a password that was changed meanwhile.
            if given_at == checked_at {
                let token = self.tokens.give(token, &name, given_at);
                return Ok((revision, token.map_err(refused)?));
            }
        }
        Err(Unavailable::TooManyRequests.into())
    }

    /// The hash of a password, to be proposed in its place.
    pub async fn password_hash(&self, password: String) -> Result<Bytes, Error> {
        self.passwords.hash(password).await.map_err(refused)
    }

    /// Refuses what the law would refuse, before it is in the log. Where this member may be behind it looks twice: a right
    /// that was granted through another member must not be missed.
    pub(super) async fn permit(
        &self,
        principal: &Principal,
        command: &Command,
    ) -> Result<(), Error> {
        match self.may(principal, command) {
            Err(Error::Refused(_)) => {
                self.read_barrier().await?;
                self.may(principal, command)
            }
            decided => decided,
        }
    }

    fn may(&self, principal: &Principal, command: &Command) -> Result<(), Error> {
        let may = self.state.with(|state| state.may(principal, command));
        may.map_err(|no| self.refused_or_stopped(no))
    }

    /// Whether `principal` may watch `keys`.
    pub fn may_watch(&self, principal: &Principal, keys: &Keys) -> Result<(), Refusal> {
        Ok(self.state.with(|state| state.may_watch(principal, keys))?)
    }

    /// Whether `principal` may renew a lease.
    pub fn may_renew(&self, principal: &Principal, id: LeaseId) -> Result<(), Error> {
        let may = self.state.with(|state| state.may_renew(principal, id));
        may.map_err(|no| self.refused_or_stopped(no))
    }

    /// Whether `principal` says who it is, if it must.
    pub fn is_named(&self, principal: &Principal) -> Result<(), Error> {
        let named = self.state.with(|state| state.is_named(principal));
        named.map_err(refused)
    }

    /// Whether `principal` may do what only root may.
    pub fn is_admin(&self, principal: &Principal) -> Result<(), Error> {
        let admin = self.state.with(|state| state.is_admin(principal));
        admin.map_err(refused)
    }
}

fn refused(refusal: AuthRefusal) -> Error {
    Refusal::Auth(refusal).into()
}
