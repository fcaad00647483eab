//! The composition root: the only room that knows every other. It wires, it does not work.
//!
//! [`start`] brings the rooms up in order, [`stored`] opens what the data directory holds, [`join`] waits for a place in a running cluster,
//! [`identity`] says who a member is before it has data. [`Node`] owns every task it started and ends them.

pub mod check;
mod directory;
mod identity;
mod join;
pub mod memory;
mod owner;
mod platform;
mod rebuild;
mod secure;
mod start;
mod stored;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::audit;
use crate::command::Fault;
use crate::config::{Config, Invalid};
use crate::coordinator::Coordinator;
use crate::offload::Offload;
use crate::raft::Raft;

pub use identity::{cluster_id, member_id};
pub use platform::{LogPlace, Platform};

/// How long a leader may take to hand over before this member stops anyway: programs that stop an etcd wait about 1.5 s.
const HAND_OVER_MAX: Duration = Duration::from_millis(1000);

/// Why a member could not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The data directory, or what it holds, does not fit what was asked for.
    #[error("{0}")]
    Refused(String),
    /// A member without data cannot start with these settings.
    #[error(transparent)]
    Usage(#[from] Invalid),
    /// An address could not be bound.
    #[error("cannot listen on {url}: {source}")]
    Listen {
        /// The URL that was to be bound.
        url: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The disk failed, or an invariant broke.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The engine ended: a broken invariant, or this member was removed from its cluster.
    #[error("{0}")]
    Ended(String),
}

/// A running member.
pub struct Node {
    coordinator: Arc<Coordinator>,
    raft: Raft,
    client_addresses: Vec<SocketAddr>,
    peer_addresses: Vec<SocketAddr>,
    /// Client listeners; each ends by itself soon after `closing`.
    doors: JoinSet<()>,
    /// Peer listeners and drivers; dropping the set ends them.
    tasks: JoinSet<()>,
    /// Turns true when the doors must end their streams.
    closing: watch::Sender<bool>,
    audit: Option<audit::Log>,
    /// Held for as long as the process may write.
    _directory: Option<directory::Lock>,
}

impl Node {
    /// Starts a member and returns once its client listener accepts calls.
    ///
    /// A member that joins a running cluster returns only when it has been added to it; until then its client port
    /// answers `/livez` and says on `/readyz` what it waits for. Dropping the future stops that wait.
    ///
    /// Errors: [`Stop`] with one sentence that says what to do.
    pub fn start(config: Config) -> BoxFuture<'static, Result<Self, Stop>> {
        Box::pin(async {
            let platform = Platform::of(&config).await?;
            Self::start_on(config, platform).await
        })
    }

    /// Starts a member on a platform that the caller brings; otherwise as [`start`](Self::start).
    pub fn start_on(config: Config, platform: Platform) -> BoxFuture<'static, Result<Self, Stop>> {
        // Boxed here, or every program that starts a member compiles most of the server once more.
        Box::pin(start::start(config, platform))
    }

    /// Where clients connect, as bound.
    pub fn client_addresses(&self) -> &[SocketAddr] {
        &self.client_addresses
    }

    /// Where peers connect, as bound.
    pub fn peer_addresses(&self) -> &[SocketAddr] {
        &self.peer_addresses
    }

    /// The engine behind the doors.
    pub fn coordinator(&self) -> &Arc<Coordinator> {
        &self.coordinator
    }

    /// Runs until `shutdown` resolves, then hands leadership over, ends the doors and closes the log.
    ///
    /// Errors: why the engine ended by itself.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), Stop> {
        let ended = self.raft.stopped();
        tokio::select! {
            reason = ended => {
                self.stop().await;
                Err(Stop::Ended(reason))
            }
            () = shutdown => {
                tracing::info!("stopping");
                self.stop().await;
                Ok(())
            }
        }
    }

    /// Hands leadership over if it can be had quickly, then ends everything.
    pub fn stop(self) -> BoxFuture<'static, ()> {
        Box::pin(self.end())
    }

    async fn end(mut self) {
        // First the hand-over: clients of this member see the next leader before their streams end.
        if tokio::time::timeout(HAND_OVER_MAX, self.raft.shutdown())
            .await
            .is_err()
        {
            tracing::warn!("leadership was not handed over in time");
        }
        // Only fails when no door listens any more.
        let _ = self.closing.send(true);
        while self.doors.join_next().await.is_some() {}
        self.tasks.shutdown().await;
        if let Some(log) = self.audit.take() {
            // Fails only if the runtime ends, and then nobody waits for it.
            let _ = Offload::default().run(move || log.close()).await;
        }
    }
}
