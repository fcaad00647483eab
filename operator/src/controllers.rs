//! From a change of an object to a pass over its cluster.
//!
//! `cluster` is the wiring to kube-rs: watch, queue, retry. `pass` is one turn of the verbs; it knows no queue. `tell`
//! writes what came of it into status and events, `unreadable` what is said of an object that cannot be read. Nothing
//! here decides about a cluster.

/// The watches, queue and retries that wake a pass over a CoordCluster.
pub mod cluster;
mod pass;
mod tell;
mod unreadable;

use kube::core::DeserializeGuard;

use crate::crd::CoordCluster;
use crate::execute::{ExecuteError, sentence};

/// A CoordCluster as far as this build can read it: one that it cannot must not keep it from the others.
type Readable = DeserializeGuard<CoordCluster>;

/// A pass that failed.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The cluster could not be observed.
    #[error("cannot read the cluster: {}", sentence(.0))]
    Observe(#[source] kube::Error),
    /// It took too long.
    #[error("{0}: no answer in time")]
    Timeout(&'static str),
    /// The status could not be written.
    #[error("cannot write the status: {}", sentence(.0))]
    Report(#[source] kube::Error),
    /// The process was held up before it could write.
    #[error(transparent)]
    Held(#[from] ExecuteError),
}

impl PassError {
    /// True if the world moved on, so that another look is all it takes.
    fn is_stale(&self) -> bool {
        match self {
            Self::Held(_) => true,
            Self::Report(kube::Error::Api(status)) => status.is_conflict() || status.is_not_found(),
            Self::Observe(_) | Self::Timeout(_) | Self::Report(_) => false,
        }
    }
}
