//! The messages between members, over gRPC.
//!
//! Owns connections to peers and the service for them. Each peer gets three connections, so that bulk never delays what
//! keeps a leader alive: one for the log and what is forwarded to the leader, one for heartbeats and votes, one for
//! snapshots. Names are resolved anew at every connect. Each call says which cluster, member and data directory it comes
//! from and which member it is meant for (`handshake`); a mismatch is refused. Read `proto/coord/peer.proto` first.

mod append;
pub(super) mod ask;
mod convert;
mod dial;
mod fetch;
mod forward;
mod handshake;
mod join;
mod line;
mod network;
mod server;
mod service;
pub(super) mod sideband;
mod snapshot;
#[cfg(test)]
mod tests;
mod whole;

pub use dial::Through;
pub use fetch::{fetch_state, places_in_log};
pub(super) use forward::{LeaderLink, Lost};
pub(super) use handshake::CallStamp;
pub use join::{AskError, Asker, JoinAnswer, ask_membership};
pub(super) use line::Peers;
pub(super) use network::Network;
pub(super) use server::Server;
pub(super) use service::{Heard, Service};
pub(super) use snapshot::Receiving;

/// Bytes of a message at most, in calls that carry entries or rows: a full message with one largest entry on top, and room to
/// spare. Above what the log takes on any member, since each may let its clients send more than this one does.
const MESSAGE_BYTES_MAX: usize = crate::wal::ENTRY_BYTES_MAX + (16 << 20);
/// Bytes of any other message: those are read before it is known whose they are.
const SMALL_MESSAGE_BYTES_MAX: usize = 16 << 20;
