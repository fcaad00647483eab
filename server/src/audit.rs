//! The audit log: one line of JSON for each call of a client that the settings ask for.
//!
//! Owns which operations are recorded ([`Filter`]), the form of a line ([`Entry`]), the lines that wait ([`Log`]) and the
//! file they go to (`output`). In: what a door knows of a call that has ended. Out: lines, written by a thread of their own.
//! It must not know what a request looks like on the wire; values, passwords and tokens are never handed to it. A file that
//! is slow or full costs lines, which are counted, and never holds up a call
//! ([decision 0020](../../docs/decisions/0020-audit-log.md)). Read `line` first.

mod filter;
mod kind;
mod line;
mod log;
mod output;

pub use filter::Filter;
pub use kind::Kind;
pub use line::{Entry, Fact, Operation, Span};
pub use log::Log;
pub use output::{Destination, Output};
