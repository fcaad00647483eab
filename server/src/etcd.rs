//! The etcd v3 door: gRPC.
//!
//! In: the wire messages of `coord-proto`. Out: commands and queries to the coordinator, and its answers in etcd's
//! words. One way through: [`observed`] tells the audit log ([`record`]) of a call, and the log if it is slow ([`slow`]);
//! [`gate`] lets it in, [`check`] and [`convert`] make a command of it, the coordinator answers, [`header`] and [`error`]
//! say so. Each service is one file; [`services`] picks it by path. A method that is not there yet is refused by name and
//! stands in `docs/compatibility.md`.

mod asker;
mod auth;
mod check;
mod cluster;
mod convert;
mod election;
mod error;
#[cfg(test)]
pub mod fuzz;
mod gate;
mod header;
mod kv;
mod lease;
mod lock;
mod maintenance;
mod observed;
mod queue;
mod record;
mod reflection;
mod services;
mod slow;
#[cfg(test)]
mod tests;
mod watch;

pub use services::Services;
