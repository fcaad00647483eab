//! The bytes of a snapshot: a header, chunks of rows, a footer, each with a checksum that covers all before it.

use bytes::Bytes;

use crate::command::Fault;
use crate::command::codec::CodecError;
use crate::command::codec::wire::{Reader, Writer};
use crate::command::format::Format;
use crate::disk::Space;
use crate::state::spaces;

const MAGIC: &[u8; 4] = b"CSNP";

const SNAPSHOT: &str = "a snapshot from a peer";

const HEADER: u8 = 1;
const ROWS: u8 = 2;
const FOOTER: u8 = 3;

/// One row of the state.
pub(super) type Row = (Bytes, Bytes);

/// The content of one chunk.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// The first: which law the rows were written under.
    Header { feature_level: u32 },
    /// Rows of one space, keys ascending within the stream.
    Rows { space: Space, rows: Vec<Row> },
    /// The last: how many rows there were.
    Footer { rows: u64 },
}

/// The chunks of one snapshot so far: the level that the header says, and the checksum. A chunk that is missing, repeated
/// or out of place does not fit it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain {
    level: u32,
    sum: u32,
}

impl Chain {
    pub(super) fn encode(&mut self, chunk: &Chunk) -> Bytes {
        let mut out = Writer::with_capacity(512);
        match chunk {
            Chunk::Header { feature_level } => {
                self.level = *feature_level;
                out.u8(HEADER);
                out.raw(MAGIC);
                out.u8(Format::Snapshot.at(*feature_level));
                out.u64(u64::from(*feature_level));
            }
            Chunk::Rows { space, rows } => {
                out.u8(ROWS);
                out.u8(spaces::tag(*space, self.level));
                out.u64(rows.len() as u64);
                for (key, value) in rows {
                    out.bytes(key);
                    out.bytes(value);
                }
            }
            Chunk::Footer { rows } => {
                out.u8(FOOTER);
                out.u64(*rows);
            }
        }
        let body = out.finish();
        let sum = self.add(&body);
        let mut framed = Vec::with_capacity(body.len() + 4);
        framed.extend_from_slice(&body);
        framed.extend_from_slice(&sum.to_be_bytes());
        Bytes::from(framed)
    }

    pub(super) fn decode(&mut self, framed: &Bytes) -> Result<Chunk, Fault> {
        let Some((body, sum)) = framed.split_last_chunk::<4>() else {
            return Err(damaged("a chunk is cut short"));
        };
        if self.add(body) != u32::from_be_bytes(*sum) {
            return Err(damaged("a chunk's checksum does not fit"));
        }
        let body = framed.slice(..body.len());
        let chunk = read(body, self.level).map_err(|error| match error {
            CodecError::Format(unknown) => Fault::Newer {
                place: SNAPSHOT.to_owned(),
                unknown,
            },
            error => damaged(&error.to_string()),
        })?;
        if let Chunk::Header { feature_level } = chunk {
            self.level = feature_level;
        }
        Ok(chunk)
    }

    /// The bytes of a chunk with the checksum that would fit next, as a peer could send them on purpose.
    #[cfg(test)]
    pub(super) fn framed(&self, body: &[u8]) -> Bytes {
        let sum = { *self }.add(body);
        Bytes::from([body, &sum.to_be_bytes()].concat())
    }

    fn add(&mut self, body: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.sum);
        hasher.update(body);
        self.sum = hasher.finalize();
        self.sum
    }
}

/// Reads a chunk of a snapshot whose header says this level.
fn read(body: Bytes, level: u32) -> Result<Chunk, CodecError> {
    let mut input = Reader::new(body);
    let chunk = match input.u8()? {
        HEADER => {
            if input.raw(MAGIC.len())?.as_ref() != MAGIC {
                return Err(CodecError::Magic);
            }
            Format::Snapshot.check(input.u8()?)?;
            Chunk::Header {
                feature_level: input.u32("feature level")?,
            }
        }
        ROWS => {
            let at = input.at();
            let tag = input.u8()?;
            let space = spaces::tagged(tag, level).ok_or(CodecError::Unknown {
                what: "space",
                tag,
                at,
            })?;
            let count = input.count(2)?;
            let mut rows = Vec::with_capacity(count.min(4096));
            for _ in 0..count {
                rows.push((input.bytes()?, input.bytes()?));
            }
            Chunk::Rows { space, rows }
        }
        FOOTER => Chunk::Footer { rows: input.u64()? },
        tag => {
            return Err(CodecError::Unknown {
                what: "chunk",
                tag,
                at: 0,
            });
        }
    };
    input.end()?;
    Ok(chunk)
}

pub(super) fn damaged(why: &str) -> Fault {
    Fault::Corrupt {
        what: SNAPSHOT.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::level::FIRST_LEVEL;
    use crate::mvcc::CURRENT;

    /// Within a snapshot of the first level, with no checksum yet.
    fn chain() -> Chain {
        Chain {
            level: FIRST_LEVEL,
            sum: 0,
        }
    }

    #[test]
    fn a_newer_snapshot_is_refused_by_its_format() {
        let mut bytes = Chain::default().encode(&Chunk::Header {
            feature_level: FIRST_LEVEL,
        });
        let mut body = bytes.split_to(bytes.len() - 4).to_vec();
        body[1 + MAGIC.len()] += 1;
        let error = Chain::default()
            .decode(&Chain::default().framed(&body))
            .unwrap_err();
        let says = "a snapshot from a peer: the snapshot is of format 2, this version knows 1";
        assert!(error.to_string().starts_with(says), "{error}");
    }

    #[test]
    fn rows_of_a_space_above_the_level_are_refused() {
        let rows = Chunk::Rows {
            space: CURRENT,
            rows: Vec::new(),
        };
        let framed = chain().encode(&rows);
        assert_eq!(chain().decode(&framed).unwrap(), rows);
        let below = Chain {
            level: FIRST_LEVEL - 1,
            sum: 0,
        };
        let error = { below }.decode(&framed).unwrap_err();
        assert!(error.to_string().contains("unknown space 2"), "{error}");
    }

    proptest! {
        #[test]
        fn a_chunk_that_decodes_has_no_other_bytes(kind in 1u8..4, bytes: Vec<u8>) {
            let begin: &[u8] = match kind {
                HEADER => b"\x01CSNP\x01",
                ROWS => b"\x02\x01\x02",
                _ => b"\x03",
            };
            let framed = Chain::default().framed(&[begin, bytes.as_slice()].concat());
            if let Ok(chunk) = chain().decode(&framed) {
                prop_assert_eq!(chain().encode(&chunk), framed);
            }
        }

        #[test]
        fn any_chunk_is_refused_without_panic(bytes: Vec<u8>) {
            let _ = chain().decode(&Chain::default().framed(&bytes));
        }
    }

    #[test]
    fn a_count_of_rows_beyond_the_bytes_is_refused() {
        let mut out = Writer::with_capacity(16);
        out.u8(ROWS);
        out.u8(spaces::tag(CURRENT, FIRST_LEVEL));
        out.u64(u64::MAX);
        let error = chain().decode(&Chain::default().framed(&out.finish()));
        assert!(error.is_err());
    }
}
