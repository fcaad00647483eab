//! Coord end to end: the surroundings that tests and `make` need, never part of a product.
//!
//! Rooms, in reading order; those that need the feature `kubernetes` stand without a link:
//! - `local_kubernetes`: a real Kubernetes of three nodes on this machine. Knows nothing of Coord.
//! - `product`: Coord's binaries as container images.
//! - `site`: the two together: a Kubernetes with the operator installed, ours or the one of `KUBECONFIG`.
//! - `demo`: the demonstration of `make up`.
//! - `cluster`: Coord clusters as tests see them, on Kubernetes, as processes and in this process.
//! - [`clients`]: clients of the protocols that Coord speaks.
//! - `hostile`: clients that mean harm, and those beside them.
//! - [`history`], [`check`]: the clients' record, and its judges.
//! - `nemesis`, `robust`: faults, and runs under them that end in a verdict.
//! - `netns`: network namespaces by name.

pub mod check;
pub mod clients;
#[cfg(feature = "kubernetes")]
pub mod cluster;
#[cfg(feature = "kubernetes")]
pub mod demo;
pub mod history;
#[cfg(feature = "kubernetes")]
pub mod hostile;
#[cfg(feature = "kubernetes")]
pub mod local_kubernetes;
#[cfg(feature = "kubernetes")]
pub mod nemesis;
#[cfg(feature = "kubernetes")]
pub mod netns;
#[cfg(feature = "kubernetes")]
pub mod product;
#[cfg(feature = "kubernetes")]
pub mod robust;
#[cfg(feature = "kubernetes")]
pub mod site;
