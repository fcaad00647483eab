//! Password hashes: bcrypt, as etcd's. Each takes a core for some fifty milliseconds, so they are made on threads of their
//! own and a few at a time: a flood of logins must not take the processor from the requests of everybody else.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

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

    /// Whether this is the password that the hash was made of.
    pub async fn is_right(&self, password: String, hash: Bytes) -> bool {
        let checked = self.aside(move || {
            let hash = std::str::from_utf8(&hash).ok()?;
            bcrypt::verify(password, hash).ok()
        });
        checked.await.flatten() == Some(true)
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
        assert!(passwords.is_right("secret".to_owned(), hash.clone()).await);
        assert!(!passwords.is_right("Secret".to_owned(), hash).await);
        assert!(!passwords.is_right(String::new(), Bytes::new()).await);
        let empty = passwords.hash(String::new()).await.unwrap();
        assert!(passwords.is_right(String::new(), empty).await, "as in etcd");
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

    #[tokio::test]
    async fn a_hash_that_etcd_made_is_read() {
        // Of "bar", by Go's golang.org/x/crypto/bcrypt.
        let passwords = Passwords::new(COST_MIN, Offload::Inline);
        let hash = Bytes::from_static(HASH_OF_GO.as_bytes());
        assert!(passwords.is_right("bar".to_owned(), hash).await);
    }

    const HASH_OF_GO: &str = "$2a$04$.Rt.wIbTiEi0ENE.07oXleA6c9FG6N/bw/3O0OMymESxB/oa4OnWC";
}
