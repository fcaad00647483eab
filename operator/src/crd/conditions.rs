//! The types of the conditions, as `kubectl wait` names them.

/// The cluster serves and matches its spec (kstatus: current).
pub const READY: &str = "Ready";
/// A leader answers reads that a quorum confirmed.
pub const QUORATE: &str = "Quorate";
/// The operator is changing something, or waits for a change to finish.
pub const PROGRESSING: &str = "Progressing";
/// Fewer members are healthy than the spec asks for, though the cluster may serve.
pub const DEGRADED: &str = "Degraded";
/// Every disk is as large as the spec says, and what is stored is well within the quota.
pub const STORAGE_HEALTHY: &str = "StorageHealthy";
/// No two voters share a node: a node that is lost takes one of them only.
pub const SPREAD: &str = "Spread";
/// The operator cannot go on without somebody's help (kstatus: failed).
pub const STALLED: &str = "Stalled";
/// `spec.paused` is set: nothing is touched.
pub const PAUSED: &str = "Paused";
