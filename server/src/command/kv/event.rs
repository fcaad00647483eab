//! Stored pairs, and what happens to them.

use bytes::Bytes;

use crate::command::{LeaseId, Revision};

/// A stored pair with its etcd metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyValue {
    /// The key.
    pub key: Bytes,
    /// Revision of the put that created it.
    pub create_revision: Revision,
    /// Revision of the last put.
    pub mod_revision: Revision,
    /// Puts since creation, from 1.
    pub version: u64,
    /// The value.
    pub value: Bytes,
    /// The lease it is attached to, if any.
    pub lease: Option<LeaseId>,
}

/// The kind of a change to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// It was stored.
    Put,
    /// It was removed; the event's pair then holds only key and mod revision.
    Delete,
}

/// One change, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The kind of change.
    pub kind: EventKind,
    /// The pair after the change.
    pub kv: KeyValue,
    /// The pair before it; `None` if the key did not exist or, in history, if its version is compacted.
    pub prev: Option<KeyValue>,
}
