//! Snapshots: not files but moments of the state.
//!
//! To "build" one is to make the state durable and remember up to where, which is all that cutting the log needs. Bytes
//! are made only while a peer pulls them.

use std::io;

use openraft::RaftSnapshotBuilder;
use openraft::alias::SnapshotOf;

use super::durable::DurableMark;
use crate::command::Fault;
use crate::failpoints::{self, Bug};
use crate::raft::types::{self, SnapshotMeta, TypeConfig};
use crate::state::{self, InstallReady, SnapshotReader, State};

/// The form in which openraft hands around a snapshot's data.
pub(in crate::raft) enum SnapshotData {
    /// The state is on disk up to the snapshot's position.
    Durable,
    /// A moment that is held for a peer.
    Reading(Box<SnapshotReader>),
    /// All of a peer's moment, received.
    Received(Box<InstallReady>),
}

pub(in crate::raft) type Snapshot = SnapshotOf<TypeConfig, SnapshotData>;

/// The position and membership of the state as it is.
pub(in crate::raft) fn meta(state: &State) -> Result<SnapshotMeta, Fault> {
    Ok(SnapshotMeta {
        last_log_id: state.applied().map(types::log_id),
        last_membership: match state.membership() {
            Some(stored) => types::stored(stored)?,
            None => types::Stored::default(),
        },
    })
}

/// Makes the state durable.
pub(in crate::raft) struct Builder {
    pub(in crate::raft) state: state::Handle,
    pub(in crate::raft) durable: DurableMark,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let (meta, persisted) = self.state.with(|state| {
            let persisted = !failpoints::has(Bug::PurgeBelowUnsynced);
            (meta(state), persisted.then(|| state.persist()))
        });
        let meta = meta.map_err(io::Error::other)?;
        let Some(persisted) = persisted else {
            return Ok(Snapshot {
                meta,
                snapshot: SnapshotData::Durable,
            });
        };
        let durable = persisted
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        self.durable.raise(durable);
        Ok(Snapshot {
            meta,
            snapshot: SnapshotData::Durable,
        })
    }
}
