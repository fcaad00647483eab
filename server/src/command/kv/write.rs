//! Puts and deletes.

use bytes::Bytes;

use super::Keys;
use crate::command::LeaseId;
use crate::command::codec::wire::{Reader, Sink};
use crate::command::codec::{Canonical, CodecError, unknown};

/// The effect of a put on the value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutValue {
    /// Stores this.
    Set(Bytes),
    /// Keeps what is there; refused if the key is missing.
    Keep,
}

/// The effect of a put on the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutLease {
    /// Attaches to this lease, or detaches.
    Set(Option<LeaseId>),
    /// Keeps what is there; refused if the key is missing.
    Keep,
}

/// Stores one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    /// The key, 1 byte to 32 KiB.
    pub key: Bytes,
    /// New value.
    pub value: PutValue,
    /// New lease.
    pub lease: PutLease,
    /// Whether to answer the replaced pair.
    pub prev_kv: bool,
}

/// Removes keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    /// The keys to remove.
    pub keys: Keys,
    /// Whether to answer the removed pairs.
    pub prev_kv: bool,
}

impl Canonical for Put {
    fn write(&self, out: &mut impl Sink) {
        let Self {
            key,
            value,
            lease,
            prev_kv,
        } = self;
        out.bytes(key);
        match value {
            PutValue::Set(value) => {
                out.u8(1);
                out.bytes(value);
            }
            PutValue::Keep => out.u8(2),
        }
        match lease {
            PutLease::Set(None) => out.u8(1),
            PutLease::Set(Some(id)) => {
                out.u8(2);
                out.i64(id.0);
            }
            PutLease::Keep => out.u8(3),
        }
        out.bool(*prev_kv);
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let key = input.bytes()?;
        let at = input.at();
        let value = match input.u8()? {
            1 => PutValue::Set(input.bytes()?),
            2 => PutValue::Keep,
            tag => return Err(unknown("put value", tag, at)),
        };
        let at = input.at();
        let lease = match input.u8()? {
            1 => PutLease::Set(None),
            2 => PutLease::Set(Some(LeaseId(input.i64()?))),
            3 => PutLease::Keep,
            tag => return Err(unknown("put lease", tag, at)),
        };
        Ok(Self {
            key,
            value,
            lease,
            prev_kv: input.bool()?,
        })
    }
}

impl Canonical for DeleteRange {
    fn write(&self, out: &mut impl Sink) {
        let Self { keys, prev_kv } = self;
        keys.write(out);
        out.bool(*prev_kv);
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        Ok(Self {
            keys: Keys::read(input)?,
            prev_kv: input.bool()?,
        })
    }
}
