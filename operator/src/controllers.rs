//! kube-rs wiring: what wakes a pass, how often, and what happens when one fails. One file per resource.

/// Passes over CoordClusters.
pub mod cluster;
mod unreadable;
