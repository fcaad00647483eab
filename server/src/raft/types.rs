//! openraft's types as this room uses them, and how they become ours and back.
//!
//! Nothing openraft can serialise is ever stored or sent: its layouts are no promise. The membership has its own bytes
//! here; everything else goes through `wal` records or `peer` messages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::{EntryPayload, LogId, Membership};

use crate::command::format::Format;
use crate::command::{Fault, LogPosition, MemberId};
use crate::wal;

/// The fields of a member in Raft's membership beside its id and whether it has a vote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Where its peers reach it.
    pub(super) peer_urls: Vec<String>,
    /// Whether it was added as a voter and has no vote yet: it gets one when it has started and caught up.
    pub(super) awaits_vote: bool,
}

impl Place {
    /// Of a member that is what it was added as.
    pub(super) fn at(peer_urls: Vec<String>) -> Self {
        Self {
            peer_urls,
            awaits_vote: false,
        }
    }
}

openraft::declare_raft_types!(
    pub(super) TypeConfig:
        D = wal::Proposals,
        R = (),
        NodeId = u64,
        Node = Place,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub(super) type Log = LogIdOf<TypeConfig>;
pub(super) type Vote = VoteOf<TypeConfig>;
pub(super) type Entry = EntryOf<TypeConfig>;
pub(super) type Members = Membership<u64, Place>;
pub(super) type Stored = StoredMembershipOf<TypeConfig>;
pub(super) type SnapshotMeta = SnapshotMetaOf<TypeConfig>;
type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;

impl fmt::Display for wal::Proposals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of proposals", self.bytes().len())
    }
}

pub(super) fn position(log: &Log) -> LogPosition {
    LogPosition {
        term: log.leader_id.term,
        leader: MemberId(log.leader_id.node_id),
        index: log.index,
    }
}

pub(super) fn log_id(position: LogPosition) -> Log {
    let LogPosition {
        term,
        leader,
        index,
    } = position;
    LogId {
        leader_id: LeaderId {
            term,
            node_id: leader.0,
        },
        index,
    }
}

pub(super) fn vote(vote: wal::Vote) -> Vote {
    let leader_id = LeaderId {
        term: vote.term,
        node_id: vote.leader.0,
    };
    Vote {
        leader_id,
        committed: vote.committed,
    }
}

pub(super) fn wal_vote(vote: &Vote) -> wal::Vote {
    wal::Vote {
        term: vote.leader_id.term,
        leader: MemberId(vote.leader_id.node_id),
        committed: vote.committed,
    }
}

/// The entry as the log and the peers have it, while the cluster is at this level.
pub(super) fn wal_entry(entry: Entry, level: u32) -> wal::Entry {
    let position = position(&entry.log_id());
    let payload = match entry.payload {
        EntryPayload::Blank => wal::Payload::Blank,
        EntryPayload::Normal(proposals) => wal::Payload::Proposals(proposals),
        EntryPayload::Membership(members) => {
            wal::Payload::Membership(encode_members(&members, level))
        }
    };
    wal::Entry { position, payload }
}

pub(super) fn entry(entry: wal::Entry) -> Result<Entry, Fault> {
    let payload = match entry.payload {
        wal::Payload::Blank => EntryPayload::Blank,
        wal::Payload::Proposals(proposals) => EntryPayload::Normal(proposals),
        wal::Payload::Membership(bytes) => {
            let index = entry.position.index;
            let unknown = |why| Fault::UnknownEntry { index, why };
            EntryPayload::Membership(decode_members(&bytes).map_err(unknown)?)
        }
    };
    Ok(Entry::new(log_id(entry.position), payload))
}

pub(super) fn stored((at, bytes): (Option<LogPosition>, Bytes)) -> Result<Stored, Fault> {
    let members = decode_members(&bytes).map_err(|why| Fault::Corrupt {
        what: "the membership in the state store".to_owned(),
        why,
    })?;
    Ok(Stored::new(at.map(log_id), members))
}

/// The canonical bytes of a membership while the cluster is at this level: `format u8`, then the configurations (one, or two during a change), each a
/// count and ids, then the members: count, id, whether it awaits its vote (`u8`, 0 or 1), count of URLs, each a length and
/// text. Numbers are little-endian, counts and lengths `u32`; ids ascend.
pub(super) fn encode_members(members: &Members, level: u32) -> Bytes {
    encode_as(Format::Membership.at(level), members)
}

fn encode_as(format: u8, members: &Members) -> Bytes {
    fn count(out: &mut Vec<u8>, count: usize) {
        let count = u32::try_from(count).expect("memberships are small");
        out.extend_from_slice(&count.to_le_bytes());
    }
    let mut out = vec![format];
    let configs = members.get_joint_config();
    count(&mut out, configs.len());
    for config in configs {
        count(&mut out, config.len());
        for id in config {
            out.extend_from_slice(&id.to_le_bytes());
        }
    }
    count(&mut out, members.nodes().count());
    for (id, place) in members.nodes() {
        let Place {
            peer_urls,
            awaits_vote,
        } = place;
        out.extend_from_slice(&id.to_le_bytes());
        out.push(u8::from(*awaits_vote));
        count(&mut out, peer_urls.len());
        for url in peer_urls {
            count(&mut out, url.len());
            out.extend_from_slice(url.as_bytes());
        }
    }
    Bytes::from(out)
}

/// The membership these bytes mean.
///
/// Errors: their defect, or the format that this version does not know.
pub(super) fn decode_members(all: &[u8]) -> Result<Members, String> {
    let (format, rest) = all.split_first().ok_or("the membership is empty")?;
    let format = Format::Membership
        .check(*format)
        .map_err(|unknown| unknown.to_string())?;
    let members = decode_known(rest)?;
    if encode_as(format, &members).as_ref() != all {
        return Err("the membership is not in its one order, or names something twice".to_owned());
    }
    Ok(members)
}

fn decode_known(mut bytes: &[u8]) -> Result<Members, &'static str> {
    const SHORT: &str = "the membership is too short";
    fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], &'static str> {
        let (part, rest) = bytes.split_at_checked(length).ok_or(SHORT)?;
        *bytes = rest;
        Ok(part)
    }
    fn count(bytes: &mut &[u8]) -> Result<usize, &'static str> {
        let part = take(bytes, 4)?;
        Ok(u32::from_le_bytes(part.try_into().map_err(|_| SHORT)?) as usize)
    }
    fn id(bytes: &mut &[u8]) -> Result<u64, &'static str> {
        let part = take(bytes, 8)?;
        Ok(u64::from_le_bytes(part.try_into().map_err(|_| SHORT)?))
    }
    let mut configs = Vec::new();
    for _ in 0..count(&mut bytes)? {
        let mut config = BTreeSet::new();
        for _ in 0..count(&mut bytes)? {
            config.insert(id(&mut bytes)?);
        }
        configs.push(config);
    }
    let mut nodes = BTreeMap::new();
    for _ in 0..count(&mut bytes)? {
        let member = id(&mut bytes)?;
        let awaits_vote = match take(&mut bytes, 1)? {
            [0] => false,
            [1] => true,
            _ => return Err("a member's mark is unknown"),
        };
        let mut peer_urls = Vec::new();
        for _ in 0..count(&mut bytes)? {
            let length = count(&mut bytes)?;
            let text = std::str::from_utf8(take(&mut bytes, length)?);
            peer_urls.push(text.map_err(|_| "a peer URL is not text")?.to_owned());
        }
        let place = Place {
            peer_urls,
            awaits_vote,
        };
        nodes.insert(member, place);
    }
    if !bytes.is_empty() {
        return Err("the membership is too long");
    }
    Membership::new(configs, nodes).map_err(|_| "the membership contradicts itself")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::command::level::FIRST_LEVEL;

    proptest! {
        #[test]
        fn a_membership_that_decodes_has_no_other_bytes(at: usize, bytes: [u8; 3]) {
            let mut changed = encode_members(&members(), FIRST_LEVEL).to_vec();
            let at = at % changed.len();
            let end = changed.len().min(at + 1 + usize::from(bytes[0] % 2));
            changed[at..end].copy_from_slice(&bytes[1..=end - at]);
            if let Ok(members) = decode_members(&changed) {
                prop_assert_eq!(encode_members(&members, FIRST_LEVEL), changed);
            }
        }

        #[test]
        fn any_bytes_after_the_format_are_no_panic(bytes: Vec<u8>) {
            let format = Format::Membership.at(FIRST_LEVEL);
            let _ = decode_members(&[&[format], bytes.as_slice()].concat());
        }
    }

    fn members() -> Members {
        let urls = |text: &str| Place::at(vec![text.to_owned()]);
        let awaiting = Place {
            awaits_vote: true,
            ..urls("")
        };
        let nodes = BTreeMap::from([
            (1, urls("http://a:1")),
            (2, urls("http://b:2")),
            (9, awaiting),
        ]);
        Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], nodes).unwrap()
    }

    #[test]
    fn a_membership_survives_its_bytes() {
        assert_eq!(
            decode_members(&encode_members(&members(), FIRST_LEVEL)).unwrap(),
            members()
        );
        assert_eq!(
            decode_members(&encode_members(&Members::default(), FIRST_LEVEL)).unwrap(),
            Members::default()
        );
    }

    #[test]
    fn the_bytes_of_a_membership_never_change() {
        let hex: String = encode_members(&members(), FIRST_LEVEL)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "0202000000010000000100000000000000020000000100000000000000020000000000000003000000\
             010000000000000000010000000a000000687474703a2f2f613a31\
             020000000000000000010000000a000000687474703a2f2f623a32\
             0900000000000000010100000000000000"
        );
    }

    #[test]
    fn a_newer_membership_is_refused_by_its_format() {
        let mut bytes = encode_members(&members(), FIRST_LEVEL).to_vec();
        bytes[0] += 1;
        let error = decode_members(&bytes).unwrap_err();
        let says = "the membership is of format 3, this version knows 2";
        assert!(error.starts_with(says), "{error}");
    }

    #[test]
    fn no_prefix_of_a_membership_is_one() {
        let bytes = encode_members(&members(), FIRST_LEVEL);
        for length in 0..bytes.len() {
            assert!(decode_members(&bytes[..length]).is_err(), "{length}");
        }
    }
}
