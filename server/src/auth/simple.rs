//! Simple tokens: 16 random letters, a dot and the log index they were given at. Held in memory by every member, gone
//! with its process: a client whose token is unknown logs in again. Source: etcd `server/auth/simple_token.go`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rand::RngExt;
use tokio::sync::mpsc;

use crate::clock::Moment;
use crate::command::TokenChange;

const LETTERS: &[u8; 52] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LETTERS_COUNT: usize = 16;

struct Held {
    user: String,
    ends: Moment,
}

struct Inner {
    changes: mpsc::UnboundedReceiver<Vec<TokenChange>>,
    held: HashMap<String, Held>,
}

/// Tokens and whose they are.
pub(super) struct Simple {
    ttl: Duration,
    inner: Mutex<Inner>,
}

/// Letters for a token.
pub(super) fn letters() -> String {
    let mut random = rand::rng();
    (0..LETTERS_COUNT)
        .map(|_| char::from(LETTERS[random.random_range(0..LETTERS.len())]))
        .collect()
}

/// Whether it has the form of one.
pub(super) fn is_token(token: &str) -> bool {
    let mut parts = token.split('.');
    let (Some(_), Some(index), None) = (parts.next(), parts.next(), parts.next()) else {
        return false;
    };
    index.parse::<u64>().is_ok()
}

impl Simple {
    pub(super) fn new(ttl: Duration, changes: mpsc::UnboundedReceiver<Vec<TokenChange>>) -> Self {
        let held = HashMap::new();
        Self {
            ttl,
            inner: Mutex::new(Inner { changes, held }),
        }
    }

    /// The token's user; its time begins anew.
    pub(super) fn user(&self, token: &str, now: Moment) -> Option<String> {
        let mut inner = self.caught_up(now);
        let held = inner.held.get_mut(token).filter(|held| now < held.ends)?;
        held.ends = now.after(self.ttl);
        Some(held.user.clone())
    }

    /// The token's user; its time goes on.
    pub(super) fn owner(&self, token: &str, now: Moment) -> Option<String> {
        let inner = self.caught_up(now);
        let held = inner.held.get(token).filter(|held| now < held.ends);
        held.map(|held| held.user.clone())
    }

    /// Forgets those whose time is over.
    pub(super) fn expire(&self, now: Moment) {
        self.caught_up(now).held.retain(|_, held| now < held.ends);
    }

    /// With what was applied until now. Taken in by those who look rather than by a task, because the answer to a login
    /// must not be sent before its token is known here.
    fn caught_up(&self, now: Moment) -> MutexGuard<'_, Inner> {
        let mut inner = self
            .inner
            .lock()
            .expect("nothing panics while it holds the lock");
        while let Ok(changes) = inner.changes.try_recv() {
            for change in changes {
                match change {
                    TokenChange::Given { token, user } => {
                        let ends = now.after(self.ttl);
                        inner.held.insert(token, Held { user, ends });
                    }
                    TokenChange::UserEnded(user) => inner.held.retain(|_, held| held.user != user),
                    TokenChange::AllEnded => inner.held.clear(),
                }
            }
        }
        inner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(token: &str, user: &str) -> TokenChange {
        TokenChange::Given {
            token: token.to_owned(),
            user: user.to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_lives_as_long_as_it_is_used_and_its_user_stays() {
        let (sender, changes) = mpsc::unbounded_channel();
        let simple = Simple::new(Duration::from_secs(10), changes);
        let user = |token: &str| simple.user(token, Moment::now());
        sender
            .send(vec![given("a.1", "ann"), given("b.2", "ben")])
            .unwrap();
        for _ in 0..3 {
            tokio::time::advance(Duration::from_secs(6)).await;
            assert_eq!(user("a.1").as_deref(), Some("ann"));
        }
        assert_eq!(user("b.2"), None, "nobody used it for 10 s");
        assert_eq!(simple.owner("b.2", Moment::now()), None);
        assert_eq!(simple.owner("a.1", Moment::now()).as_deref(), Some("ann"));
        sender
            .send(vec![
                given("c.3", "ben"),
                TokenChange::UserEnded("ann".to_owned()),
            ])
            .unwrap();
        assert_eq!((user("a.1"), user("c.3").as_deref()), (None, Some("ben")));
        sender.send(vec![TokenChange::AllEnded]).unwrap();
        assert_eq!(user("c.3"), None);
    }

    #[test]
    fn letters_are_sixteen_and_never_the_same() {
        let (one, other) = (letters(), letters());
        assert_eq!(one.len(), LETTERS_COUNT);
        assert_ne!(one, other);
        assert!(is_token(&format!("{one}.7")));
        assert!(!is_token(&one) && !is_token("a.b") && !is_token("a.1.2"));
    }
}
