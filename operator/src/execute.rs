//! All writes: children by server-side apply, then at most one step. Nothing here waits or decides.
//!
//! A write is only sent while the look it was decided on is recent and the lease is ours ([`Hands::may_write`]): an
//! operator that was paused between deciding and acting does nothing when it wakes. What may still be under way then is
//! one call, so every destructive one carries the UID and the resource version it was decided on, and a restart of a
//! pod that serves asks the disruption budget. Every write is counted at one place ([`Writes`]), so that a fault test
//! can end the operator after any of them.

mod children;
mod membership;
mod objects;
mod writes;

pub use children::apply_children;
pub use writes::Writes;

use crate::leader::Tenure;
use crate::member_client::{MemberError, Route};
use crate::observe::Observed;
use crate::plan::Step;
use crate::validate::Desired;
use kube::Client;
use std::time::{Duration, Instant};

/// A decision is not acted on when the look it rests on began longer ago than this. A pass takes milliseconds, and with
/// members that don't answer a few seconds; what is older was held up, and the world may have moved on.
const LOOK_AGE_MAX: Duration = Duration::from_secs(10);

/// What the writes need.
pub struct Hands<'a> {
    /// The API server.
    pub client: &'a Client,
    /// The way to members.
    pub route: &'a Route,
    /// The count of writes.
    pub writes: &'a Writes,
    /// What was asked.
    pub desired: &'a Desired,
    /// What the plan was made from.
    pub observed: &'a Observed,
    /// When the look that gave `observed` began.
    pub looked: Instant,
    /// Until when this process may act.
    pub tenure: &'a Tenure,
}

impl Hands<'_> {
    /// `Ok` if a write may still be sent. Asked right before each, with nothing awaited in between.
    fn may_write(&self) -> Result<(), ExecuteError> {
        if self.tenure.holds() && self.looked.elapsed() <= LOOK_AGE_MAX {
            Ok(())
        } else {
            Err(ExecuteError::TooLate)
        }
    }
}

/// A write that failed. The next pass sees what came of it.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// The API server refused, or could not be reached.
    #[error("{what}: {source}")]
    Kube {
        /// What was being written.
        what: String,
        /// Its answer.
        source: kube::Error,
    },
    /// A member refused, or could not be reached.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// An object of that name belongs to somebody else.
    #[error(
        "{kind} {name} exists and is not part of this cluster; rename the CoordCluster or delete that object"
    )]
    NameTaken {
        /// The object's kind.
        kind: String,
        /// Its name.
        name: String,
    },
    /// No leader with an address.
    #[error("the leader cannot be reached")]
    NoLeader,
    /// The process was held up between deciding and acting, or its lease has run out.
    #[error("decided too long ago, or the lease has run out; nothing was written")]
    TooLate,
    /// The API server did not answer in time.
    #[error("{what}: no answer in time")]
    Timeout {
        /// What was being written.
        what: String,
    },
}

impl ExecuteError {
    /// True if the world merely moved on since it was observed, or is not ready yet.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Kube {
                source: kube::Error::Api(status),
                ..
            } => status.is_conflict() || status.is_not_found() || status.code == TOO_MANY_REQUESTS,
            Self::Member(error) => error.is_not_yet() || error.is_not_found(),
            Self::NoLeader | Self::TooLate => true,
            Self::Kube { .. } | Self::NameTaken { .. } | Self::Timeout { .. } => false,
        }
    }

    /// True if somebody must help: asked again, the answer would be the same. A server that fails or does not answer
    /// recovers by itself, and nobody knows whether such a write was done.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Kube {
                source: kube::Error::Api(status),
                ..
            } => (400..500).contains(&status.code) && !self.is_stale(),
            Self::NameTaken { .. } => true,
            Self::Kube { .. }
            | Self::Member(_)
            | Self::NoLeader
            | Self::TooLate
            | Self::Timeout { .. } => false,
        }
    }
}

/// Also what an eviction is answered that the budget does not allow now.
const TOO_MANY_REQUESTS: u16 = 429;

/// Carries out `step`. Steps that only change the status are done when the status has been written.
pub async fn execute(hands: &Hands<'_>, step: &Step) -> Result<(), ExecuteError> {
    match step {
        Step::Done
        | Step::Wait
        | Step::Stall
        | Step::RecordBootstrap { .. }
        | Step::RecordCluster { .. } => Ok(()),
        Step::MarkVolume {
            ordinal,
            uid,
            cluster_id,
            member_id,
        } => objects::mark_volume(hands, *ordinal, uid, *cluster_id, *member_id).await,
        Step::GrowVolume { ordinal, uid } => objects::grow_volume(hands, *ordinal, uid).await,
        Step::DeleteSet { ordinal, uid } => objects::delete_set(hands, *ordinal, uid).await,
        Step::DeleteVolume { ordinal, uid } => objects::delete_volume(hands, *ordinal, uid).await,
        Step::RestartPod { ordinal, uid } => objects::restart_pod(hands, *ordinal, uid).await,
        Step::AddLearner { ordinal } => membership::add_learner(hands, *ordinal).await,
        Step::Promote { id, ordinal: _ } => membership::promote(hands, *id).await,
        Step::MoveLeader { from: _, to } => membership::move_leader(hands, *to).await,
        Step::RemoveMember { id, name: _ } => membership::remove(hands, *id).await,
    }
}
