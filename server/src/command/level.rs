//! The feature level: which law the cluster's entries are written for.

use super::codec::wire::{Reader, Sink};
use super::codec::{Canonical, CodecError, unknown};

/// A change of the feature level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LevelCommand {
    /// Raises the feature level that the cluster's entries are written for; never lowers it. Proposed by a leader that
    /// has seen every member report at least this level.
    Raise {
        /// The level.
        level: u32,
    },
}

impl LevelCommand {
    /// The tags that begin one.
    pub(super) const TAGS: std::ops::RangeInclusive<u8> = 10..=10;
}

impl Canonical for LevelCommand {
    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::Raise { level } => {
                out.u8(10);
                out.u64(u64::from(*level));
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let at = input.at();
        Ok(match input.u8()? {
            10 => Self::Raise {
                level: input.u32("feature level")?,
            },
            tag => return Err(unknown("level command", tag, at)),
        })
    }
}
