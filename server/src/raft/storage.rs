//! openraft's storage: the log over the WAL, the state machine over the law, snapshots, and how much log is kept.
//!
//! In come openraft's entries, votes and snapshots; out go bytes for the WAL, entries for the law, and what clients and
//! watchers are shown. It does not know who proposes, who leads or how peers are reached: of the rest of `raft` it names the
//! books that it keeps (`agreement`, `applied`, `propose/pending`, `remembered`) and openraft's types. Read
//! `state_machine.rs` first.

mod durable;
mod log_store;
mod snapshot;
mod state_machine;
mod trim;

pub(super) use durable::DurableMark;
pub(super) use log_store::{LogStore, newest_membership};
#[cfg(test)]
pub(super) use snapshot::Builder;
pub(super) use snapshot::{Snapshot, SnapshotData};
pub(super) use state_machine::StateMachine;
pub use trim::Limits;
pub(super) use trim::{Sending, Sent, run as trim};
