//! Coord's server: one member of a Raft-replicated key-value store that speaks the etcd v3 protocol.
//!
//! The map, from door to base; `docs/architecture.md` has the drawing and the allowed arrows.
//!
//! - [`config`], [`node`]: the settings, and the composition root that wires the rooms.
//! - doors: [`etcd`] (gRPC), [`admin`] (health, version, metrics over HTTP).
//! - front: [`http`] (from a socket to a call: listener, limits, router, the bytes of a call), [`budget`] (bytes that calls
//!   hold).
//! - engine: [`coordinator`] (the narrow waist every door holds), [`raft`], [`watch`], [`countdown`], [`auto_compaction`],
//!   [`auth`] (passwords and tokens).
//! - law: [`state`] (pure: the effect of a command).
//! - memory: [`mvcc`] (keys by revision).
//! - base: [`command`] (the vocabulary), [`wal`] (Raft's log), [`disk`] (fjall), [`network`], [`tls`] (a member's identity
//!   on the wire), [`offload`], [`clock`], [`audit`] (a line for each call), [`metrics`], [`steps`] (where the time of a
//!   call goes), [`bbolt`] (etcd's database file), [`scratch`] (files without a name, sorting), [`go_duration`] (`1h30m`),
//!   [`failpoints`] (bugs for the fault runs to find, in builds of their own).
//! - in tests: `fuzz` (any bytes, wherever bytes of others are read).

pub mod admin;
pub mod audit;
pub mod auth;
pub mod auto_compaction;
pub mod bbolt;
pub mod budget;
pub mod cli;
pub mod clock;
pub mod command;
pub mod config;
pub mod coordinator;
pub mod countdown;
pub mod disk;
pub mod etcd;
pub mod failpoints;
#[cfg(test)]
pub mod fuzz;
pub mod go_duration;
pub mod http;
pub mod metrics;
pub mod mvcc;
pub mod network;
pub mod node;
pub mod offload;
pub mod raft;
pub mod scratch;
pub mod state;
pub mod steps;
pub mod telemetry;
pub mod tls;
pub mod wal;
pub mod watch;
