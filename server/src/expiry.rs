//! Ends leases whose time is over.
//!
//! The truth about leases is in the state; their countdown runs here, on the leader only. In: changes to leases as they
//! are applied, changes of leadership, and what members ask about renewals. Out: `LeaseExpire` and `LeaseCheckpoint`
//! commands. The promise: no lease ends before its time to live after its last answered renewal, across changes of
//! leader. [`deadlines`] is the pure part; [`driver`] keeps its clock and speaks for it.

mod deadlines;
mod driver;
#[cfg(test)]
mod tests;

pub use deadlines::{Deadlines, Renewal};
pub use driver::{Consensus, Question, count_down, run};
