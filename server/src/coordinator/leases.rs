//! Renewals and questions about leases: gathered here, answered by the leader.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::{Coordinator, Error};
use crate::command::{LeaseId, Unavailable};
use crate::countdown::Questions;

/// Renewals that may wait for the round before theirs; beyond it clients are told to slow down.
const WAITING_MAX: usize = 16_384;
/// Renewals in one message to the leader.
const ROUND_MAX: usize = 4_096;

/// The answer is a time, `None` for a lease that is unknown or over.
type Answer = Result<Option<Duration>, Unavailable>;
type Renewal = (LeaseId, oneshot::Sender<Answer>);

/// Gathers the renewals of all clients of this member: one message to the leader is under way, the next one fills.
pub struct Renewals(mpsc::Sender<Renewal>);

impl Renewals {
    pub(super) fn start(countdown: Questions) -> Self {
        let (sender, mut waiting) = mpsc::channel::<Renewal>(WAITING_MAX);
        tokio::spawn(async move {
            let mut round = Vec::new();
            while waiting.recv_many(&mut round, ROUND_MAX).await > 0 {
                let ids: Vec<_> = round.iter().map(|(id, _)| *id).collect();
                let answers = countdown.renew(&ids).await;
                for (place, (_, reply)) in round.drain(..).enumerate() {
                    // A client that went away is not waited for.
                    let _ = reply.send(answer_at(&answers, place));
                }
            }
        });
        Self(sender)
    }
}

fn answer_at(answers: &Result<Vec<Option<Duration>>, Unavailable>, place: usize) -> Answer {
    match answers {
        // A leader that answers fewer than it was asked is no leader to rely on.
        Ok(times) => times.get(place).copied().ok_or(Unavailable::LeaderChanged),
        Err(unavailable) => Err(*unavailable),
    }
}

impl Coordinator {
    /// Renews a lease. Answers its granted seconds, 0 if it is unknown or expired.
    ///
    /// Errors: `Unavailable` without a leader; the lease may have been renewed.
    pub async fn renew(&self, id: LeaseId) -> Result<i64, Error> {
        let (reply, answer) = oneshot::channel();
        self.renewals
            .0
            .try_send((id, reply))
            .map_err(|_| Unavailable::TooManyRequests)?;
        let granted = self.in_time(async { answer.await.unwrap_or(Err(Unavailable::Stopped)) });
        Ok(granted.await?.map_or(0, seconds))
    }

    /// Seconds left of a lease, -1 if it is unknown or expired.
    ///
    /// Errors: `Unavailable` without a leader.
    pub async fn remaining(&self, id: LeaseId) -> Result<i64, Error> {
        let answers = self.in_time(self.countdown.remaining(&[id])).await;
        Ok(answer_at(&answers, 0)?.map_or(-1, seconds))
    }
}

/// Whole seconds, as etcd counts.
fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}
