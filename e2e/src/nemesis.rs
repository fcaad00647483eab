//! Faults of real processes, disks and networks: each is inflicted, held while clients go on, and taken back.
//!
//! Every fault returns its [`Evidence`], measured and not assumed: a process that is gone or stands still, packets that
//! were dropped, writes that took long. A run whose fault did not happen proves nothing, so without evidence a fault is an
//! error. The demands on a cluster under a fault are not known here; they are `robust`'s.

pub mod disk_full;
pub mod disk_slow;
pub mod kill;
pub mod partition;
pub mod pause;

/// The proof that a fault happened, for the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence(pub String);
