//! The records of the log's one ordered stream, and their bytes.

use std::sync::Arc;

use bytes::Bytes;

use super::entry::{Entry, Payload, PeerMemory, Proposals, Vote};
use crate::command::format::{Format, UnknownFormat};
use crate::command::{ClusterId, LogPosition, MemberId};

/// One step of the log's history.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// Appends an entry right after the last.
    Entry(Entry),
    /// Replaces the vote.
    Vote(Vote),
    /// Up to where entries are known to be committed.
    Committed(LogPosition),
    /// Removes all entries after this one, or all.
    Truncate(Option<LogPosition>),
    /// Entries up to this one are no longer needed. May lie beyond the last: then the log is empty and goes on there.
    Purge(LogPosition),
    /// The segment is full; the stream goes on in the next one, which exists.
    Sealed,
    /// Replaces what is remembered of other members.
    Peers(Peers),
}

/// The memory of other members; at most [`PEERS_MAX`].
pub(super) type Peers = Arc<[PeerMemory]>;

/// More would not fit in a segment's header. A cluster has a dozen members at most.
pub(super) const PEERS_MAX: usize = 64;
/// Bytes of one of them.
pub(super) const PEER_BYTES: usize = 4 * 8;

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE: u8 = 4;
const PURGE: u8 = 5;
const SEALED: u8 = 6;
const PEERS: u8 = 7;

const BLANK: u8 = 0;
const PROPOSALS: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Bytes an entry takes as a record beside its payload: tag, position, kind, length.
const ENTRY_HEAD: usize = 1 + 24 + 1 + 4;

/// Bytes an entry takes as a record.
pub(super) fn entry_bytes(entry: &Entry) -> usize {
    ENTRY_HEAD + entry.payload.bytes().map_or(0, Bytes::len)
}

fn put_position(out: &mut Vec<u8>, position: LogPosition) {
    out.extend_from_slice(&position.term.to_le_bytes());
    out.extend_from_slice(&position.leader.0.to_le_bytes());
    out.extend_from_slice(&position.index.to_le_bytes());
}

fn put_optional_position(out: &mut Vec<u8>, position: Option<LogPosition>) {
    out.push(u8::from(position.is_some()));
    if let Some(position) = position {
        put_position(out, position);
    }
}

fn put_vote(out: &mut Vec<u8>, vote: Vote) {
    out.extend_from_slice(&vote.term.to_le_bytes());
    out.extend_from_slice(&vote.leader.0.to_le_bytes());
    out.push(u8::from(vote.committed));
}

fn put_peers(out: &mut Vec<u8>, peers: &[PeerMemory]) {
    out.push(u8::try_from(peers.len()).expect("at most PEERS_MAX"));
    for peer in peers {
        let PeerMemory {
            member,
            term,
            leader,
            acknowledged,
        } = peer;
        for number in [member.0, *term, leader.0, *acknowledged] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

impl Record {
    /// Appends its bytes.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Entry(entry) => {
                out.push(ENTRY);
                put_position(out, entry.position);
                let (kind, bytes): (u8, &[u8]) = match &entry.payload {
                    Payload::Blank => (BLANK, &[]),
                    Payload::Proposals(proposals) => (PROPOSALS, proposals.bytes()),
                    Payload::Membership(bytes) => (MEMBERSHIP, bytes),
                };
                out.push(kind);
                let length = u32::try_from(bytes.len()).expect("entries are far smaller");
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(bytes);
            }
            Self::Vote(vote) => {
                out.push(VOTE);
                put_vote(out, *vote);
            }
            Self::Committed(position) => {
                out.push(COMMITTED);
                put_position(out, *position);
            }
            Self::Truncate(position) => {
                out.push(TRUNCATE);
                put_optional_position(out, *position);
            }
            Self::Purge(position) => {
                out.push(PURGE);
                put_position(out, *position);
            }
            Self::Sealed => out.push(SEALED),
            Self::Peers(peers) => {
                out.push(PEERS);
                put_peers(out, peers);
            }
        }
    }
}

/// Reads records off a buffer without copying payloads.
pub(super) struct Cursor(pub(super) Bytes);

impl Cursor {
    fn take(&mut self, count: usize) -> Option<Bytes> {
        (self.0.len() >= count).then(|| self.0.split_to(count))
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let bytes = self.take(4)?;
        Some(u32::from_le_bytes(bytes.as_ref().try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let bytes = self.take(8)?;
        Some(u64::from_le_bytes(bytes.as_ref().try_into().ok()?))
    }

    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn position(&mut self) -> Option<LogPosition> {
        Some(LogPosition {
            term: self.u64()?,
            leader: MemberId(self.u64()?),
            index: self.u64()?,
        })
    }

    fn optional_position(&mut self) -> Option<Option<LogPosition>> {
        Some(if self.bool()? {
            Some(self.position()?)
        } else {
            None
        })
    }

    fn vote(&mut self) -> Option<Vote> {
        Some(Vote {
            term: self.u64()?,
            leader: MemberId(self.u64()?),
            committed: self.bool()?,
        })
    }

    fn peers(&mut self) -> Option<Peers> {
        let count = usize::from(self.u8()?);
        if count > PEERS_MAX {
            return None;
        }
        (0..count)
            .map(|_| {
                Some(PeerMemory {
                    member: MemberId(self.u64()?),
                    term: self.u64()?,
                    leader: MemberId(self.u64()?),
                    acknowledged: self.u64()?,
                })
            })
            .collect()
    }

    /// The next record, or `None` if the bytes are not one.
    pub(super) fn record(&mut self) -> Option<Record> {
        Some(match self.u8()? {
            ENTRY => {
                let position = self.position()?;
                let kind = self.u8()?;
                let bytes = self.bytes()?;
                let payload = match kind {
                    BLANK if bytes.is_empty() => Payload::Blank,
                    PROPOSALS => Payload::Proposals(Proposals::encoded(bytes)),
                    MEMBERSHIP => Payload::Membership(bytes),
                    _ => return None,
                };
                Record::Entry(Entry { position, payload })
            }
            VOTE => Record::Vote(self.vote()?),
            COMMITTED => Record::Committed(self.position()?),
            TRUNCATE => Record::Truncate(self.optional_position()?),
            PURGE => Record::Purge(self.position()?),
            SEALED => Record::Sealed,
            PEERS => Record::Peers(self.peers()?),
            _ => return None,
        })
    }

    /// Whether all was read.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Why bytes of the log cannot be read.
#[derive(Debug)]
pub(super) enum Unreadable {
    /// A newer version wrote them.
    Newer(UnknownFormat),
    /// They are not what was written.
    Wrong(&'static str),
}

impl From<UnknownFormat> for Unreadable {
    fn from(unknown: UnknownFormat) -> Self {
        Self::Newer(unknown)
    }
}

impl From<&'static str> for Unreadable {
    fn from(why: &'static str) -> Self {
        Self::Wrong(why)
    }
}

const MAGIC: &[u8; 8] = b"COORDWAL";

/// The first frame of a segment: its log's identity, and the state of the stream before it, so that older segments
/// are not needed to understand it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) cluster: ClusterId,
    pub(super) member: MemberId,
    /// Grows by one a segment, never used twice in a log.
    pub(super) generation: u64,
    /// How long the file is.
    pub(super) blocks: u32,
    /// Chain value of the last frame of the segment before.
    pub(super) previous_chain: u32,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogPosition>,
    pub(super) purged: Option<LogPosition>,
    /// The last entry before this segment.
    pub(super) last: Option<LogPosition>,
    pub(super) peers: Peers,
}

impl Header {
    /// Writes it for a cluster at this level.
    pub(super) fn encode(&self, level: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&u32::from(Format::Segment.at(level)).to_le_bytes());
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.extend_from_slice(&self.member.0.to_le_bytes());
        out.extend_from_slice(&self.generation.to_le_bytes());
        out.extend_from_slice(&self.blocks.to_le_bytes());
        out.extend_from_slice(&self.previous_chain.to_le_bytes());
        out.push(u8::from(self.vote.is_some()));
        if let Some(vote) = self.vote {
            put_vote(out, vote);
        }
        put_optional_position(out, self.committed);
        put_optional_position(out, self.purged);
        put_optional_position(out, self.last);
        put_peers(out, &self.peers);
    }

    pub(super) fn decode(bytes: Bytes) -> Result<Self, Unreadable> {
        let mut cursor = Cursor(bytes);
        if cursor.take(8).as_deref() != Some(MAGIC) {
            return Err("it is not a log segment".into());
        }
        Format::Segment.check(cursor.u32().ok_or("its header is too short")?)?;
        let mut read = || {
            Some(Self {
                cluster: ClusterId(cursor.u64()?),
                member: MemberId(cursor.u64()?),
                generation: cursor.u64()?,
                blocks: cursor.u32()?,
                previous_chain: cursor.u32()?,
                vote: match cursor.bool()? {
                    true => Some(cursor.vote()?),
                    false => None,
                },
                committed: cursor.optional_position()?,
                purged: cursor.optional_position()?,
                last: cursor.optional_position()?,
                peers: cursor.peers()?,
            })
        };
        let header = read().ok_or("its header is too short")?;
        if cursor.is_empty() {
            Ok(header)
        } else {
            Err("its header is too long".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::level::FIRST_LEVEL;

    proptest! {
        /// With checksums that fit, as any writer of the file can make them.
        #[test]
        fn a_record_that_decodes_has_no_other_bytes(kind in 0u8..9, mut bytes: Vec<u8>) {
            bytes.insert(0, kind);
            let mut cursor = Cursor(Bytes::from(bytes.clone()));
            if let Some(record) = cursor.record() {
                let read = bytes.len() - cursor.0.len();
                let mut again = Vec::new();
                record.encode(&mut again);
                prop_assert_eq!(&again, &bytes[..read]);
            }
        }

        #[test]
        fn a_header_that_decodes_has_no_other_bytes(bytes in prop::collection::vec(0u8..3, 34..150)) {
            let format = u32::from(Format::Segment.at(FIRST_LEVEL)).to_le_bytes();
            let bytes = [MAGIC, format.as_slice(), &bytes].concat();
            if let Ok(header) = Header::decode(Bytes::from(bytes.clone())) {
                let mut again = Vec::new();
                header.encode(FIRST_LEVEL, &mut again);
                prop_assert_eq!(again, bytes);
            }
        }
    }
}
