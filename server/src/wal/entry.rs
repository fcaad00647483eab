//! The contents of the log: entries with their position, and the vote.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::command::{Envelope, LogPosition, MemberId};

/// One log entry. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Where it stands.
    pub position: LogPosition,
    /// Its content.
    pub payload: Payload,
}

impl Entry {
    /// Bytes it takes in a cache or a message, roughly.
    pub fn size(&self) -> usize {
        const OVERHEAD: usize = 64;
        OVERHEAD + self.payload.bytes().map_or(0, Bytes::len)
    }
}

/// This member's memory of another: the facts that the other may not have forgotten when it comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerMemory {
    /// The other.
    pub member: MemberId,
    /// The highest vote it is known to have had: the term ..
    pub term: u64,
    /// .. and the candidate it was for.
    pub leader: MemberId,
    /// The end of the log that it acknowledged to that leader: the index after the last entry. 0 if none is known.
    pub acknowledged: u64,
}

/// The content of an entry. The log stores the bytes and never looks inside.
#[derive(Clone, Debug)]
pub enum Payload {
    /// Nothing: a new leader's first entry.
    Blank,
    /// Gathered proposals.
    Proposals(Proposals),
    /// A cluster membership, as the Raft room encodes it.
    Membership(Bytes),
}

impl Payload {
    /// The stored bytes; a blank entry has none.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Blank => None,
            Self::Proposals(proposals) => Some(&proposals.bytes),
            Self::Membership(bytes) => Some(bytes),
        }
    }
}

/// An encoded [`Envelope`]. On the member that made it the decoded form comes along until it is applied, so that it is
/// decoded nowhere else than on the others. It is not kept beyond: entries stay in memory long after they are applied.
#[derive(Clone, Debug)]
pub struct Proposals {
    bytes: Bytes,
    envelope: Arc<Mutex<Option<Envelope>>>,
}

impl Proposals {
    /// From bytes that were read or received.
    pub fn encoded(bytes: Bytes) -> Self {
        Self {
            bytes,
            envelope: Arc::default(),
        }
    }

    /// From an envelope and its canonical bytes.
    pub fn new(bytes: Bytes, envelope: Envelope) -> Self {
        Self {
            bytes,
            envelope: Arc::new(Mutex::new(Some(envelope))),
        }
    }

    /// The canonical bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The decoded form; only if it is not at hand any more does `decode` run.
    pub fn take_envelope<E>(
        &self,
        decode: impl FnOnce(&Bytes) -> Result<Envelope, E>,
    ) -> Result<Envelope, E> {
        let mut envelope = self
            .envelope
            .lock()
            .expect("nothing panics while it holds the lock");
        match envelope.take() {
            Some(envelope) => Ok(envelope),
            None => decode(&self.bytes),
        }
    }
}

/// The candidate that this member voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// Raft term.
    pub term: u64,
    /// The candidate or leader.
    pub leader: MemberId,
    /// Whether a quorum granted it.
    pub committed: bool,
}
