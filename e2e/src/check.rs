//! Judges of what clients saw. Each is a plain function over a recorded history; each rejects histories that are wrong
//! on purpose in its tests.
//!
//! - [`linear`]: is there an order of the calls that explains every answer? Trusts no revision.
//! - [`revisions`]: do the answers agree with the order that revisions claim? Linear in time, for long histories.
//! - [`watch`]: did a watcher see every event once, in order, whole?
//! - [`lease`]: did keys live as long as their leases promised, and no longer?
//! - [`contents`]: does a member hold, at the end, what all that happened leaves?
//! - [`terms`]: did a member ever forget its term?
//!
//! [`log`] puts the log that most of them need together, [`settle`] tells what became of calls without an answer.

pub mod contents;
pub mod lease;
pub mod linear;
pub mod log;
pub mod revisions;
pub mod settle;
pub mod terms;
pub mod watch;

use coord_proto::etcd::mvccpb::event::EventType;
use coord_proto::etcd::mvccpb::{Event, KeyValue};

/// A defect of a history, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// Ends a check with a [`Violation`] unless a condition holds.
macro_rules! require {
    ($holds:expr, $($why:tt)+) => {
        if !$holds {
            return Err($crate::check::Violation(format!($($why)+)));
        }
    };
}
use require;

/// The key and value of an event; every event of a real server has one.
fn kv(event: &Event) -> Result<&KeyValue, Violation> {
    event
        .kv
        .as_ref()
        .ok_or_else(|| Violation("an event without a key".to_owned()))
}

fn is_delete(event: &Event) -> bool {
    event.r#type() == EventType::Delete
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
