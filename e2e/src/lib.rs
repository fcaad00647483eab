//! Coord end to end: what the tests and `make` need around the products, and never part of a product.
//!
//! Rooms, in reading order:
//! - [`local_kubernetes`]: a real Kubernetes of three nodes on this machine. Knows nothing of Coord.
//! - [`product`]: Coord's binaries as container images.
//! - [`demo`]: what `make up` does with the two.

pub mod demo;
pub mod local_kubernetes;
pub mod product;
