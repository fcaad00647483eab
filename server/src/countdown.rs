//! Ends leases whose time is over.
//!
//! The truth about leases is in the state; their countdown runs here, on the leader only, and each member keeps a copy
//! of it. In: changes to leases as they are applied, changes of leadership, what members ask about renewals, and what
//! the leader tells. Out: commands that end leases or record their time left, and what heartbeats carry to the copies. The
//! promise: no lease ends before its time to live after its last answered renewal, and none is given more than an
//! election timeout beyond it, across changes of leader; `docs/decisions/0005-leases-across-leaders.md` has the argument.
//!
//! Pure are [`deadlines`] (when each lease ends), [`broadcast`] (who was told what), [`replica`] (a copy); [`collect`] puts
//! copies together for a new leader, [`mod@run`] is a member's task, which leads ([`term`]) or follows ([`follow`]), [`questions`]
//! what the doors ask. Members' countdowns speak to each other in bytes that only [`wire`] knows; Raft carries them. A lease is one kind of
//! [`counted`] thing; a session will be another.

mod broadcast;
mod collect;
mod consensus;
mod counted;
mod deadlines;
mod driver;
mod follow;
mod questions;
mod replica;
mod run;
mod term;
#[cfg(test)]
mod tests;
mod wire;

pub use consensus::Consensus;
pub use questions::Questions;
pub use run::{count_down, inbox, run};
