//! The sending end.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use bytes::Bytes;

use super::Pin;
use super::container::{Chain, Chunk, Row};
use crate::command::{Fault, Keys, LogPosition, Revision};
use crate::disk::Scan;
use crate::failpoints::{self, Bug};
use crate::mvcc::{self, AsOf, RowSpan};
use crate::state::State;
use crate::state::ahead::Naming;
use crate::state::ledger::tag;
use crate::state::spaces::SYSTEM;

/// Bytes of rows after which a chunk ends; one large value may make it longer.
const CHUNK_BYTES: usize = 192 << 10;

/// One moment of the state, read chunk by chunk. Dropping it lets go of what it held.
pub struct SnapshotReader {
    position: Option<LogPosition>,
    membership: Option<(Option<LogPosition>, Bytes)>,
    revision: Revision,
    floor: Revision,
    stage: Stage,
    chain: Chain,
    rows: u64,
    pin: Pin,
}

enum Stage {
    /// Nothing sent yet. Has the small rows, copied when the moment began.
    Header(Result<VecDeque<Row>, Fault>),
    /// The small rows that are left.
    System(VecDeque<Row>),
    /// The first key to send.
    Current(Bytes),
    /// The first stored key to send.
    Past(Bytes),
    /// The first stored key to send.
    Log(Bytes),
    Footer,
    Done,
}

impl SnapshotReader {
    pub(super) fn new(state: &State, pin: Pin) -> Self {
        Self {
            position: state.applied(),
            membership: state.membership(),
            revision: match failpoints::has(Bug::SnapshotWithoutLastBatch) {
                false => state.revision(),
                true => Revision(state.revision().0 - 1),
            },
            floor: state.compacted().unwrap_or_default(),
            stage: Stage::Header(small_rows(state)),
            chain: Chain::default(),
            rows: 0,
            pin,
        }
    }

    /// The last entry the moment includes.
    pub fn position(&self) -> Option<LogPosition> {
        self.position
    }

    /// The membership at that moment.
    pub fn membership(&self) -> Option<(Option<LogPosition>, Bytes)> {
        self.membership.clone()
    }

    /// Names what its next chunk reads.
    pub(in crate::state) fn names(&self, naming: &mut Naming<'_>) {
        let (space, start) = match &self.stage {
            Stage::Current(from) => {
                let keys = Keys::Range {
                    start: from.clone(),
                    end: None,
                };
                naming.keys(&keys);
                return naming.past(&keys, self.revision);
            }
            Stage::Past(from) => (mvcc::PAST, from.clone()),
            Stage::Log(from) => (mvcc::LOG, from.clone()),
            Stage::Header(_) | Stage::System(_) | Stage::Footer | Stage::Done => return,
        };
        let end = None;
        naming.rows(RowSpan { space, start, end });
    }

    /// The next chunk of some 200 KiB, more only for a larger value; `None` after the last.
    ///
    /// `state` must be the one the snapshot began on. Reads disk for up to some milliseconds.
    pub fn next_chunk(&mut self, state: &mut State) -> Result<Option<Bytes>, Fault> {
        if !self.pin.is_of(&state.pins) {
            return Err(Fault::Store(
                "the state was replaced while a snapshot of it was being read".to_owned(),
            ));
        }
        loop {
            let stage = std::mem::replace(&mut self.stage, Stage::Done);
            let (space, rows) = match stage {
                Stage::Header(small) => {
                    self.stage = Stage::System(small?);
                    let header = Chunk::Header {
                        feature_level: state.feature_level(),
                    };
                    return Ok(Some(self.chain.encode(&header)));
                }
                Stage::System(mut small) => {
                    let rows = take_chunk(&mut small);
                    self.stage = if small.is_empty() {
                        Stage::Current(Bytes::new())
                    } else {
                        Stage::System(small)
                    };
                    (SYSTEM, rows)
                }
                Stage::Current(from) => {
                    let moment = AsOf {
                        revision: self.revision,
                        top: Some(state.top()),
                    };
                    let rows = state.disk.rows();
                    let page = mvcc::page_at(&rows, &from, moment, CHUNK_BYTES)?;
                    self.stage = page.next.map_or(Stage::Past(Bytes::new()), Stage::Current);
                    (mvcc::CURRENT, page.rows)
                }
                Stage::Past(from) => {
                    let page = mvcc::past_page(
                        &state.disk.rows(),
                        &from,
                        self.floor,
                        self.revision,
                        CHUNK_BYTES,
                    )?;
                    self.stage = page.next.map_or(Stage::Log(Bytes::new()), Stage::Past);
                    (mvcc::PAST, page.rows)
                }
                Stage::Log(from) => {
                    let page = mvcc::log_page(
                        &state.disk.rows(),
                        &from,
                        self.floor,
                        self.revision,
                        CHUNK_BYTES,
                    )?;
                    self.stage = page.next.map_or(Stage::Footer, Stage::Log);
                    (mvcc::LOG, page.rows)
                }
                Stage::Footer => {
                    let footer = Chunk::Footer { rows: self.rows };
                    return Ok(Some(self.chain.encode(&footer)));
                }
                Stage::Done => return Ok(None),
            };
            if !rows.is_empty() {
                self.rows += rows.len() as u64;
                return Ok(Some(self.chain.encode(&Chunk::Rows { space, rows })));
            }
        }
    }
}

/// All system rows but the attachments.
fn small_rows(state: &State) -> Result<VecDeque<Row>, Fault> {
    let rows = state.disk.rows();
    let mut small = VecDeque::new();
    for (from, upto) in [(0, tag::ATTACHED), (tag::ATTACHED + 1, u8::MAX)] {
        rows.scan(SYSTEM, &[from], Some(&[upto]), &mut |key, value| {
            small.push_back((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            ControlFlow::Continue(())
        })?;
    }
    Ok(small)
}

fn take_chunk(rows: &mut VecDeque<Row>) -> Vec<Row> {
    let mut chunk = Vec::new();
    let mut bytes = 0;
    while bytes < CHUNK_BYTES
        && let Some((key, value)) = rows.pop_front()
    {
        bytes += key.len() + value.len();
        chunk.push((key, value));
    }
    chunk
}
