//! The receiving end.

use std::path::Path;

use bytes::Bytes;

use super::container::{Chain, Chunk, Row, damaged};
use crate::command::{Fault, LogPosition, Revision};
use crate::disk::{Disk, Fresh, MemoryRows, Space};
use crate::mvcc::{CURRENT, RESIDENT_BYTES_MAX, Version};
use crate::state::spaces::{LAYOUT, SYSTEM};
use crate::state::{FEATURE_LEVEL, Handle, State, StatePlace, lease};

/// A snapshot being received.
pub struct SnapshotWriter {
    target: Target,
    chain: Chain,
    rows: u64,
    stage: Stage,
    resident_bytes_max: usize,
}

enum Target {
    Disk(Box<Fresh>),
    Memory(Vec<(Space, Bytes, Bytes)>, Option<MemoryRows>),
}

#[derive(PartialEq, Eq)]
enum Stage {
    Header,
    Rows,
    Done,
}

/// A complete snapshot, opened as a state of its own.
pub struct InstallReady {
    state: Box<State>,
}

impl SnapshotWriter {
    /// Begins a fresh generation below the state directory `dir`; the current one stays in use.
    /// There may be one at a time.
    pub fn create(dir: &Path) -> Result<Self, Fault> {
        Ok(Self::new(Target::Disk(Box::new(Fresh::create(
            dir, &LAYOUT,
        )?))))
    }

    /// Begins one that will take the place of the state at `place`.
    pub fn at(place: &StatePlace) -> Result<Self, Fault> {
        Ok(match place {
            StatePlace::Directory {
                path,
                resident_bytes_max,
            } => Self {
                resident_bytes_max: *resident_bytes_max,
                ..Self::create(path)?
            },
            StatePlace::Memory(kept) => Self::new(Target::Memory(Vec::new(), kept.clone())),
        })
    }

    /// Receives into memory, for a [`State::in_memory`](crate::state::State::in_memory).
    pub fn in_memory() -> Self {
        Self::new(Target::Memory(Vec::new(), None))
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            chain: Chain::default(),
            rows: 0,
            stage: Stage::Header,
            resident_bytes_max: RESIDENT_BYTES_MAX,
        }
    }

    /// Takes the next chunk. Blocks on the disk: call it off the async threads.
    ///
    /// Faults: [`Fault::Corrupt`] if it is not the chunk that follows, byte for byte; ask the peer again from the start.
    pub fn write_chunk(&mut self, chunk: Bytes) -> Result<(), Fault> {
        match (&self.stage, self.chain.decode(&chunk)?) {
            (Stage::Header, Chunk::Header { feature_level }) if feature_level <= FEATURE_LEVEL => {
                self.stage = Stage::Rows;
                if let Target::Disk(fresh) = &mut self.target {
                    fresh.written_for(feature_level);
                }
                Ok(())
            }
            (Stage::Header, Chunk::Header { feature_level }) => Err(Fault::Store(format!(
                "the snapshot has feature level {feature_level}, this version knows {FEATURE_LEVEL}"
            ))),
            (Stage::Rows, Chunk::Rows { space, rows }) => {
                self.rows += rows.len() as u64;
                self.write(space, rows)
            }
            (Stage::Rows, Chunk::Footer { rows }) if rows == self.rows => {
                self.stage = Stage::Done;
                Ok(())
            }
            _ => Err(damaged("a chunk is out of place")),
        }
    }

    /// Makes what was received durable and reads its index. Blocks.
    ///
    /// Faults: [`Fault::Corrupt`] if the last chunk did not come.
    pub fn finish(self) -> Result<InstallReady, Fault> {
        if self.stage != Stage::Done {
            return Err(damaged("it ends too early"));
        }
        let disk = match self.target {
            Target::Disk(mut fresh) => {
                fresh.sync()?;
                Disk::filled(*fresh, &LAYOUT)
            }
            Target::Memory(held, becomes) => Disk::filled_with(held, becomes, &LAYOUT),
        };
        let state = Box::new(State::load(disk, FEATURE_LEVEL, self.resident_bytes_max)?);
        Ok(InstallReady { state })
    }

    fn write(&mut self, space: Space, rows: Vec<Row>) -> Result<(), Fault> {
        let mut attachments = Vec::new();
        if space == CURRENT {
            for (key, row) in &rows {
                if let Some(id) = Version::decode(row.clone())?.lease {
                    attachments.push((lease::attachment_key(id, key), Bytes::new()));
                }
            }
        }
        match &mut self.target {
            Target::Disk(fresh) if space == SYSTEM => fresh.write(&rows),
            Target::Disk(fresh) => {
                if !attachments.is_empty() {
                    fresh.write(&attachments)?;
                }
                fresh.fill(space, rows)
            }
            Target::Memory(held, _) => {
                let system = attachments.into_iter();
                held.extend(system.map(|(key, row)| (SYSTEM, key, row)));
                held.extend(rows.into_iter().map(|(key, row)| (space, key, row)));
                Ok(())
            }
        }
    }
}

impl InstallReady {
    /// The last entry it includes.
    pub fn position(&self) -> Option<LogPosition> {
        self.state.applied()
    }

    /// Puts the received state in the place of `current`, which is locked only while the two are exchanged; answers
    /// its revision. Blocks; on a fault the process must stop.
    ///
    /// Readers of the state that was are told that it is gone.
    pub fn install(self, current: &Handle) -> Result<Revision, Fault> {
        // First the files: a crash between the two steps finds the received state, which is only newer.
        self.state.disk.make_current()?;
        let revision = self.state.revision();
        let before = current.with(|current| std::mem::replace(current, *self.state));
        before.disk.remove()?;
        Ok(revision)
    }
}
