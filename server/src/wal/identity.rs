//! The identity of a log: of which cluster, member and data directory it is. A small file of its own, beside the segments that
//! repeat the ids in their headers.

use std::path::Path;

use bytes::Bytes;

use super::record::{Cursor, Unreadable};
use crate::command::format::Format;
use crate::command::{ClusterId, Incarnation, MemberId};

/// The owner of a data directory. Written once, never changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Identity of the cluster.
    pub cluster: ClusterId,
    /// Identity of the member.
    pub member: MemberId,
    /// Drawn when the directory was made.
    pub incarnation: Incarnation,
    /// The cluster token it was made with.
    pub token: String,
    /// `--coord-owner` when it was made; empty if there was none.
    pub owner: String,
}

/// Name of the file.
pub(super) const FILE: &str = "identity";
const MAGIC: &[u8; 8] = b"COORDWHO";

#[cfg(test)]
impl Identity {
    /// The first directory of a test's member.
    pub(crate) fn of_test(cluster: u64, member: u64) -> Self {
        Self {
            cluster: ClusterId(cluster),
            member: MemberId(member),
            incarnation: Incarnation(1),
            token: String::new(),
            owner: String::new(),
        }
    }
}

impl Identity {
    /// Writes it for a cluster at this level.
    pub(super) fn encode(&self, level: u32) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&u32::from(Format::Identity.at(level)).to_le_bytes());
        out.extend_from_slice(&self.cluster.0.to_le_bytes());
        out.extend_from_slice(&self.member.0.to_le_bytes());
        out.extend_from_slice(&self.incarnation.0.to_le_bytes());
        for word in [&self.token, &self.owner] {
            let length = u32::try_from(word.len()).expect("a short word");
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(word.as_bytes());
        }
        let sum = crc32fast::hash(&out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: Vec<u8>) -> Result<Self, Unreadable> {
        let Some((body, sum)) = bytes.split_last_chunk::<4>() else {
            return Err("it is too short".into());
        };
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err("its checksum does not match".into());
        }
        let Some(body) = body.strip_prefix(MAGIC) else {
            return Err("it is not an identity file".into());
        };
        let mut cursor = Cursor(Bytes::copy_from_slice(body));
        Format::Identity.check(cursor.u32().ok_or("it is too short")?)?;
        let mut read = || {
            Some(Self {
                cluster: ClusterId(cursor.u64()?),
                member: MemberId(cursor.u64()?),
                incarnation: Incarnation(cursor.u64()?),
                token: word(&mut cursor)?,
                owner: word(&mut cursor)?,
            })
        };
        let identity = read().ok_or("it is too short")?;
        if cursor.is_empty() {
            Ok(identity)
        } else {
            Err("it is too long".into())
        }
    }
}

fn word(cursor: &mut Cursor) -> Option<String> {
    String::from_utf8(cursor.bytes()?.to_vec()).ok()
}

/// The identity of the log in this folder, without opening it; `None` if there is none, or none that can be read.
pub fn identity_at(folder: &Path) -> Option<Identity> {
    Identity::decode(std::fs::read(folder.join(FILE)).ok()?).ok()
}
