//! `Snapshot`: this member's state as etcd's own file, streamed.
//!
//! Three steps. All that is stored is read at one moment, beside the clients' work, and sorted on disk; from then on
//! nothing is kept for it, however slow the reader. Then the file is written, then it is sent. Both files have
//! no name and are gone with the stream; together they take about twice what the state holds.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use coord_proto::etcd::etcdserverpb as pb;
use futures::{Stream, StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::backend::{Backend, bucket_value, place};
use super::gather::{failed, gather};
use crate::cli::ETCD_CLUSTER_VERSION;
use crate::coordinator::{Coordinator, Moment};
use crate::scratch::{self, Room, Sorter};

/// Bytes of one message, as etcd's.
const PIECE_BYTES: usize = 32 << 10;
/// Messages that wait for the reader.
const PIECES_WAITING: usize = 4;

/// The time after which a reader that takes nothing gets no more: the files are given back.
const STALL_MAX: Duration = Duration::from_secs(60);

type Piece = Result<pb::SnapshotResponse, Status>;

/// A snapshot on its way.
pub(super) type Pieces = Pin<Box<dyn Stream<Item = Piece> + Send>>;

/// Begins to send the state as it is now. `turn` is given back when it is sent, or its reader is gone.
pub(super) fn begin(
    coordinator: Arc<Coordinator>,
    moment: Moment,
    alarms: &[pb::AlarmMember],
    scratch: Room,
    turn: OwnedSemaphorePermit,
) -> Pieces {
    let (pieces, receiver) = mpsc::channel(PIECES_WAITING);
    let has_stalled = Arc::new(AtomicBool::new(false));
    let told = has_stalled.clone();
    let keys = Sorter::new(scratch.clone());
    let mut backend = Backend::new(&moment, alarms, keys);
    tokio::spawn(async move {
        let reader = pieces.clone();
        let written = gather(&coordinator, moment.stored, move |mut pages| {
            while let Some(page) = pages.next()? {
                for stored in page {
                    backend.keys.push(place(&stored), &bucket_value(stored))?;
                }
            }
            // From here on it holds nothing.
            drop(pages);
            let file = scratch::file(&scratch.dir)?;
            let bytes = backend.write(&file)?;
            Ok((file, bytes))
        });
        let written = tokio::select! {
            written = written => written,
            () = reader.closed() => return,
        };
        let sent = match written {
            Ok((file, bytes)) => {
                tracing::info!(bytes, "sending database snapshot to client");
                let work = move || send(file, bytes, &pieces);
                let sent = tokio::task::spawn_blocking(work).await;
                let sent = sent.map_err(io::Error::other).and_then(|sent| sent);
                match sent {
                    Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                        tracing::warn!("the reader of a snapshot takes nothing: it gets no more");
                        // It reads that when it goes on; there is no room for it now.
                        has_stalled.store(true, Relaxed);
                        Ok(())
                    }
                    sent => sent.map_err(|error| failed(&error)),
                }
            }
            Err(status) => Err(status),
        };
        if let Err(status) = sent {
            // A reader that is gone need not be told.
            let _ = reader.send(Err(status)).await;
        }
        drop(turn);
    });
    let end = stream::once(async move {
        let text = "coord: nothing of the snapshot was taken for a minute";
        told.load(Relaxed).then(|| Err(Status::aborted(text)))
    });
    let end = end.filter_map(std::future::ready);
    Box::pin(ReceiverStream::new(receiver).chain(end))
}

/// Sends a file, and behind it the checksum of all of it.
///
/// Errors: `TimedOut` after [`STALL_MAX`].
fn send(mut file: File, bytes: u64, pieces: &mpsc::Sender<Piece>) -> io::Result<()> {
    file.rewind()?;
    let piece = |remaining_bytes, blob| {
        let version = ETCD_CLUSTER_VERSION.to_owned();
        Ok(pb::SnapshotResponse {
            header: None,
            remaining_bytes,
            blob,
            version,
        })
    };
    let mut sum = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        let mut blob = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
        file.read_exact(&mut blob)?;
        sum.update(&blob);
        left -= blob.len() as u64;
        if !hand_over(pieces, piece(left, blob.into()))? {
            return Ok(());
        }
    }
    hand_over(pieces, piece(0, Bytes::copy_from_slice(&sum.finalize()))).map(drop)
}

/// Answers whether the reader is still there.
fn hand_over(pieces: &mpsc::Sender<Piece>, piece: Piece) -> io::Result<bool> {
    let in_time = async { tokio::time::timeout(STALL_MAX, pieces.send(piece)).await };
    let sent = Handle::current().block_on(in_time);
    Ok(sent.map_err(|_| io::ErrorKind::TimedOut)?.is_ok())
}
