//! Coord beside a real etcd, in one run.
//!
//! Starts fresh clusters of both on loopback, measures each row of the catalogue in paired rounds and says which of the
//! targets are reached. Read [`rows`] for what is measured, [`load`] for how, [`rounds`] for the pairing, [`targets`]
//! for the bar. It knows servers only as executables that take etcd's flags and speak its protocol, so any two builds
//! can be compared. It must not link the server: the generator is built and changed apart from what it measures.

pub mod cluster;
pub mod data;
pub mod gauge;
pub mod histogram;
pub mod load;
pub mod machine;
pub mod reading;
pub mod report;
pub mod rounds;
pub mod rows;
pub mod snapshot;
pub mod targets;
pub mod wire;
