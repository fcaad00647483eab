//! Why a fault run did not pass.

/// Why a run did not pass.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Something that was promised did not hold.
    #[error("BROKEN: {0}")]
    Broken(String),
    /// The run proves nothing: its fault did not happen, its load was too low, or a tool failed.
    #[error("VOID: {0:#}")]
    Void(#[from] anyhow::Error),
}

impl From<tonic::Status> for Failure {
    fn from(status: tonic::Status) -> Self {
        Self::Void(status.into())
    }
}
