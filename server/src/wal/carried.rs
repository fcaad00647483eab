//! The state of the stream so far, which every segment repeats in its header.

use std::io;
use std::sync::Arc;

use super::disk::{Aligned, SegmentFile};
use super::entry::Vote;
use super::record::{Header, Peers, Record};
use super::sector::{self, BLOCK, Place};
use crate::command::{ClusterId, LogPosition, MemberId};

/// The state of the stream so far: the part of it that every segment header repeats.
#[derive(Clone, Debug, Default)]
pub(super) struct Carried {
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogPosition>,
    pub(super) purged: Option<LogPosition>,
    pub(super) last: Option<LogPosition>,
    pub(super) peers: Peers,
}

impl Carried {
    /// Follows the stream by one record.
    pub(super) fn follow(&mut self, record: &Record) {
        match record {
            Record::Entry(entry) => self.last = Some(entry.position),
            Record::Vote(vote) => self.vote = Some(*vote),
            Record::Committed(position) => self.committed = Some(*position),
            Record::Truncate(to) => {
                if self.last.map(|last| last.index) > to.map(|to| to.index) {
                    self.last = *to;
                }
            }
            Record::Purge(to) => {
                if self.purged.is_none_or(|purged| purged.index < to.index) {
                    self.purged = Some(*to);
                }
                if self.last.is_none_or(|last| last.index <= to.index) {
                    self.last = Some(*to);
                }
            }
            Record::Sealed => {}
            Record::Peers(peers) => self.peers = peers.clone(),
        }
    }
}

/// Writes a segment's first frame, for a cluster at this level; returns its chain value.
pub(super) fn write_header(
    file: &Arc<dyn SegmentFile>,
    (cluster, member): (ClusterId, MemberId),
    generation: u64,
    blocks: u32,
    previous_chain: u32,
    carried: &Carried,
    level: u32,
) -> io::Result<u32> {
    let Carried {
        vote,
        committed,
        purged,
        last,
        peers,
    } = carried.clone();
    let header = Header {
        cluster,
        member,
        generation,
        blocks,
        previous_chain,
        vote,
        committed,
        purged,
        last,
        peers,
    };
    let mut content = Vec::new();
    sector::start_frame(&mut content);
    header.encode(level, &mut content);
    let mut buffer = Aligned::default();
    buffer.resize(BLOCK);
    let place = Place {
        generation,
        frame: 0,
        block: 0,
        chain: 0,
    };
    let chain = sector::seal_frame(&mut content, place, buffer.bytes_mut());
    file.write_durably(0, &buffer)?;
    Ok(chain)
}
