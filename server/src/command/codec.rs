//! The canonical bytes of an [`Envelope`]: one value, one encoding.
//!
//! Owns what a log entry looks like on disk and between members; `docs/formats.md` describes it and the golden tests pin
//! it. Each noun writes and reads itself ([`Canonical`]) beside its type. Any byte that is not known exactly is an
//! error: a field that one member skips and another applies splits the replicas. Tags are never used again for
//! something else. Knows nothing of storage or consensus. Read [`encode_envelope`] first; [`wire`] has the primitives.

#[cfg(test)]
mod tests;
pub mod wire;

use bytes::Bytes;
use thiserror::Error;

use super::format::{Format, UnknownFormat};
use super::{Command, Envelope, Principal, Proposal, UnixMillis};
use crate::failpoints::{self, Bug};
use wire::{Counter, Reader, Sink, Writer};

/// First bytes of every envelope.
const MAGIC: &[u8; 2] = b"CE";

/// Bytes that are not a canonical envelope.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// They don't begin as they must.
    #[error("wrong magic")]
    Magic,
    /// A format this version does not know.
    #[error(transparent)]
    Format(#[from] UnknownFormat),
    /// They end too early.
    #[error("cut short at byte {at}")]
    Truncated {
        /// Where.
        at: usize,
    },
    /// There are more than the value needs.
    #[error("{bytes} bytes too many")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// The value has a shorter encoding.
    #[error("not canonical at byte {at}")]
    NotCanonical {
        /// Where.
        at: usize,
    },
    /// A kind this version does not know.
    #[error("unknown {what} {tag} at byte {at}")]
    Unknown {
        /// Kind of what.
        what: &'static str,
        /// The tag found.
        tag: u8,
        /// Where.
        at: usize,
    },
    /// Text that is not UTF-8.
    #[error("text is not UTF-8 at byte {at}")]
    Text {
        /// Where.
        at: usize,
    },
    /// A number out of its range.
    #[error("{what} is out of range at byte {at}")]
    OutOfRange {
        /// The field.
        what: &'static str,
        /// Where.
        at: usize,
    },
}

/// A value with one encoding, which it writes and reads itself.
pub trait Canonical: Sized {
    /// Writes it.
    fn write(&self, out: &mut impl Sink);

    /// Reads one.
    ///
    /// Errors: any byte that differs from those of [`write`](Self::write).
    fn read(input: &mut Reader) -> Result<Self, CodecError>;

    /// How many bytes it takes, exactly.
    fn encoded_bytes(&self) -> usize {
        let mut counter = Counter::default();
        self.write(&mut counter);
        counter.bytes
    }
}

/// Bytes of an envelope beside its proposals, at most: magic, format, level, time, count.
pub const ENVELOPE_HEAD_BYTES_MAX: usize = 2 + 1 + 5 + 10 + 10;
/// Bytes of a proposal beside principal and command, at most: origin, run, sequence.
const PROPOSAL_HEAD_BYTES_MAX: usize = 3 * 10;

/// The most that a command takes in an envelope, whoever proposes it. This is its size wherever one is asked for: in
/// queues, in batches, against the quota and the log's bound. It covers everything that a client can make longer.
pub fn proposal_bytes(principal: &Principal, command: &Command) -> usize {
    PROPOSAL_HEAD_BYTES_MAX + principal.encoded_bytes() + command.encoded_bytes()
}

/// The bytes of `envelope`.
pub fn encode_envelope(envelope: &Envelope) -> Bytes {
    let Envelope {
        feature_level,
        leader_time,
        proposals,
    } = envelope;
    let mut out = Writer::with_capacity(64 + 512 * proposals.len());
    out.raw(MAGIC);
    out.u8(Format::Envelope.at(*feature_level));
    out.u64(u64::from(*feature_level));
    out.u64(leader_time.0);
    out.u64(proposals.len() as u64);
    for proposal in proposals {
        proposal.write(&mut out);
    }
    out.finish()
}

/// The envelope that `bytes` are. Keys and values are slices of `bytes`, not copies.
pub fn decode_envelope(bytes: &Bytes) -> Result<Envelope, CodecError> {
    let mut input = Reader::new(bytes.clone());
    if input.raw(MAGIC.len())?.as_ref() != MAGIC {
        return Err(CodecError::Magic);
    }
    Format::Envelope.check(input.u8()?)?;
    let feature_level = input.u32("feature level")?;
    let leader_time = UnixMillis(input.u64()?);
    // Six bytes is the smallest proposal: a claimed count never makes us allocate more than was sent.
    let mut proposals = read_list(&mut input, 6, Proposal::read)?;
    input.end()?;
    if failpoints::has(Bug::ReorderedEnvelope) {
        proposals.reverse();
    }
    Ok(Envelope {
        feature_level,
        leader_time,
        proposals,
    })
}

pub(super) fn write_optional(out: &mut impl Sink, value: Option<u64>) {
    match value {
        None => out.u8(0),
        Some(value) => {
            out.u8(1);
            out.u64(value);
        }
    }
}

pub(super) fn read_optional(input: &mut Reader) -> Result<Option<u64>, CodecError> {
    Ok(match input.bool()? {
        false => None,
        true => Some(input.u64()?),
    })
}

/// Writes how many there are, then each.
pub(crate) fn write_list<T, S: Sink>(out: &mut S, list: &[T], mut write: impl FnMut(&T, &mut S)) {
    out.u64(list.len() as u64);
    for item in list {
        write(item, out);
    }
}

/// Reads what [`write_list`] wrote; each item takes at least `bytes_min` bytes.
pub(crate) fn read_list<T>(
    input: &mut Reader,
    bytes_min: usize,
    mut read: impl FnMut(&mut Reader) -> Result<T, CodecError>,
) -> Result<Vec<T>, CodecError> {
    let count = input.count(bytes_min)?;
    let mut list = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        list.push(read(input)?);
    }
    Ok(list)
}

pub(crate) fn unknown(what: &'static str, tag: u8, at: usize) -> CodecError {
    CodecError::Unknown { what, tag, at }
}
