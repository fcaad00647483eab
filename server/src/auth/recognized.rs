//! Passwords that were right once, recognized without a hash that takes fifty milliseconds: a login of somebody who has
//! logged in before does not wait behind those who guess at the same user's password.
//!
//! Only a digest is kept, under a key of this process that is never written anywhere, and it counts only for the hash that
//! it was checked against: a new password, or a new user of the same name, is unknown again.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use bytes::Bytes;

/// Users beyond these begin anew: each costs a few hundred bytes.
const USERS_MAX: usize = 4096;

pub(super) struct Recognized {
    /// `None` if the operating system has no random bytes: then nothing is recognized.
    key: Option<hmac::Key>,
    /// By user: the hash, and the digest of the password that it is of.
    users: Mutex<HashMap<String, (Bytes, hmac::Tag)>>,
}

impl Recognized {
    pub(super) fn new() -> Self {
        Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).ok(),
            users: Mutex::default(),
        }
    }

    /// Whether this password was [added](Self::add) for this user and hash. Takes as long for one that is nearly right.
    pub(super) fn knows(&self, user: &str, password: &str, hash: &[u8]) -> bool {
        let Some(key) = &self.key else {
            return false;
        };
        let users = self.users();
        users.get(user).is_some_and(|(of, digest)| {
            *of == hash && hmac::verify(key, password.as_bytes(), digest.as_ref()).is_ok()
        })
    }

    /// Remembers a password that is right.
    pub(super) fn add(&self, user: &str, password: &str, hash: Bytes) {
        let Some(key) = &self.key else {
            return;
        };
        let digest = hmac::sign(key, password.as_bytes());
        let mut users = self.users();
        if users.len() >= USERS_MAX && !users.contains_key(user) {
            users.clear();
        }
        users.insert(user.to_owned(), (hash, digest));
    }

    fn users(&self) -> MutexGuard<'_, HashMap<String, (Bytes, hmac::Tag)>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
