//! The bytes of versions and of the keys of `past` and `log`; `docs/formats.md` describes them, golden tests pin them.

use bytes::Bytes;

use super::Store;
use crate::command::codec::CodecError;
use crate::command::codec::wire::{Reader, Writer};
use crate::command::{Fault, KeyValue, LeaseId, Revision, Stamp};

/// The longest key of the storage engine, less the byte that the disk room puts before it.
const STORED_KEY_BYTES_MAX: usize = 65_534;
/// Ends the key inside a past key: sorts before every byte a longer key could go on with.
pub(super) const TERMINATOR: [u8; 2] = [0, 1];
/// After an escaped key: behind all its past rows, before those of the next key.
pub(super) const BEHIND_VERSIONS: [u8; 2] = [0, 2];
/// Follows a zero byte that is part of the key.
const ESCAPE: u8 = 0xff;

/// Bytes that the fields before a value hardly ever exceed.
const HEAD_BYTES: usize = 24;

/// Whether every row of `key` can be stored: one zero byte takes two in a past row's key.
pub fn key_fits(key: &[u8]) -> bool {
    escaped_bytes(key) + TERMINATOR.len() + 8 <= STORED_KEY_BYTES_MAX
}

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Revision of the put that created the key.
    pub create: Revision,
    /// Where this version was written.
    pub modified: Stamp,
    /// Puts since creation, from 1.
    pub version: u64,
    /// The lease it is attached to.
    pub lease: Option<LeaseId>,
    /// The row: the fields above, then the value.
    row: Bytes,
    value_at: usize,
}

impl Version {
    /// The version that `store` makes at `at`, after `prev`.
    pub fn new(at: Stamp, store: &Store<'_>, prev: Option<&Self>) -> Self {
        let create = prev.map_or(at.main, |prev| prev.create);
        let version = prev.map_or(1, |prev| prev.version + 1);
        let mut row = Writer::with_capacity(HEAD_BYTES + store.value.len());
        row.u64(create.0);
        row.u64(at.main.0 - create.0);
        row.u64(u64::from(at.sub));
        row.u64(version);
        row.i64(store.lease.map_or(0, |lease| lease.0));
        let value_at = row.written();
        row.raw(store.value);
        Self {
            create,
            modified: at,
            version,
            lease: store.lease,
            value_at,
            row: row.finish(),
        }
    }

    /// Reads a row.
    pub fn decode(row: Bytes) -> Result<Self, Fault> {
        Self::read(row).map_err(|error| Fault::Corrupt {
            what: "a version in the state store".to_owned(),
            why: error.to_string(),
        })
    }

    fn read(row: Bytes) -> Result<Self, CodecError> {
        let mut input = Reader::new(row);
        let create = input.u64()?;
        let main = create.saturating_add(input.u64()?);
        let sub = input.u32("sub")?;
        let version = input.u64()?;
        let lease = input.i64()?;
        let value_at = input.at();
        Ok(Self {
            create: Revision(create),
            modified: Stamp {
                main: Revision(main),
                sub,
            },
            version,
            lease: (lease != 0).then_some(LeaseId(lease)),
            value_at,
            row: input.into_inner(),
        })
    }

    /// The bytes to store.
    pub fn row(&self) -> Bytes {
        self.row.clone()
    }

    /// The value.
    pub fn value(&self) -> Bytes {
        self.row.slice(self.value_at..)
    }

    /// The value's length.
    pub fn value_bytes(&self) -> usize {
        self.row.len() - self.value_at
    }

    /// As clients see it.
    pub fn pair(&self, key: Bytes) -> KeyValue {
        KeyValue {
            key,
            create_revision: self.create,
            mod_revision: self.modified.main,
            version: self.version,
            value: self.value(),
            lease: self.lease,
        }
    }
}

/// Key of the version of `key` that was superseded at `end`.
pub(super) fn past_key(key: &[u8], end: Revision) -> Bytes {
    let mut stored = past_prefix(key);
    stored.extend_from_slice(&TERMINATOR);
    stored.extend_from_slice(&end.0.to_be_bytes());
    Bytes::from(stored)
}

/// A lower bound of the past keys of all keys from `key` on.
pub(super) fn past_prefix(key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(escaped_bytes(key) + TERMINATOR.len() + 8);
    for &byte in key {
        stored.push(byte);
        if byte == 0 {
            stored.push(ESCAPE);
        }
    }
    stored
}

/// The escaped key and the end in a past key.
pub(super) fn cut_past_key(stored: &[u8]) -> Option<(&[u8], Revision)> {
    let (escaped, end) = stored.split_at_checked(stored.len().checked_sub(8)?)?;
    let escaped = escaped.strip_suffix(&TERMINATOR)?;
    Some((escaped, Revision(u64::from_be_bytes(end.try_into().ok()?))))
}

/// The key and the end in a past key.
pub(super) fn split_past_key(stored: &[u8]) -> Option<(Vec<u8>, Revision)> {
    let (escaped, end) = cut_past_key(stored)?;
    let mut key = Vec::with_capacity(escaped.len());
    let mut bytes = escaped.iter();
    while let Some(&byte) = bytes.next() {
        key.push(byte);
        if byte == 0 && bytes.next() != Some(&ESCAPE) {
            return None;
        }
    }
    Some((key, end))
}

/// Key of the log row of a change.
pub(super) fn log_key(at: Stamp) -> Bytes {
    let mut stored = Vec::with_capacity(12);
    stored.extend_from_slice(&at.main.0.to_be_bytes());
    stored.extend_from_slice(&at.sub.to_be_bytes());
    Bytes::from(stored)
}

/// The change whose log row has this key.
pub(super) fn split_log_key(stored: &[u8]) -> Option<Stamp> {
    let (main, sub) = stored.split_first_chunk::<8>()?;
    Some(Stamp {
        main: Revision(u64::from_be_bytes(*main)),
        sub: u32::from_be_bytes(sub.try_into().ok()?),
    })
}

fn escaped_bytes(key: &[u8]) -> usize {
    key.len() + key.iter().filter(|byte| **byte == 0).count()
}
