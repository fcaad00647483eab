//! Clients of the protocols that Coord speaks, thin enough that a test sees every field and every refusal.

pub mod etcd;
pub mod http;
pub mod programs;
