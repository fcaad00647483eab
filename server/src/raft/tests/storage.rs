//! openraft's own storage suite.

use std::io;
use std::sync::{Arc, Mutex};

use futures::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, StorageError};
use tokio::sync::mpsc;

use crate::command::{Fault, LogPosition, MemberId, Revision};
use crate::offload::Offload;
use crate::raft::agreement::Agreement;
use crate::raft::applied::AppliedMark;
use crate::raft::propose::Proposer;
use crate::raft::remembered::Promised;
use crate::raft::storage::{
    Builder as SnapshotBuilder, DurableMark, LogStore, Snapshot, SnapshotData, StateMachine,
};
use crate::raft::types::{self, Log, SnapshotMeta, Stored, TypeConfig};
use crate::state::{self, SnapshotWriter, State};
use crate::wal::{Identity, MemoryDisk, Options, Wal};
use crate::watch::Hub;

/// The state machine, for a suite that leaves out entries it has no interest in: the law does not allow a gap, so blank
/// ones stand in for them.
struct Gapless(StateMachine, Source);

/// The state that last gave a moment away.
type Source = Arc<Mutex<Option<state::Handle>>>;

impl RaftStateMachine<TypeConfig> for Gapless {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<Log>, Stored)> {
        self.0.applied_state().await
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let item = item?;
            let at = types::position(&item.0.log_id);
            let next = |state: &State| state.applied().map_or(0, |applied| applied.index + 1);
            let filled = self.0.state.with(|state| {
                while next(state) < at.index {
                    let blank = LogPosition {
                        index: next(state),
                        ..at
                    };
                    state.apply_blank(blank)?;
                }
                Ok::<_, Fault>(())
            });
            filled.map_err(io::Error::other)?;
            self.0.apply(futures::stream::iter([Ok(item)])).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.0.get_snapshot_builder().await
    }

    /// The suite hands a moment straight over; between members it travels in chunks.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        data: SnapshotData,
    ) -> io::Result<()> {
        let SnapshotData::Reading(mut reader) = data else {
            return self.0.install_snapshot(meta, data).await;
        };
        let mut writer = SnapshotWriter::in_memory();
        let source = self.1.lock().unwrap().clone().unwrap();
        let handed = source.with(|source| {
            while let Some(chunk) = reader.next_chunk(source)? {
                writer.write_chunk(chunk)?;
            }
            Ok::<_, Fault>(())
        });
        handed.map_err(io::Error::other)?;
        let ready = writer.finish().map_err(io::Error::other)?;
        self.0
            .install_snapshot(meta, SnapshotData::Received(Box::new(ready)))
            .await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        *self.1.lock().unwrap() = Some(self.0.state.clone());
        self.0.get_current_snapshot().await
    }
}

struct Builder {
    threaded: bool,
    source: Source,
}

impl StoreBuilder<TypeConfig, LogStore, Gapless, ()> for Builder {
    async fn build(&self) -> Result<((), LogStore, Gapless), StorageError<TypeConfig>> {
        let identity = Identity::of_test(1, 1);
        let options = Options {
            segment_bytes: 1 << 16,
            entry_bytes_max: 1 << 15,
            recent_bytes_max: 256,
            threaded: self.threaded,
        };
        let wal = Wal::create_on(Arc::new(MemoryDisk::default()), &identity, options).unwrap();
        let promised = Promised::at_start(&wal, None);
        let (_, _, pending) = Proposer::new(MemberId(1), 1, 1 << 20);
        let state = state::Handle::new(State::in_memory());
        let durable = DurableMark::unbounded();
        let store = LogStore::new(wal, durable, promised, Offload::Threads, state.clone());
        let machine = StateMachine {
            offload: Offload::Threads,
            state,
            hub: Hub::new(Revision(1)),
            leases: mpsc::unbounded_channel().0,
            tokens: mpsc::unbounded_channel().0,
            pending,
            applied: AppliedMark::default(),
            durable: DurableMark::default(),
            agreement: Agreement::default(),
        };
        Ok(((), store, Gapless(machine, self.source.clone())))
    }
}

#[tokio::test]
async fn the_storage_suite_passes_with_a_writing_thread() {
    Suite::test_all(Builder {
        threaded: true,
        source: Source::default(),
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_storage_suite_passes_when_stepped() {
    Suite::test_all(Builder {
        threaded: false,
        source: Source::default(),
    })
    .await
    .unwrap();
}
