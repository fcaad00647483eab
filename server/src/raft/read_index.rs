//! The wait that makes a read linearizable: ReadIndex, shared.
//!
//! A round confirms that the leader still leads, and answers all reads that were registered before its first message.
//! One round is under way, the next one forms. A member that does not lead asks the leader for a round and then waits
//! until it has itself applied as much.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use openraft::ReadPolicy;
use tokio::sync::{Notify, oneshot, watch};

use super::applied::AppliedMark;
use super::core::Core;
use super::leadership::{Leadership, RETRY_PAUSE};
use super::peer::LeaderLink;
use crate::command::Unavailable;
use crate::failpoints::{self, Bug};

/// Reads that may wait for a round.
const READS_MAX: usize = 16 * 1024;
/// Other members' rounds that may wait; each member has one under way.
const ROUNDS_MAX: usize = 4 * 1024;

#[derive(Default)]
struct Forming {
    /// Reads of this member: told when it has applied enough.
    local: Vec<oneshot::Sender<()>>,
    /// Other members' rounds: told the index.
    remote: Vec<oneshot::Sender<u64>>,
}

impl Forming {
    /// Forgets reads that were given up; whether any is left.
    fn is_wanted(&mut self) -> bool {
        self.local.retain(|read| !read.is_closed());
        self.remote.retain(|round| !round.is_closed());
        !(self.local.is_empty() && self.remote.is_empty())
    }
}

/// Where reads register. Clones share it.
#[derive(Clone, Default)]
pub(super) struct ReadRounds(Arc<Shared>);

#[derive(Default)]
struct Shared {
    forming: Mutex<Forming>,
    /// Reads of this member that wait, wherever.
    waiting: AtomicUsize,
    wake: Notify,
}

/// One of the reads that may wait.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Result<Self, Unavailable> {
        let place = Self(waiting);
        if waiting.fetch_add(1, Ordering::Relaxed) >= READS_MAX {
            return Err(Unavailable::TooManyRequests);
        }
        Ok(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ReadRounds {
    /// Resolves when all that was committed before the call can be read on this member.
    pub(super) async fn barrier(&self) -> Result<(), Unavailable> {
        let (done, ready) = oneshot::channel();
        // Held until this read ends: it may wait in a round, and then for what is to be applied.
        let _place = Place::take(&self.0.waiting)?;
        self.forming().local.push(done);
        self.0.wake.notify_one();
        ready.await.map_err(|_| Unavailable::Stopped)
    }

    /// For another member, if this one leads: the index up to which it must have applied.
    pub(super) async fn index(&self) -> Result<u64, Unavailable> {
        let (done, index) = oneshot::channel();
        {
            let mut forming = self.forming();
            if forming.remote.len() >= ROUNDS_MAX {
                return Err(Unavailable::TooManyRequests);
            }
            forming.remote.push(done);
        }
        self.0.wake.notify_one();
        index.await.map_err(|_| Unavailable::LeaderChanged)
    }

    fn forming(&self) -> std::sync::MutexGuard<'_, Forming> {
        self.0
            .forming
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// Runs rounds for as long as the process does.
    pub(super) async fn run(
        self,
        core: Core,
        link: LeaderLink,
        applied: AppliedMark,
        mut leadership: watch::Receiver<Leadership>,
    ) {
        loop {
            self.0.wake.notified().await;
            let mut round = std::mem::take(&mut *self.forming());
            while round.is_wanted() {
                let now = *leadership.borrow_and_update();
                let asked = async {
                    match now.key() {
                        Some(_) if now.is_self && failpoints::has(Bug::StaleRead) => {
                            applied.index()
                        }
                        Some(_) if now.is_self => {
                            let read = core.get_read_log_id(ReadPolicy::ReadIndex).await;
                            let read = read.inspect_err(
                                |error| tracing::debug!(%error, "a read round failed"),
                            );
                            read.ok().map(|(read, _)| read.index())
                        }
                        Some(key) => link.read_index(key).await.ok(),
                        None => None,
                    }
                };
                if !now.is_self {
                    // Only the leader answers other members' rounds.
                    round.remote.clear();
                }
                // A leader that hangs must not hold up the round once there is another.
                let index = tokio::select! {
                    index = asked => index,
                    _ = leadership.changed() => None,
                };
                if let Some(index) = index {
                    for remote in round.remote.drain(..) {
                        // Its stream may have ended.
                        let _ = remote.send(index);
                    }
                    applied.when(index, round.local.drain(..));
                    break;
                }
                // A read may be asked again: it changes nothing. Wait for a leader, or a little.
                round.remote.clear();
                let pause = tokio::time::sleep(RETRY_PAUSE);
                tokio::select! {
                    () = pause => {}
                    changed = leadership.changed() => if changed.is_err() { return },
                }
                // Reads that arrived meanwhile may share the next attempt.
                let arrived = std::mem::take(&mut *self.forming());
                round.local.extend(arrived.local);
                round.remote.extend(arrived.remote);
            }
        }
    }
}
