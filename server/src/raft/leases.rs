//! Questions about leases: only the leader counts them down.

use tokio::sync::{mpsc, oneshot, watch};

use super::leadership::Leadership;
use super::peer::LeaderLink;
use crate::command::{LeaseQuery, Unavailable};

/// A question, and where its answer goes.
pub type LeaseAsk = (LeaseQuery, oneshot::Sender<Result<Vec<i64>, Unavailable>>);

/// Brings questions to whoever counts. Clones share all.
#[derive(Clone)]
pub(super) struct Leases {
    pub(super) here: mpsc::Sender<LeaseAsk>,
    pub(super) link: LeaderLink,
    pub(super) leadership: watch::Receiver<Leadership>,
}

impl Leases {
    /// Asks the leader, which may be this member.
    pub(super) async fn ask(&self, query: LeaseQuery) -> Result<Vec<i64>, Unavailable> {
        let mut leadership = self.leadership.clone();
        let now = *leadership
            .wait_for(|now| now.leader.is_some())
            .await
            .map_err(|_| Unavailable::Stopped)?;
        match now.key() {
            Some(key) if !now.is_self => tokio::select! {
                answer = self.link.leases(key, query) => answer,
                // A leader that hangs must not hold up the question once there is another.
                _ = leadership.changed() => Err(Unavailable::LeaderChanged),
            },
            _ => self.ask_here(query).await,
        }
    }

    /// Asks this member, which must be the leader.
    pub(super) async fn ask_here(&self, query: LeaseQuery) -> Result<Vec<i64>, Unavailable> {
        if !self.leadership.borrow().is_self {
            return Err(Unavailable::LeaderChanged);
        }
        let (reply, answer) = oneshot::channel();
        self.here
            .send((query, reply))
            .await
            .map_err(|_| Unavailable::Stopped)?;
        answer.await.map_err(|_| Unavailable::Stopped)?
    }
}
