//! The canonical bytes of an [`Envelope`]: one value, one encoding.
//!
//! Owns what a log entry looks like on disk and between members; `docs/formats.md` describes it and the golden tests pin
//! it. Whatever is not known exactly is an error: a field that one member skips and another applies splits the
//! replicas. Knows nothing of storage or consensus. Read [`encode_envelope`] first; [`wire`] has the primitives.

mod commands;
#[cfg(test)]
mod tests;
pub mod wire;

use bytes::Bytes;
use thiserror::Error;

pub(crate) use commands::{read_member, write_member};

use super::{Command, Envelope, MemberId, Proposal, UnixMillis};
use crate::planted::{self, Bug};
use wire::{Counter, Reader, Writer};

/// First bytes of every envelope.
const MAGIC: &[u8; 2] = b"CE";
/// The only format there is.
const FORMAT: u8 = 1;

/// Bytes that are not a canonical envelope.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CodecError {
    /// They don't begin as they must.
    #[error("wrong magic")]
    Magic,
    /// A format this version does not know.
    #[error("unknown format {0}")]
    Format(u8),
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
        /// Which.
        what: &'static str,
        /// Where.
        at: usize,
    },
}

/// What an envelope takes at most beside its proposals: magic, format, level, time, count.
pub const ENVELOPE_HEAD_BYTES_MAX: usize = 2 + 1 + 5 + 10 + 10;
/// What a proposal takes at most beside its command: origin, run, sequence.
pub const PROPOSAL_HEAD_BYTES_MAX: usize = 3 * 10;

/// How many bytes `command` takes in an envelope, exactly. This is the size of a command wherever one is asked for: in
/// queues, in batches, against the log's bound. Whatever a client can make longer is in it.
pub fn command_bytes(command: &Command) -> usize {
    let mut counter = Counter::default();
    commands::write_command(&mut counter, command);
    counter.bytes
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
    out.u8(FORMAT);
    out.u64(u64::from(*feature_level));
    out.u64(leader_time.0);
    out.u64(proposals.len() as u64);
    for proposal in proposals {
        let Proposal {
            origin,
            run,
            sequence,
            command,
        } = proposal;
        out.u64(origin.0);
        out.u64(*run);
        out.u64(*sequence);
        commands::write_command(&mut out, command);
    }
    out.finish()
}

/// The envelope that `bytes` are. Keys and values are slices of `bytes`, not copies.
pub fn decode_envelope(bytes: &Bytes) -> Result<Envelope, CodecError> {
    let mut input = Reader::new(bytes.clone());
    if input.raw(MAGIC.len())?.as_ref() != MAGIC {
        return Err(CodecError::Magic);
    }
    let format = input.u8()?;
    if format != FORMAT {
        return Err(CodecError::Format(format));
    }
    let feature_level = input.u32("feature level")?;
    let leader_time = UnixMillis(input.u64()?);
    // Four bytes is the smallest proposal: a claimed count never makes us allocate more than was sent.
    let count = input.count(4)?;
    let mut proposals = Vec::with_capacity(count.min(1024));
    for _ in 0..count {
        proposals.push(Proposal {
            origin: MemberId(input.u64()?),
            run: input.u64()?,
            sequence: input.u64()?,
            command: commands::read_command(&mut input)?,
        });
    }
    input.end()?;
    if planted::has(Bug::ReorderedEnvelope) {
        proposals.reverse();
    }
    Ok(Envelope {
        feature_level,
        leader_time,
        proposals,
    })
}
