//! Passwords and tokens: how a client shows who it is.
//!
//! Owns what is checked before the law is asked: a password against its hash, a token against who it was given to. Tokens
//! are either random words that every member holds in memory ([`simple`]), given through the log so that all know them,
//! or signed claims that need no memory ([`jwt`]). Knows no wire and no state: users and permissions are law. Nothing in
//! here is slow but [`Passwords`], which has threads of its own.

mod jwt;
mod password;
mod pem;
mod recognized;
mod simple;

use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::{self, Moment};
use crate::command::{AuthRefusal, Principal, TokenChange};
pub use password::Passwords;

use jwt::Jwt;
use simple::Simple;

/// How often tokens that nobody used are looked for, as in etcd.
const EXPIRE_PAUSE: Duration = Duration::from_secs(1);

/// A setting of `--auth-token` that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("auth: invalid auth options: {0}")]
pub struct InvalidOptions(String);

/// Whether tokens can be as `--auth-token` says. Reads key files.
///
/// Errors: the words say what is wrong.
pub fn check(options: &str) -> Result<(), InvalidOptions> {
    signed(options).map(drop)
}

/// The signer of tokens; none where they are random words.
fn signed(options: &str) -> Result<Option<Jwt>, InvalidOptions> {
    let (kind, rest) = options.split_once(',').unwrap_or((options, ""));
    match kind {
        "simple" => Ok(None),
        "jwt" => Ok(Some(Jwt::new(rest).map_err(InvalidOptions)?)),
        other => Err(InvalidOptions(format!(
            "'{other}' is neither simple nor jwt"
        ))),
    }
}

/// The meaning of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// The principal that it belongs to.
    Principal(Principal),
    /// Nobody's that is known here; it may have been given by an entry that is not applied here yet.
    Unknown,
    /// Nobody's.
    Nobody,
}

enum Kind {
    Simple(Simple),
    Jwt(Box<Jwt>),
}

/// The tokens of one member.
pub struct Tokens(Kind);

impl Tokens {
    /// As `--auth-token` says: `simple`, or `jwt` with its options. `changes` are those that the law makes.
    ///
    /// Reads key files: for start only. Errors: the words say what is wrong.
    pub fn new(
        options: &str,
        ttl: Duration,
        changes: mpsc::UnboundedReceiver<Vec<TokenChange>>,
    ) -> Result<Self, InvalidOptions> {
        Ok(Self(match signed(options)? {
            None => Kind::Simple(Simple::new(ttl, changes)),
            Some(jwt) => Kind::Jwt(Box::new(jwt)),
        }))
    }

    /// Random letters for a token that goes through the log; none if tokens are signed.
    pub fn letters(&self) -> String {
        match &self.0 {
            Kind::Simple(_) => simple::letters(),
            Kind::Jwt(_) => String::new(),
        }
    }

    /// The token of a user whose password was checked: the one that went through the log, or a signed one.
    ///
    /// Errors: this member has no key to sign with.
    pub fn give(&self, given: String, user: &str, revision: u64) -> Result<String, AuthRefusal> {
        match &self.0 {
            Kind::Simple(_) => Ok(given),
            Kind::Jwt(jwt) => jwt.sign(user, revision, clock::wall()),
        }
    }

    /// The principal of `token`, at the auth revision of now. Using a token keeps it.
    pub fn look_up(&self, token: &str, revision: u64) -> Said {
        match &self.0 {
            Kind::Simple(simple) => match simple.user(token, Moment::now()) {
                Some(name) => Said::Principal(Principal::User {
                    name,
                    auth_revision: revision,
                }),
                None if simple::is_token(token) => Said::Unknown,
                None => Said::Nobody,
            },
            Kind::Jwt(jwt) => match jwt.check(token, clock::wall()) {
                Some((name, auth_revision)) => Said::Principal(Principal::User {
                    name,
                    auth_revision,
                }),
                None => Said::Nobody,
            },
        }
    }

    /// The user whose token it is. Does not keep it.
    pub fn owner(&self, token: &str) -> Option<String> {
        match &self.0 {
            Kind::Simple(simple) => simple.owner(token, Moment::now()),
            Kind::Jwt(jwt) => jwt.check(token, clock::wall()).map(|(name, _)| name),
        }
    }

    /// Forgets tokens that nobody used for their time to live, for as long as the process runs.
    pub async fn expire(&self) {
        let Kind::Simple(simple) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(EXPIRE_PAUSE).await;
            simple.expire(Moment::now());
        }
    }
}
