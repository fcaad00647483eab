//! `HashKV`: etcd's checksum over the keys up to a revision, the same on every member and on an etcd that holds the same.
//!
//! etcd goes through its `key` bucket, which is in the order of revisions; ours is in the order of keys. So each change is
//! summed up by itself, the sums are put in order and joined: 48 bytes of memory for each change, on disk beyond 16 MiB or less.
//! Source: etcd `server/storage/mvcc/hash.go`.

use std::io;

use super::backend::{KEY_BUCKET, bucket_key, bucket_value, from_place, place};
use super::crc32c::Crc32c;
use crate::command::Revision;
use crate::coordinator::Stored;
use crate::scratch::{Room, Sorter};

/// A checksum in the making.
pub(super) struct KeysHash {
    floor: Option<Revision>,
    sums: Sorter,
    /// Whether any key stood at the revision: if not, etcd leaves nothing out.
    any_stands: bool,
}

impl KeysHash {
    pub(super) fn new(floor: Option<Revision>, scratch: Room) -> Self {
        Self {
            floor,
            sums: Sorter::new(scratch),
            any_stands: false,
        }
    }

    pub(super) fn add(&mut self, stored: Stored) -> io::Result<()> {
        let place = place(&stored);
        let (at, is_removal) = from_place(place);
        if is_removal && Some(at.main) == self.floor {
            // Some versions of etcd keep these, some do not; none counts them.
            return Ok(());
        }
        let stands = match &stored {
            Stored::Put { stands, .. } => *stands,
            Stored::Removed { .. } => false,
        };
        self.any_stands |= stands;
        let mut sum = Crc32c::of(&bucket_key(at, is_removal));
        let value = bucket_value(stored);
        sum.add(&value);
        let bytes = 17 + usize::from(is_removal) + value.len();
        let bytes = u32::try_from(bytes).map_err(io::Error::other)?;
        let [a, b, c, d] = sum.value().to_be_bytes();
        let [e, f, g, h] = bytes.to_be_bytes();
        self.sums
            .push(place, &[a, b, c, d, e, f, g, h, u8::from(stands)])
    }

    pub(super) fn finish(self) -> io::Result<u32> {
        let mut all = Crc32c::of(KEY_BUCKET.as_bytes());
        let Self {
            floor,
            sums,
            any_stands,
        } = self;
        sums.each(|place, record| {
            let (at, _) = from_place(place);
            let [a, b, c, d, e, f, g, h, stands] = *record else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            // A row that compaction would take if it went on to the revision.
            let is_old = floor.is_some_and(|floor| at.main <= floor);
            if is_old && any_stands && stands == 0 {
                return Ok(());
            }
            let sum = Crc32c::known(u32::from_be_bytes([a, b, c, d]));
            all.append(sum, u32::from_be_bytes([e, f, g, h]));
            Ok(())
        })?;
        Ok(all.value())
    }
}
