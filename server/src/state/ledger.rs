//! The state's own small rows: where it stands in the log, its revision and floor, and the quota's accounts.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::running_hash::RunningHash;
use super::spaces::SYSTEM;
use crate::command::codec::CodecError;
use crate::command::codec::wire::{Reader, Writer};
use crate::command::{Fault, LogPosition, MemberId, Revision, UnixMillis};
use crate::disk::{Rows, Scan};

/// First byte of the keys of [`SYSTEM`]. Never used again for something else.
pub(super) mod tag {
    pub(in crate::state) const ATTACHED: u8 = b'A';
    pub(in crate::state) const ALARM: u8 = b'E';
    pub(in crate::state) const LEVEL: u8 = b'F';
    pub(in crate::state) const TRASH: u8 = b'G';
    pub(in crate::state) const LEASE: u8 = b'L';
    pub(in crate::state) const MEMBER: u8 = b'M';
    pub(in crate::state) const MEMBERSHIP: u8 = b'R';
    pub(in crate::state) const ROLE: u8 = b'P';
    pub(in crate::state) const AUTH: u8 = b'Q';
    pub(in crate::state) const LEDGER: u8 = b'S';
    pub(in crate::state) const USER: u8 = b'U';
}

/// Bytes that the quota counts for a version beyond key and value.
pub(super) const VERSION_BYTES: u64 = 64;
/// Bytes at which a bucket of superseded versions is closed ..
const BUCKET_BYTES: u64 = 64 << 10;
/// .. or revisions: a compaction in the middle of a bucket leaves it counted.
const BUCKET_REVISIONS: u64 = 1024;

/// Where the state stands. One row, written with every entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ledger {
    pub(super) applied: Option<LogPosition>,
    /// 0 before the next entry has begun; then 1 more than the proposals of it that are applied already.
    pub(super) ahead: u64,
    pub(super) revision: Revision,
    pub(super) floor: Option<Revision>,
    pub(super) leader_time: UnixMillis,
    pub(super) logical_bytes: u64,
    /// Over all that was applied, up to the last whole entry.
    pub(super) hash: RunningHash,
    /// Once the next entry has begun: as [`hash`](Self::hash), with what of it is applied.
    pub(super) hash_ahead: RunningHash,
}

impl Ledger {
    pub(super) fn load(rows: &Rows<'_>) -> Result<Self, Fault> {
        match rows.get(SYSTEM, &[tag::LEDGER])? {
            Some(row) => Self::decode(row).map_err(|error| damaged("ledger", &error)),
            None => Ok(Self {
                applied: None,
                ahead: 0,
                revision: Revision(1),
                floor: None,
                leader_time: UnixMillis(0),
                logical_bytes: 0,
                hash: RunningHash::default(),
                hash_ahead: RunningHash::default(),
            }),
        }
    }

    pub(super) fn store(&self, rows: &mut Rows<'_>) {
        rows.put(SYSTEM, Bytes::from_static(&[tag::LEDGER]), self.encode());
    }

    /// The part of it that the running hash covers: revision, floor, leader time, logical bytes.
    pub(super) fn hashed(&self) -> [u64; 4] {
        let Self {
            applied: _,
            ahead: _,
            revision,
            floor,
            leader_time,
            logical_bytes,
            hash: _,
            hash_ahead: _,
        } = self;
        let floor = floor.map_or(0, |floor| floor.0);
        [revision.0, floor, leader_time.0, *logical_bytes]
    }

    pub(super) fn encode(&self) -> Bytes {
        let Self {
            applied,
            ahead,
            revision,
            floor,
            leader_time,
            logical_bytes,
            hash,
            hash_ahead,
        } = self;
        let mut out = Writer::with_capacity(80);
        write_position(&mut out, *applied);
        out.u64(*ahead);
        out.u64(revision.0);
        out.bool(floor.is_some());
        out.u64(floor.unwrap_or_default().0);
        out.u64(leader_time.0);
        out.u64(*logical_bytes);
        out.u64(hash.0);
        if *ahead > 0 {
            out.u64(hash_ahead.0);
        }
        out.finish()
    }

    pub(super) fn decode(row: Bytes) -> Result<Self, CodecError> {
        let mut input = Reader::new(row);
        let applied = read_position(&mut input)?;
        let ahead = input.u64()?;
        let revision = Revision(input.u64()?);
        let has_floor = input.bool()?;
        let floor = Revision(input.u64()?);
        let ledger = Self {
            applied,
            ahead,
            revision,
            floor: has_floor.then_some(floor),
            leader_time: UnixMillis(input.u64()?),
            logical_bytes: input.u64()?,
            hash: RunningHash(input.u64()?),
            hash_ahead: match ahead {
                0 => RunningHash::default(),
                _ => RunningHash(input.u64()?),
            },
        };
        input.end()?;
        Ok(ledger)
    }
}

/// Bytes that compaction will free, by the revisions that superseded them. Replicated, because the quota is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Superseded {
    /// Ascending and disjoint; only the newest still grows.
    buckets: VecDeque<Bucket>,
    is_dirty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bucket {
    first: Revision,
    last: Revision,
    bytes: u64,
}

impl Superseded {
    pub(super) fn load(rows: &Rows<'_>) -> Result<Self, Fault> {
        let mut buckets = VecDeque::new();
        each(rows, tag::TRASH, |key, row| {
            let first = u64::from_be_bytes(
                key.try_into()
                    .map_err(|_| CodecError::Truncated { at: 0 })?,
            );
            let mut input = Reader::new(row);
            buckets.push_back(Bucket {
                first: Revision(first),
                last: Revision(input.u64()?),
                bytes: input.u64()?,
            });
            input.end()
        })?;
        Ok(Self {
            buckets,
            is_dirty: false,
        })
    }

    /// Notes `bytes` as superseded at `at`.
    pub(super) fn add(&mut self, at: Revision, bytes: u64) {
        self.is_dirty = true;
        if let Some(newest) = self.buckets.back_mut()
            && (newest.last == at
                || (newest.bytes < BUCKET_BYTES && at.0 - newest.first.0 < BUCKET_REVISIONS))
        {
            newest.last = at;
            newest.bytes += bytes;
            return;
        }
        self.buckets.push_back(Bucket {
            first: at,
            last: at,
            bytes,
        });
    }

    /// Writes the bucket that grew, if one did. To be called before another one can begin.
    pub(super) fn store(&mut self, rows: &mut Rows<'_>) {
        if let Some(newest) = self.buckets.back().filter(|_| self.is_dirty) {
            let mut out = Writer::with_capacity(20);
            out.u64(newest.last.0);
            out.u64(newest.bytes);
            rows.put(SYSTEM, bucket_key(newest.first), out.finish());
        }
        self.is_dirty = false;
    }

    /// Forgets what a compaction to `floor` frees; answers its bytes.
    pub(super) fn empty(&mut self, floor: Revision, rows: &mut Rows<'_>) -> u64 {
        let mut freed = 0;
        while let Some(oldest) = self.buckets.front().filter(|oldest| oldest.last <= floor) {
            freed += oldest.bytes;
            rows.delete(SYSTEM, bucket_key(oldest.first));
            self.buckets.pop_front();
        }
        freed
    }
}

fn bucket_key(first: Revision) -> Bytes {
    system_key(tag::TRASH, &first.0.to_be_bytes())
}

/// A key of [`SYSTEM`].
pub(super) fn system_key(tag: u8, rest: &[u8]) -> Bytes {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(tag);
    key.extend_from_slice(rest);
    Bytes::from(key)
}

/// Shows every system row of one tag: its key without the tag, and its bytes.
pub(super) fn each(
    rows: &Rows<'_>,
    tag: u8,
    mut read: impl FnMut(&[u8], Bytes) -> Result<(), CodecError>,
) -> Result<(), Fault> {
    let mut outcome = Ok(());
    rows.scan(SYSTEM, &[tag], Some(&[tag + 1]), &mut |key, row| {
        outcome = read(&key[1..], Bytes::copy_from_slice(row));
        if outcome.is_ok() {
            ControlFlow::Continue(())
        } else {
            ControlFlow::Break(())
        }
    })?;
    outcome.map_err(|error| damaged("a system row", &error))
}

pub(super) fn damaged(what: &str, error: &CodecError) -> Fault {
    Fault::Corrupt {
        what: format!("{what} in the state store"),
        why: error.to_string(),
    }
}

/// The membership's row: its position, then the Raft room's bytes.
pub(super) fn store_membership(rows: &mut Rows<'_>, at: Option<LogPosition>, membership: &Bytes) {
    let mut out = Writer::with_capacity(32 + membership.len());
    write_position(&mut out, at);
    out.raw(membership);
    rows.put(SYSTEM, Bytes::from_static(&[tag::MEMBERSHIP]), out.finish());
}

pub(super) fn load_membership(
    rows: &Rows<'_>,
) -> Result<Option<(Option<LogPosition>, Bytes)>, Fault> {
    let Some(row) = rows.get(SYSTEM, &[tag::MEMBERSHIP])? else {
        return Ok(None);
    };
    let mut input = Reader::new(row);
    let at = read_position(&mut input).map_err(|error| damaged("the membership", &error))?;
    Ok(Some((at, input.rest())))
}

fn write_position(out: &mut Writer, position: Option<LogPosition>) {
    match position {
        None => out.u8(0),
        Some(LogPosition {
            term,
            leader,
            index,
        }) => {
            out.u8(1);
            out.u64(term);
            out.u64(leader.0);
            out.u64(index);
        }
    }
}

fn read_position(input: &mut Reader) -> Result<Option<LogPosition>, CodecError> {
    Ok(match input.bool()? {
        false => None,
        true => Some(LogPosition {
            term: input.u64()?,
            leader: MemberId(input.u64()?),
            index: input.u64()?,
        }),
    })
}
