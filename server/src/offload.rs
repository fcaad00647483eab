//! Where work that waits for a disk is done: never on the runtime's thread, unless the disk is a simulated one.

use std::io;

/// Where work that may block is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Offload {
    /// On threads that may wait.
    #[default]
    Threads,
    /// By the caller, at once: nothing of it waits for a disk in memory, and a simulation has but one thread.
    Inline,
}

impl Offload {
    /// Does `work` and returns what it returned.
    ///
    /// Errors: the work panicked, or the runtime ends.
    pub async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        match self {
            Self::Threads => tokio::task::spawn_blocking(work)
                .await
                .map_err(io::Error::other),
            Self::Inline => Ok(work()),
        }
    }
}
