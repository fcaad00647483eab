//! The keys that an operation is about.

use bytes::Bytes;

use crate::command::codec::wire::{Reader, Sink};
use crate::command::codec::{Canonical, CodecError, unknown};

/// The keys that an operation is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// Exactly one.
    One(Bytes),
    /// `[start, end)`, to the end of the key space if `end` is `None`. Empty if `end <= start`.
    Range {
        /// First key.
        start: Bytes,
        /// First key not meant.
        end: Option<Bytes>,
    },
}

impl Keys {
    /// Whether `key` is among them.
    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Self::One(one) => one == key,
            Self::Range { start, end } => {
                key >= start.as_ref() && end.as_ref().is_none_or(|end| key < end.as_ref())
            }
        }
    }

    /// Whether some key could be among both.
    pub fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::One(key), keys) | (keys, Self::One(key)) => keys.contains(key),
            (
                Self::Range { start, end },
                Self::Range {
                    start: other_start,
                    end: other_end,
                },
            ) => {
                let is_before = |end: &Option<Bytes>, start: &Bytes| {
                    end.as_ref().is_some_and(|end| end <= start)
                };
                !is_before(end, other_start) && !is_before(other_end, start)
            }
        }
    }
}

impl Canonical for Keys {
    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::One(key) => {
                out.u8(1);
                out.bytes(key);
            }
            Self::Range {
                start,
                end: Some(end),
            } => {
                out.u8(2);
                out.bytes(start);
                out.bytes(end);
            }
            Self::Range { start, end: None } => {
                out.u8(3);
                out.bytes(start);
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let at = input.at();
        Ok(match input.u8()? {
            1 => Self::One(input.bytes()?),
            2 => Self::Range {
                start: input.bytes()?,
                end: Some(input.bytes()?),
            },
            3 => Self::Range {
                start: input.bytes()?,
                end: None,
            },
            tag => return Err(unknown("keys", tag, at)),
        })
    }
}
