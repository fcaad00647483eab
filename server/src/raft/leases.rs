//! Leases between members: questions to whoever counts them down, and the copies of the countdown.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot, watch};

use super::leadership::Leadership;
use super::peer::LeaderLink;
use crate::command::{
    LeaderKey, LeaseAck, LeaseCopy, LeaseDelta, LeaseQuery, MemberId, Unavailable,
};

/// What is asked of this member's countdown, and where the answer goes.
#[derive(Debug)]
pub enum LeaseAsk {
    /// A member's question; only the leader knows.
    Query(LeaseQuery, oneshot::Sender<Result<Vec<i64>, Unavailable>>),
    /// What the leader tells.
    News(LeaseDelta, oneshot::Sender<LeaseAck>),
    /// A new leader wants this member's copy.
    Recall(LeaderKey, oneshot::Sender<LeaseCopy>),
}

/// What a leader's heartbeats carry. Neither may block.
pub trait LeaseTeller: Send + Sync {
    /// What to tell `member`, on a heartbeat of this leadership.
    fn news(&self, leadership: LeaderKey, member: MemberId) -> Option<LeaseDelta>;
    /// What `member` answered.
    fn receipt(&self, leadership: LeaderKey, member: MemberId, receipt: LeaseAck);
}

/// Whom heartbeats ask for what they carry. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Carried(Arc<Mutex<Option<Arc<dyn LeaseTeller>>>>);

impl Carried {
    pub(super) fn set(&self, teller: Option<Arc<dyn LeaseTeller>>) {
        *self
            .0
            .lock()
            .expect("nothing panics while it holds the lock") = teller;
    }

    pub(super) fn get(&self) -> Option<Arc<dyn LeaseTeller>> {
        self.0
            .lock()
            .expect("nothing panics while it holds the lock")
            .clone()
    }
}

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
            .send(LeaseAsk::Query(query, reply))
            .await
            .map_err(|_| Unavailable::Stopped)?;
        answer.await.map_err(|_| Unavailable::Stopped)?
    }

    /// Hands over what the leader tells. `None` if it cannot be taken now: a heartbeat must not wait, the next one tells
    /// it again.
    pub(super) async fn take(&self, news: LeaseDelta) -> Option<LeaseAck> {
        let (reply, receipt) = oneshot::channel();
        self.here.try_send(LeaseAsk::News(news, reply)).ok()?;
        receipt.await.ok()
    }

    /// This member's copy, for the leader that it follows.
    pub(super) async fn recall_here(
        &self,
        leadership: LeaderKey,
    ) -> Result<LeaseCopy, Unavailable> {
        let (reply, recall) = oneshot::channel();
        self.here
            .send(LeaseAsk::Recall(leadership, reply))
            .await
            .map_err(|_| Unavailable::Stopped)?;
        recall.await.map_err(|_| Unavailable::Stopped)
    }
}
