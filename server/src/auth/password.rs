//! Password hashes: bcrypt, as etcd's. Each takes a core for some fifty milliseconds. They are made on threads of their
//! own and a few at a time: a flood of logins must not take the processor from everybody else's requests. Logins of one
//! user are checked one after the other: however many guess at one user's password, another user waits for one of them, and
//! that user's own login for none if it was right before.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::recognized::Recognized;
use crate::command::AuthRefusal;
use crate::offload::Offload;

/// Bytes that bcrypt looks at; etcd refuses longer passwords.
const PASSWORD_BYTES_MAX: usize = 72;
/// etcd's `--bcrypt-cost`, also where a cost is given that bcrypt does not know.
const COST_DEFAULT: u32 = 10;
const COST_MIN: u32 = 4;
const COST_MAX: u32 = 31;

/// Hashes and checks passwords.
pub struct Passwords {
    cost: u32,
    offload: Offload,
    turns: Arc<Semaphore>,
    /// A turn for each user whose password is being checked, and how many wait for it or have it.
    users: Mutex<HashMap<String, (Arc<Semaphore>, usize)>>,
    recognized: Recognized,
}

/// A wish to have a user's password checked. The user is forgotten with the last of them.
struct Wish<'a> {
    passwords: &'a Passwords,
    user: &'a str,
    turn: Arc<Semaphore>,
}

impl Drop for Wish<'_> {
    fn drop(&mut self) {
        let mut users = self.passwords.users();
        if let Some((_, wishes)) = users.get_mut(self.user) {
            *wishes -= 1;
            if *wishes == 0 {
                users.remove(self.user);
            }
        }
    }
}

impl Passwords {
    /// With this cost, on these threads.
    pub fn new(cost: u32, offload: Offload) -> Self {
        let is_known = (COST_MIN..=COST_MAX).contains(&cost);
        if !is_known {
            tracing::warn!(cost, "bcrypt has no such cost, the default is used instead");
        }
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            cost: if is_known { cost } else { COST_DEFAULT },
            offload,
            turns: Arc::new(Semaphore::new((cores / 2).max(1))),
            users: Mutex::default(),
            recognized: Recognized::new(),
        }
    }

    /// The hash of a password.
    pub async fn hash(&self, password: String) -> Result<Bytes, AuthRefusal> {
        if password.len() > PASSWORD_BYTES_MAX {
            return Err(AuthRefusal::PasswordTooLong);
        }
        let cost = self.cost;
        let hashed = self
            .aside(move || {
                let parts = bcrypt::hash_with_result(password, cost).ok()?;
                Some(parts.format_for_version(bcrypt::Version::TwoA))
            })
            .await;
        let hashed = hashed.flatten().ok_or(AuthRefusal::Failed)?;
        Ok(Bytes::from(hashed))
    }

    /// Whether this is the password that the user's hash was made of.
    pub async fn is_right(&self, user: &str, password: String, hash: Bytes) -> bool {
        if self.recognized.knows(user, &password, &hash) {
            return true;
        }
        let wish = self.wish(user);
        let Ok(turn) = wish.turn.clone().acquire_owned().await else {
            return false;
        };
        let checked = self.aside(move || {
            let _turn = turn;
            let is_right = bcrypt::verify(&password, std::str::from_utf8(&hash).ok()?).ok()?;
            is_right.then_some((password, hash))
        });
        let Some((password, hash)) = checked.await.flatten() else {
            return false;
        };
        self.recognized.add(user, &password, hash);
        true
    }

    fn wish<'a>(&'a self, user: &'a str) -> Wish<'a> {
        let mut users = self.users();
        let new = || (Arc::new(Semaphore::new(1)), 0);
        let (turn, wishes) = users.entry(user.to_owned()).or_insert_with(new);
        *wishes += 1;
        let turn = turn.clone();
        Wish {
            passwords: self,
            user,
            turn,
        }
    }

    fn users(&self) -> std::sync::MutexGuard<'_, HashMap<String, (Arc<Semaphore>, usize)>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let turn = self.turns.clone().acquire_owned().await.ok()?;
        // The turn goes with the work, which goes on when its caller does not wait for it any more.
        let work = move || {
            let done = work();
            drop(turn);
            done
        };
        self.offload.run(work).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_hash_is_of_its_password_alone() {
        let passwords = Passwords::new(COST_MIN, Offload::Inline);
        let hash = passwords.hash("secret".to_owned()).await.unwrap();
        assert!(hash.starts_with(b"$2a$04$"), "{hash:?}");
        assert!(
            passwords
                .is_right("u", "secret".to_owned(), hash.clone())
                .await
        );
        assert!(!passwords.is_right("u", "Secret".to_owned(), hash).await);
        assert!(!passwords.is_right("u", String::new(), Bytes::new()).await);
        let empty = passwords.hash(String::new()).await.unwrap();
        assert!(
            passwords.is_right("u", String::new(), empty).await,
            "as in etcd"
        );
        let long = passwords.hash("x".repeat(73)).await;
        assert_eq!(long, Err(AuthRefusal::PasswordTooLong));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_caller_that_gives_up_keeps_its_turn_until_the_work_is_done() {
        let passwords = Passwords::new(COST_MIN, Offload::Threads);
        let turns = passwords.turns.available_permits();
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let (begun, begins) = std::sync::mpsc::channel();
        let work = passwords.aside(move || {
            begun.send(()).unwrap();
            wait.recv().unwrap();
        });
        let soon = std::time::Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, work).await.is_err());
        begins.recv().unwrap();
        assert_eq!(passwords.turns.available_permits(), turns - 1);
        go_on.send(()).unwrap();
        let all = u32::try_from(turns).unwrap();
        drop(passwords.turns.acquire_many(all).await.unwrap());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_login_waits_for_one_guess_at_another_users_password() {
        let passwords = Arc::new(Passwords::new(COST_MIN, Offload::Threads));
        let hash = passwords.hash("secret".to_owned()).await.unwrap();
        let all = u32::try_from(passwords.turns.available_permits()).unwrap();
        let held = passwords.turns.acquire_many(all).await.unwrap();
        let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
        let login = |user: &'static str, password: &'static str| {
            let (passwords, hash, ended) = (passwords.clone(), hash.clone(), ended.clone());
            tokio::spawn(async move {
                let is_right = passwords.is_right(user, password.to_owned(), hash).await;
                ended.send((user, is_right)).unwrap();
            })
        };
        let wishes = |user: &str| passwords.users().get(user).map_or(0, |(_, wishes)| *wishes);
        let guesses = 40;
        for _ in 0..guesses {
            login("guessed", "wrong");
        }
        while wishes("guessed") < guesses {
            tokio::task::yield_now().await;
        }
        login("other", "secret");
        while wishes("other") < 1 {
            tokio::task::yield_now().await;
        }
        drop(held);
        let mut before = 0;
        while let ("guessed", is_right) = ends.recv().await.unwrap() {
            assert!(!is_right);
            before += 1;
        }
        // One that was ahead, and a few more where threads are slow.
        assert!(before < guesses / 2, "{before} guesses came first");
        for _ in before..guesses {
            ends.recv().await.unwrap();
        }
        while !passwords.users().is_empty() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_login_that_was_right_before_waits_for_no_guess_at_the_same_password() {
        let passwords = Passwords::new(COST_MIN, Offload::Threads);
        let hash = passwords.hash("secret".to_owned()).await.unwrap();
        let login = |password: &str, hash: &Bytes| {
            let asked = passwords.is_right("u", password.to_owned(), hash.clone());
            tokio::time::timeout(std::time::Duration::from_millis(50), asked)
        };
        assert!(
            passwords
                .is_right("u", "secret".to_owned(), hash.clone())
                .await
        );
        // As if somebody guessed: whatever needs a hash waits.
        let guess = passwords.wish("u");
        let turn = guess.turn.clone().acquire_owned().await.unwrap();
        assert_eq!(login("secret", &hash).await.ok(), Some(true));
        assert!(login("guessed", &hash).await.is_err());
        // The password was changed: the old one is not recognized.
        let changed = passwords.hash("other".to_owned()).await.unwrap();
        assert!(login("secret", &changed).await.is_err());
        drop(turn);
        let is_right = passwords.is_right("u", "secret".to_owned(), changed).await;
        assert!(!is_right);
    }

    #[tokio::test]
    async fn a_hash_that_etcd_made_is_read() {
        // Of "bar", by Go's golang.org/x/crypto/bcrypt.
        let passwords = Passwords::new(COST_MIN, Offload::Inline);
        let hash = Bytes::from_static(HASH_OF_GO.as_bytes());
        assert!(passwords.is_right("u", "bar".to_owned(), hash).await);
    }

    const HASH_OF_GO: &str = "$2a$04$.Rt.wIbTiEi0ENE.07oXleA6c9FG6N/bw/3O0OMymESxB/oa4OnWC";
}
