//! The asker, carried by every proposal and every query, so that permission is decided where the answer is.

use super::codec::wire::{Reader, Sink};
use super::codec::{Canonical, CodecError, unknown};

/// The asker of a proposal or a query.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// The cluster itself: a leader that ends leases, a member that publishes itself, a health check. May do everything.
    System,
    /// A client that named nobody. May do everything while authentication is off, and nothing else.
    Anonymous,
    /// A user whose word was checked at the door.
    User {
        /// Its name.
        name: String,
        /// The auth revision at which it was checked; a decision at an older one than the state's is checked anew.
        auth_revision: u64,
    },
}

impl Canonical for Principal {
    fn write(&self, out: &mut impl Sink) {
        match self {
            Self::System => out.u8(0),
            Self::Anonymous => out.u8(1),
            Self::User {
                name,
                auth_revision,
            } => {
                out.u8(2);
                out.bytes(name.as_bytes());
                out.u64(*auth_revision);
            }
        }
    }

    fn read(input: &mut Reader) -> Result<Self, CodecError> {
        let at = input.at();
        Ok(match input.u8()? {
            0 => Self::System,
            1 => Self::Anonymous,
            2 => Self::User {
                name: input.text()?,
                auth_revision: input.u64()?,
            },
            tag => return Err(unknown("principal", tag, at)),
        })
    }
}
