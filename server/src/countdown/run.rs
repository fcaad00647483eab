//! The task of a member's countdown: it leads, or follows, as Raft says.

use std::time::Duration;

use tokio::sync::mpsc;

use super::consensus::Consensus;
use super::driver::Driver;
use super::replica::Replica;
use super::term::Term;
use super::wire::KIND;
use crate::command::{Lease, LeaseChange};
use crate::raft::Raft;
use crate::raft::sideband::{Inbox, Received};
use crate::state;

/// Messages of members to each other's countdown that may wait for this one; each question is a whole round of
/// renewals.
const RECEIVED_MAX: usize = 64;

/// Where Raft puts what other members say, and where [`run`] takes it from.
pub fn inbox() -> (Inbox, mpsc::Receiver<Received>) {
    let (room, received) = mpsc::channel(RECEIVED_MAX);
    (Inbox::new(KIND, room), received)
}

/// Counts leases down whenever this member leads. Ends when `received` or the leadership of `raft` does.
///
/// `changes` are the lease changes of every applied batch, sent before the batch counts as applied. `election` is
/// etcd's election timeout.
pub async fn run(
    raft: Raft,
    state: state::Handle,
    election: Duration,
    changes: mpsc::UnboundedReceiver<Vec<LeaseChange>>,
    received: mpsc::Receiver<Received>,
) {
    let leases = move || state.with(|state| state.leases());
    count_down(raft, leases, election, changes, received).await;
}

/// [`run`] over any consensus; `leases` reads the state.
pub async fn count_down<C: Consensus>(
    consensus: C,
    leases: impl Fn() -> Vec<Lease>,
    election: Duration,
    changes: mpsc::UnboundedReceiver<Vec<LeaseChange>>,
    received: mpsc::Receiver<Received>,
) {
    let leadership = consensus.leadership();
    let replica = Replica::new(consensus.applied());
    let mut driver = Driver {
        consensus,
        election,
        changes,
        received,
        leadership,
        replica,
    };
    let mut lives = true;
    while lives {
        let now = *driver.leadership.borrow_and_update();
        let leads = now.key().filter(|_| now.is_self);
        lives = match leads {
            Some(key) => match driver.take_over(key, &leases).await {
                Some(broadcast) => Term::new(key, broadcast, &mut driver).lead().await,
                None => driver.leadership.has_changed().is_ok(),
            },
            None => driver.follow().await,
        };
    }
}
