//! Ends leases whose time is over.
//!
//! The truth about leases is in the state; their countdown runs here, on the leader only, and each member keeps a copy
//! of it. In: changes to leases as they are applied, changes of leadership, what members ask about renewals, and what
//! the leader tells. Out: `LeaseExpire` and `LeaseCheckpoint` commands, and what heartbeats carry to the copies. The
//! promise: no lease ends before its time to live after its last answered renewal, and none is given more than an
//! election timeout beyond it, across changes of leader; `docs/decisions/0005-leases-across-leaders.md` has the argument.
//!
//! Pure are [`deadlines`] (when each lease ends), [`broadcast`] (who was told what), [`replica`] (a copy); [`collect`] puts
//! copies together for a new leader, [`driver`] is a member's part, [`term`] the leader's turns.

mod broadcast;
mod collect;
mod deadlines;
mod driver;
mod replica;
mod term;
#[cfg(test)]
mod tests;

pub use driver::{Consensus, count_down, run};
