//! Fault runs: a cluster of real processes under load and faults, what its clients saw, and a verdict on it.
//!
//! In: a [`Plan`](run::Plan), which is a scenario, a seed and a time. Out: a [`Report`](run::Report), or why not: what was
//! promised and did not hold ([`failure::Failure::Broken`]), or that the run proves nothing ([`failure::Failure::Void`]). The
//! verdict is a plain function over the [`Record`](record::Record), which a failed run leaves in a file: `coord-e2e judge
//! FILE` gives it again.
//!
//! Must not know: how a fault is made (`nemesis`) or what linearizable means (`check`).
//! Read [`scenario`] for what is done to a cluster, [`run`] for the order of things, [`verdict`] for what is judged.

pub mod campaign;
pub mod failpoints;
pub mod failure;
pub mod health;
pub mod load;
pub mod record;
pub mod run;
pub mod scenario;
pub mod verdict;
