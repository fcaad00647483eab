//! Rows of the disk room itself, in every space beside the caller's: the format and the numbers of the batches.
//!
//! fjall keeps one journal for all spaces and writes each space to tables at its own pace. If its journal is damaged it
//! may open with batches missing from the middle, or from some of the spaces only, and say nothing. Each batch leaves
//! its number in every space: a hole is seen. It also marks the number before its own as followed: a change of their
//! order is seen, which none of fjall's checksums covers. Numbers up to the *checkpoint* are in tables everywhere and
//! are not kept.

use std::ops::RangeInclusive;

use crate::command::format::{Format, UnknownFormat};

/// First byte of the room's own keys.
pub(super) const OWN: u8 = 0;
/// First byte of the callers' keys.
pub(super) const ROW: u8 = 1;
/// Key of the format row.
pub(super) const FORMAT_KEY: [u8; 2] = [OWN, b'f'];
/// First bytes of its value; the number of the format follows.
const MAGIC: [u8; 2] = *b"CS";
/// Key of the list of spaces, in the first of them only.
pub(super) const LIST_KEY: [u8; 2] = [OWN, b's'];
/// Key of the mark.
pub(super) const MARK_KEY: [u8; 2] = [OWN, b'm'];
/// First bytes of the batch numbers.
pub(super) const BATCH_PREFIX: [u8; 2] = [OWN, b'b'];
/// The value at the number of the newest batch ..
pub(super) const NEWEST: [u8; 0] = [];
/// .. and at one that the next batch has seen.
pub(super) const FOLLOWED: [u8; 1] = [1];

/// The value of the format row.
pub(super) fn format_row(format: u8) -> [u8; 3] {
    [MAGIC[0], MAGIC[1], format]
}

/// The format that a format row says.
///
/// Errors: it is no such row, or of a format that this version does not know.
pub(super) fn read_format(row: &[u8]) -> Result<u8, BadFormat> {
    match row {
        [magic @ .., format] if magic == MAGIC => {
            Format::Store.check(*format).map_err(BadFormat::Newer)
        }
        _ => Err(BadFormat::None),
    }
}

/// Why a format row cannot be read.
#[derive(Debug)]
pub(super) enum BadFormat {
    /// It is of a newer version.
    Newer(UnknownFormat),
    /// It is no such row.
    None,
}

/// The list of spaces, as it is stored: names, each followed by a zero.
pub(super) fn list(names: &[String]) -> Vec<u8> {
    names
        .iter()
        .flat_map(|name| name.bytes().chain([0]))
        .collect()
}

/// The names of a stored list, at least one; `None` if it is none.
pub(super) fn listed(list: &[u8]) -> Option<Vec<String>> {
    let names = std::str::from_utf8(list).ok()?.strip_suffix('\0')?;
    let names: Vec<String> = names.split('\0').map(str::to_owned).collect();
    (!names.iter().any(String::is_empty)).then_some(names)
}

/// The batches that a space has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The newest.
    pub(super) last: u64,
    /// Up to here every space has its rows in tables.
    pub(super) checkpoint: u64,
}

impl Mark {
    pub(super) fn encode(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.last.to_be_bytes());
        bytes[8..].copy_from_slice(&self.checkpoint.to_be_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            last: u64::from_be_bytes(bytes.get(..8)?.try_into().ok()?),
            checkpoint: u64::from_be_bytes(bytes.get(8..)?.try_into().ok()?),
        })
    }

    /// The numbers that must be there.
    pub(super) fn numbers(self) -> RangeInclusive<u64> {
        self.checkpoint + 1..=self.last
    }
}

/// Key of one batch's number.
pub(super) fn batch_key(number: u64) -> [u8; 10] {
    let mut key = [0; 10];
    key[..2].copy_from_slice(&BATCH_PREFIX);
    key[2..].copy_from_slice(&number.to_be_bytes());
    key
}

/// A caller's key, as it is stored.
pub(super) fn row_key(key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(1 + key.len());
    stored.push(ROW);
    stored.extend_from_slice(key);
    stored
}
