//! Sends single writes, as [`crate::writes`] lists them. Nothing here waits or decides.
//!
//! A write is only sent while the look it was decided on is recent and the lease is ours ([`Writer::may_write`]): an
//! operator that was paused between deciding and acting does nothing when it wakes. At most one call may still be under
//! way then, so every destructive one carries the UID and the resource version it was decided on, and a restart of a
//! pod that serves asks the disruption budget. Every write is counted at one place ([`Writes`]), so that a fault test
//! can end the operator after any of them.

mod apply;
mod membership;
mod objects;
mod protect;
mod writes;

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::Client;

use crate::leader::LeaseValidity;
use crate::member_client::{MemberError, Route};
use crate::model::names;
use crate::observe::{Applied, Failure, Observed};
use crate::plan::Step;
use crate::validate::Desired;
use crate::writes::Write;

pub use protect::untie;
pub use writes::Writes;

/// A decision is not acted on when the look it rests on began longer ago than this. A pass takes milliseconds, and with
/// members that don't answer a few seconds; an older plan was held up, and the world may have moved on.
const LOOK_AGE_MAX: Duration = Duration::from_secs(10);

/// The clients and values that the writes need.
pub struct Writer<'a> {
    /// The API server.
    pub client: &'a Client,
    /// The way to members.
    pub route: &'a Route,
    /// The count of writes.
    pub writes: &'a Writes,
    /// The spec.
    pub desired: &'a Desired,
    /// The observation that the plan was made from.
    pub observed: &'a Observed,
    /// When the look that gave `observed` began.
    pub looked: Instant,
    /// Until when this process may act.
    pub validity: &'a LeaseValidity,
}

impl Writer<'_> {
    /// `Ok` if a write may still be sent. Asked right before each, with nothing awaited in between.
    fn may_write(&self) -> Result<(), ExecuteError> {
        if self.validity.holds() && self.looked.elapsed() <= LOOK_AGE_MAX {
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
    #[error("{what}: {}", sentence(source))]
    Kube {
        /// The write that failed.
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
        /// The write that failed.
        what: String,
    },
}

impl ExecuteError {
    /// The kind of failure, for the next pass.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Kube {
                source: kube::Error::Api(status),
                ..
            } => {
                let is_stale = status.is_conflict()
                    || status.is_not_found()
                    || status.code == TOO_MANY_REQUESTS;
                // A server that fails or does not answer recovers by itself, and nobody knows whether such a write was
                // done.
                match (is_stale, status.code) {
                    (true, _) => Failure::Stale,
                    (false, 400..500) => Failure::Refused,
                    (false, _) => Failure::Unknown,
                }
            }
            Self::Member(error) if error.is_not_yet() || error.is_not_found() => Failure::Stale,
            Self::NoLeader | Self::TooLate => Failure::Stale,
            Self::NameTaken { .. } => Failure::Refused,
            Self::Kube { .. } | Self::Member(_) | Self::Timeout { .. } => Failure::Unknown,
        }
    }
}

/// The API server's own words, without the Rust around them.
pub fn sentence(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        kube::Error::Api(status) => format!("{} ({})", status.reason, status.code),
        error => error.to_string(),
    }
}

/// Also what an eviction is answered that the budget does not allow now.
const TOO_MANY_REQUESTS: u16 = 429;

/// The outcome of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sent {
    /// A child is as wanted, with its content.
    Applied(Applied),
    /// It is done.
    Done,
}

/// Sends one write. [`Write::Intent`] is the controller's own, because it holds the status.
pub async fn send(writer: &Writer<'_>, write: &Write) -> Result<Sent, ExecuteError> {
    match write {
        Write::Intent => {}
        Write::Apply(child) => return apply::child(writer, child).await,
        Write::RunSet { ordinal, uid } => objects::run_set(writer, *ordinal, uid).await?,
        Write::Grow { ordinal, uid } => objects::grow_volume(writer, *ordinal, uid).await?,
        Write::CreateVolume { ordinal, volume } => {
            apply::create_volume(writer, *ordinal, volume).await?;
        }
        Write::DeleteBudget { name, uid } => apply::delete_budget(writer, name, uid).await?,
        Write::LabelPod {
            ordinal,
            uid,
            labels,
        } => apply::label_pod(writer, *ordinal, uid, labels).await?,
        Write::TieVolume {
            ordinal,
            uid,
            version,
            labels,
            owners,
        } => apply::tie_volume(writer, *ordinal, uid, version, labels, owners).await?,
        Write::Step {
            step,
            version,
            evicts,
        } => {
            writer.writes.about_to(step.name());
            execute(writer, step, version.clone(), *evicts).await?;
        }
    }
    Ok(Sent::Done)
}

/// Carries out `step`. Steps that only change the status are done when the status has been written.
async fn execute(
    writer: &Writer<'_>,
    step: &Step,
    version: Option<String>,
    evicts: bool,
) -> Result<(), ExecuteError> {
    let cluster = writer.desired.name.as_str();
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
        } => objects::mark_volume(writer, *ordinal, uid, *cluster_id, *member_id).await,
        Step::MarkRemoved {
            ordinal,
            uid,
            member_id,
        } => objects::mark_removed(writer, *ordinal, uid, *member_id).await,
        Step::Bootstrap { ordinal, start } => membership::bootstrap(writer, *ordinal, start).await,
        Step::DeleteSet { ordinal, uid } => {
            let name = names::member(cluster, *ordinal);
            objects::delete::<StatefulSet>(writer, &name, uid, version).await
        }
        Step::DeleteVolume { ordinal, uid } => {
            let name = names::volume(cluster, *ordinal);
            objects::delete::<PersistentVolumeClaim>(writer, &name, uid, version).await
        }
        Step::RestartPod { ordinal, uid } if evicts => {
            objects::evict_pod(writer, *ordinal, uid).await
        }
        // It does not serve and takes no part, so its restart must not wait for a budget that is used up because of it.
        Step::RestartPod { ordinal, uid } => {
            let name = names::pod(cluster, *ordinal);
            objects::delete::<Pod>(writer, &name, uid, version).await
        }
        Step::AddLearner { ordinal } => membership::add_learner(writer, *ordinal).await,
        Step::Promote {
            id,
            with,
            ordinal: _,
        } => membership::promote(writer, *id, with).await,
        Step::MoveLeader { from: _, to } => membership::move_leader(writer, *to).await,
        Step::RemoveMember { id, with, name: _ } => membership::remove(writer, *id, with).await,
    }
}
