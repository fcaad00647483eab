//! The receiving end.

use std::path::Path;

use bytes::Bytes;

use super::container::{Chain, Chunk, Row, damaged};
use crate::command::Fault;
use crate::disk::{Disk, Fresh, Space};
use crate::mvcc::Version;
use crate::state::{FEATURE_LEVEL, lease};

/// A snapshot being received.
pub struct SnapshotWriter {
    target: Target,
    chain: Chain,
    rows: u64,
    stage: Stage,
}

enum Target {
    Disk(Box<Fresh>),
    Memory(Vec<(Space, Bytes, Bytes)>),
}

#[derive(PartialEq, Eq)]
enum Stage {
    Header,
    Rows,
    Done,
}

/// A complete snapshot, for [`State::install`](crate::state::State::install).
pub struct InstallReady {
    target: Target,
}

impl SnapshotWriter {
    /// Begins a fresh generation below the state directory `dir`; the current one stays in use.
    /// There may be one at a time.
    pub fn create(dir: &Path) -> Result<Self, Fault> {
        Ok(Self::new(Target::Disk(Box::new(Fresh::create(dir)?))))
    }

    /// Receives into memory, for a [`State::in_memory`](crate::state::State::in_memory).
    pub fn in_memory() -> Self {
        Self::new(Target::Memory(Vec::new()))
    }

    fn new(target: Target) -> Self {
        Self {
            target,
            chain: Chain::default(),
            rows: 0,
            stage: Stage::Header,
        }
    }

    /// Takes the next chunk. Blocks on the disk: call it off the async threads.
    ///
    /// Faults: [`Fault::Corrupt`] if it is not the chunk that follows, byte for byte; ask the peer again from the start.
    pub fn write_chunk(&mut self, chunk: Bytes) -> Result<(), Fault> {
        match (&self.stage, self.chain.decode(&chunk)?) {
            (Stage::Header, Chunk::Header { feature_level }) if feature_level <= FEATURE_LEVEL => {
                self.stage = Stage::Rows;
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

    /// Makes what was received durable. Blocks.
    ///
    /// Faults: [`Fault::Corrupt`] if the last chunk did not come.
    pub fn finish(self) -> Result<InstallReady, Fault> {
        if self.stage != Stage::Done {
            return Err(damaged("it ends too early"));
        }
        if let Target::Disk(fresh) = &self.target {
            fresh.sync()?;
        }
        Ok(InstallReady {
            target: self.target,
        })
    }

    fn write(&mut self, space: Space, rows: Vec<Row>) -> Result<(), Fault> {
        let mut all = Vec::with_capacity(rows.len());
        for (key, row) in rows {
            if space == Space::Current
                && let Some(id) = Version::decode(row.clone())?.lease
            {
                let attachment = lease::attachment_key(id, &key);
                all.push((Space::System, attachment, Bytes::new()));
            }
            all.push((space, key, row));
        }
        match &mut self.target {
            Target::Disk(fresh) => fresh.write(&all),
            Target::Memory(held) => {
                held.append(&mut all);
                Ok(())
            }
        }
    }
}

impl InstallReady {
    pub(super) fn install(self, disk: &mut Disk) -> Result<(), Fault> {
        match self.target {
            Target::Disk(fresh) => disk.switch(*fresh),
            Target::Memory(rows) => {
                disk.replace(rows);
                Ok(())
            }
        }
    }
}
