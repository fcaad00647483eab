//! The feature levels, and the formats in which bytes are written while a cluster is at one.
//!
//! The one place with numbers of formats. An encoder is told the cluster's level and asks [`Format::at`]; a decoder asks
//! [`Format::check`], which refuses by name what a later version wrote. A new format is one more line here, under the level
//! from which every member reads it; lines that are there never change (`docs/decisions/0016-formats-and-levels.md`).

use thiserror::Error;

/// The newest level that this version knows: what it can apply and read.
pub const FEATURE_LEVEL: u32 = 1;
/// The level of a cluster that was never raised: all of the first release.
pub const FIRST_LEVEL: u32 = 1;

/// The kinds of bytes that say their format themselves, on disk or between members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A log entry of proposals.
    Envelope,
    /// The members of Raft: in log entries, in the state store and at the head of a snapshot.
    Membership,
    /// A segment of the log: its header, and which records may stand in it.
    Segment,
    /// The file that says whose log it is.
    Identity,
    /// A state store's own rows and the form of all keys. The rows of the state follow the level that the store holds.
    Store,
    /// A snapshot between members: its chunks. The rows in it follow the level of its header.
    Snapshot,
    /// The messages of members' countdowns to each other.
    Countdown,
}

/// Bytes in a format that this version does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the {what} is of format {found}, this version knows {newest}: a newer version wrote it", what = .format.what())]
pub struct UnknownFormat {
    /// Their kind.
    pub format: Format,
    /// Its number.
    pub found: u32,
    /// The newest number that is known.
    pub newest: u8,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Envelope,
        Self::Membership,
        Self::Segment,
        Self::Identity,
        Self::Store,
        Self::Snapshot,
        Self::Countdown,
    ];

    /// From which level on which number is written, ascending. Lower numbers were never released.
    const fn numbers(self) -> &'static [(u32, u8)] {
        match self {
            Self::Envelope | Self::Membership | Self::Segment | Self::Identity => {
                &[(FIRST_LEVEL, 2)]
            }
            Self::Store => &[(FIRST_LEVEL, 3)],
            Self::Snapshot | Self::Countdown => &[(FIRST_LEVEL, 1)],
        }
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Envelope => "log entry",
            Self::Membership => "membership",
            Self::Segment => "log segment",
            Self::Identity => "identity file",
            Self::Store => "state store",
            Self::Snapshot => "snapshot",
            Self::Countdown => "countdown's message",
        }
    }

    /// The number that is written while the cluster is at `level`.
    pub fn at(self, level: u32) -> u8 {
        let numbers = self.numbers();
        let written = numbers.iter().rev().find(|(from, _)| *from <= level);
        written.unwrap_or(&numbers[0]).1
    }

    /// The number, if this version reads it.
    pub fn check(self, found: impl Into<u32>) -> Result<u8, UnknownFormat> {
        let found = found.into();
        let numbers = self.numbers();
        let known = numbers.iter().map(|(_, number)| *number);
        known
            .clone()
            .find(|number| u32::from(*number) == found)
            .ok_or_else(|| UnknownFormat {
                format: self,
                found,
                newest: known.max().unwrap_or(0),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_format_is_that_of_the_newest_level_that_is_reached() {
        for format in Format::ALL {
            let numbers = format.numbers();
            assert!(
                numbers.is_sorted_by(|one, next| one.0 < next.0 && one.1 < next.1),
                "{format:?}: they are looked up from the end"
            );
            assert_eq!(numbers[0].0, FIRST_LEVEL, "{format:?}");
            for (from, number) in numbers {
                assert!(*from <= FEATURE_LEVEL, "{format:?}");
                assert_eq!(format.at(*from), *number, "{format:?}");
            }
            // A level of a later version: this one writes what it knows, if it is asked at all.
            assert_eq!(format.at(u32::MAX), numbers[numbers.len() - 1].1);
        }
    }

    #[test]
    fn a_format_is_read_if_a_level_that_is_known_writes_it() {
        for format in Format::ALL {
            for level in FIRST_LEVEL..=FEATURE_LEVEL {
                let number = format.at(level);
                assert_eq!(format.check(number), Ok(number));
            }
            let next = format.at(FEATURE_LEVEL) + 1;
            let unknown = format.check(next).unwrap_err().to_string();
            let named = format!("the {} is of format {next}", format.what());
            assert!(unknown.starts_with(&named), "{unknown}");
        }
    }
}
