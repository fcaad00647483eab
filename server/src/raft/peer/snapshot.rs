//! A snapshot on its way to a peer, in bounded memory on both sides.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use coord_proto::peer as wire;
use futures::{Stream, StreamExt};
use openraft::raft::SnapshotResponse;
use prost::Message;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tonic::{Status, Streaming};

use super::convert;
use super::line::Line;
use crate::command::{Fault, MemberId};
use crate::metrics::metrics;
use crate::offload::Offload;
use crate::raft::core::Core;
use crate::raft::storage::{Sending, Sent, Snapshot, SnapshotData};
use crate::raft::types::{self, SnapshotMeta, Stored, TypeConfig, Vote};
use crate::state::{self, InstallReady, SnapshotReader, SnapshotWriter, StatePlace};

use wire::snapshot_request::Part;

/// Rest after reading a chunk, in the time that it took: writers have three quarters of the thread.
const REST: u32 = 3;

/// The time without any movement after which a transfer has failed, however much there is to send: 15 GB take a
/// quarter of an hour and more at the pace that leaves the leader to its clients.
const STANDSTILL_MAX: Duration = Duration::from_secs(60);
/// How long the peer may take to bring what it has received to disk, and into its place.
const INSTALL_MAX: Duration = Duration::from_secs(15 * 60);

/// Follows a stream of chunks: when the last one was taken, and whether that was the last of all.
#[derive(Clone)]
struct Progress(Arc<Mutex<(Instant, bool)>>);

impl Progress {
    fn now() -> Self {
        Self(Arc::new(Mutex::new((Instant::now(), false))))
    }

    fn note(&self, is_all: bool) {
        *self
            .0
            .lock()
            .expect("nothing panics while it holds the lock") = (Instant::now(), is_all);
    }

    fn follow<T>(self, chunks: impl Stream<Item = T>) -> impl Stream<Item = T> {
        let (each, all) = (self.clone(), self);
        let end = futures::stream::once(async move { all.note(true) });
        let end = end.filter_map(|()| std::future::ready(None));
        chunks.inspect(move |_| each.note(false)).chain(end)
    }

    /// Resolves when nothing has moved for too long.
    async fn stands_still(&self) {
        loop {
            let (moved, is_all) = *self
                .0
                .lock()
                .expect("nothing panics while it holds the lock");
            let given_up = moved + if is_all { INSTALL_MAX } else { STANDSTILL_MAX };
            if Instant::now() >= given_up {
                return;
            }
            tokio::time::sleep_until(given_up).await;
        }
    }
}

/// Why a moment could not be read to its end. Its stream just ends; without its footer nobody takes it for whole.
#[derive(Clone, Default)]
pub(super) struct Failed(Arc<Mutex<Option<String>>>);

impl Failed {
    fn set(&self, fault: &Fault) {
        let mut failed = self
            .0
            .lock()
            .expect("nothing panics while it holds the lock");
        *failed = Some(fault.to_string());
    }

    /// Logs it, if it came to that.
    pub(super) fn log(&self, peer: MemberId) {
        let mut failed = self
            .0
            .lock()
            .expect("nothing panics while it holds the lock");
        if let Some(why) = failed.take() {
            tracing::error!(%peer, why, "the state cannot be read for a snapshot");
        }
    }
}

/// The chunks of one moment: made one at a time, as the peer takes them.
pub(super) fn chunks(
    reader: Box<SnapshotReader>,
    state: state::Handle,
    offload: Offload,
    failed: Failed,
) -> impl Stream<Item = Bytes> + Send + 'static {
    futures::stream::unfold(reader, move |mut reader| {
        let (state, failed) = (state.clone(), failed.clone());
        async move {
            if let Some(ahead) = state.with(|state| state.ahead_of_chunk(&reader)) {
                // An error is the end of the runtime.
                offload.run(move || ahead.read()).await.ok()?;
            }
            // Only the time counts for which everybody else waited.
            let began = Instant::now();
            let next = state.with(|state| {
                let _turn = metrics().state_turns.snapshot.start_timer();
                reader.next_chunk(state)
            });
            // Each chunk takes the state, and the thread, for a while: let others have them for longer.
            tokio::task::yield_now().await;
            tokio::time::sleep(began.elapsed() * REST).await;
            match next {
                Ok(chunk) => chunk.map(|chunk| (chunk, reader)),
                Err(fault) => {
                    failed.set(&fault);
                    None
                }
            }
        }
    })
}

/// Sends a snapshot; returns when the peer has installed it or refused the vote.
///
/// Errors: the peer's; `DeadlineExceeded` if nothing moved for [`STANDSTILL_MAX`].
pub(super) async fn send(
    line: &Line,
    (state, offload): (&state::Handle, Offload),
    sending: &Sending,
    vote: Vote,
    snapshot: Snapshot,
) -> Result<SnapshotResponse<TypeConfig>, Status> {
    let SnapshotData::Reading(reader) = snapshot.snapshot else {
        return Err(Status::internal("only a moment of the state can be sent"));
    };
    let SnapshotMeta {
        last_log_id,
        last_membership,
    } = snapshot.meta;
    let head = wire::SnapshotHead {
        vote: Some(convert::vote(&vote)),
        last: last_log_id.as_ref().map(convert::position),
        membership_position: last_membership.log_id().as_ref().map(convert::position),
        membership: types::encode_members(last_membership.membership(), state.feature_level()),
    };
    let failed = Failed::default();
    let message = |part| wire::SnapshotRequest { part: Some(part) };
    let peer = line.to;
    let on_its_way = Arc::new(Mutex::new(None));
    let (begins, sending) = (on_its_way.clone(), sending.clone());
    let head = futures::stream::once(async move {
        // Asked for when there is a connection: a peer that is away is tried twice a second, and no log is kept for it.
        *begins
            .lock()
            .expect("nothing panics while it holds the lock") = Some(sending.begin());
        tracing::info!(%peer, position = ?last_log_id, "sending a snapshot");
        message(Part::Head(head))
    });
    let progress = Progress::now();
    let chunks = progress
        .clone()
        .follow(chunks(reader, state.clone(), offload, failed.clone()));
    let counted = line.counted.clone();
    let parts = head.chain(chunks.map(move |chunk| message(Part::Chunk(chunk))));
    let parts = parts.inspect(move |part| counted.sent_bytes.inc_by(part.encoded_len() as u64));
    let request = line.request(parts);
    let mut client = line.client()?;
    let response = tokio::select! {
        response = client.snapshot(request) => response,
        () = progress.stands_still() => {
            Err(Status::deadline_exceeded("nothing of the snapshot moved for too long"))
        }
    };
    failed.log(line.to);
    let response = response?;
    let on_its_way = on_its_way
        .lock()
        .expect("nothing panics while it holds the lock")
        .take();
    on_its_way.into_iter().for_each(Sent::end);
    Ok(SnapshotResponse::new(convert::read_vote(
        response.into_inner().vote,
    )?))
}

/// Takes snapshots from the leader, one at a time. Clones share the turn.
#[derive(Clone)]
pub(in crate::raft) struct Receiving {
    /// Where the state lives.
    place: StatePlace,
    offload: Offload,
    /// The state that is replaced.
    state: state::Handle,
    turn: Arc<Semaphore>,
}

impl Receiving {
    pub(in crate::raft) fn new(place: StatePlace, offload: Offload, state: state::Handle) -> Self {
        Self {
            place,
            offload,
            state,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Where work that waits for a disk is done.
    pub(super) fn offload(&self) -> Offload {
        self.offload
    }

    /// Takes one and installs it.
    pub(super) async fn run(
        &self,
        core: &Core,
        mut incoming: Streaming<wire::SnapshotRequest>,
    ) -> Result<wire::SnapshotResponse, Status> {
        // An earlier one ends when its call does; until then a second one would write into the same place.
        let _turn = self
            .turn
            .acquire()
            .await
            .map_err(|_| Status::unavailable("stopping"))?;
        let first = incoming.message().await?.and_then(|message| message.part);
        let Some(Part::Head(head)) = first else {
            return Err(Status::invalid_argument("a snapshot begins with its head"));
        };
        let vote = convert::read_vote(head.vote)?;
        let members = types::decode_members(&head.membership).map_err(Status::invalid_argument)?;
        let at = head.membership_position.as_ref().map(convert::log_id);
        let meta = SnapshotMeta {
            last_log_id: head.last.as_ref().map(convert::log_id),
            last_membership: Stored::new(at, members),
        };
        tracing::info!(position = ?meta.last_log_id, "receiving a snapshot");
        // The two are in memory together for a while, and what is about to go needs the least of it.
        self.state.with(|state| state.forget_resident());
        let chunks = incoming.map(|message| match message?.part {
            Some(Part::Chunk(chunk)) => Ok(chunk),
            Some(Part::Head(_)) | None => Err(Status::invalid_argument(
                "a snapshot has one head, then chunks",
            )),
        });
        let ready = receive(self.place.clone(), self.offload, chunks).await?;
        let snapshot = Snapshot {
            meta,
            snapshot: SnapshotData::Received(Box::new(ready)),
        };
        let installed = core.install_full_snapshot(vote, snapshot).await;
        let installed = installed.map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(wire::SnapshotResponse {
            vote: Some(convert::vote(&installed.vote)),
        })
    }
}

/// Writes chunks as they come, where waiting for the disk is allowed.
pub(super) async fn receive(
    place: StatePlace,
    offload: Offload,
    mut incoming: impl Stream<Item = Result<Bytes, Status>> + Unpin,
) -> Result<InstallReady, Status> {
    let write = Writing(offload);
    let mut writer = write.now(move || SnapshotWriter::at(&place)).await?;
    loop {
        let next = tokio::time::timeout(STANDSTILL_MAX, incoming.next()).await;
        let next =
            next.map_err(|_| Status::deadline_exceeded("nothing of the state came for too long"))?;
        let Some(chunk) = next else { break };
        let chunk = chunk?;
        writer = write
            .now(move || writer.write_chunk(chunk).map(|()| writer))
            .await?;
    }
    write.now(move || writer.finish()).await
}

struct Writing(Offload);

impl Writing {
    async fn now<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Status> {
        let done = self.0.run(work).await;
        let done = done.map_err(|error| Status::internal(error.to_string()))?;
        done.map_err(|fault| Status::data_loss(fault.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK_BYTES: u64 = 192 << 10;
    const CHUNKS_A_GIGABYTE: u32 = (1 << 30) / (192 << 10);

    /// Sends chunks of `bytes` in all, at `seconds_a_gigabyte`: the time it took, or `None` if it failed.
    async fn sent(bytes: u64, seconds_a_gigabyte: u64) -> Option<Duration> {
        let began = Instant::now();
        let pause = Duration::from_secs(seconds_a_gigabyte) / CHUNKS_A_GIGABYTE;
        let chunks = futures::stream::iter(0..bytes / CHUNK_BYTES).then(move |_| async move {
            tokio::time::sleep(pause).await;
        });
        let progress = Progress::now();
        let chunks = progress.clone().follow(chunks);
        tokio::select! {
            _ = chunks.count() => Some(began.elapsed()),
            () = progress.stands_still() => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_state_takes_as_long_as_it_takes() {
        // The pace of decision 0009, and one of a disk that is ten times slower.
        for pace in [68, 680] {
            let took = sent(15 << 30, pace).await.expect("it arrives");
            assert!(took > Duration::from_secs(900), "{took:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_state_that_stands_still_is_given_up() {
        let began = Instant::now();
        let progress = Progress::now();
        let some = futures::stream::iter(0..3).chain(futures::stream::pending());
        let chunks = progress.clone().follow(some);
        tokio::select! {
            _ = chunks.count() => panic!("it has no end"),
            () = progress.stands_still() => {}
        }
        assert_eq!(began.elapsed(), STANDSTILL_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn installing_has_time_of_its_own() {
        let began = Instant::now();
        let progress = Progress::now();
        let chunks = progress.clone().follow(futures::stream::iter(0..3));
        chunks.count().await;
        progress.stands_still().await;
        assert_eq!(began.elapsed(), INSTALL_MAX);
    }
}
