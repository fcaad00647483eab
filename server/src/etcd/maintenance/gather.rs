//! All that is stored, read on the runtime in short turns and worked on by a thread of its own.

use std::io;

use tokio::sync::mpsc;
use tonic::Status;

use crate::coordinator::{Coordinator, Stored, StoredReading};
use crate::etcd::error::status;

/// Pages that wait for the worker: a megabyte or so.
const PAGES_WAITING: usize = 4;

/// The pages of one moment.
pub(super) struct Pages(mpsc::Receiver<Option<Vec<Stored>>>);

impl Pages {
    /// The next page; `None` after the last. Waits for it.
    ///
    /// Errors: `Interrupted` if the receiver of the result is gone.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<Stored>>> {
        let page = self.0.blocking_recv();
        page.ok_or_else(|| io::ErrorKind::Interrupted.into())
    }
}

/// Reads to the end, has `work` done on it, and returns what came of it.
pub(super) async fn gather<T: Send + 'static>(
    coordinator: &Coordinator,
    mut reading: StoredReading,
    work: impl FnOnce(Pages) -> io::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let (pages, receiver) = mpsc::channel(PAGES_WAITING);
    let work = tokio::task::spawn_blocking(move || work(Pages(receiver)));
    loop {
        let page = coordinator.next_stored(&mut reading).await;
        let page = page.map_err(|error| status(&error))?;
        let is_last = page.is_none();
        // A worker that takes no more has failed, and says so below.
        if pages.send(page).await.is_err() || is_last {
            break;
        }
    }
    // Nothing is kept for the moment's sake from here on.
    drop(reading);
    let done = work.await.map_err(io::Error::other);
    done.and_then(|done| done).map_err(|error| failed(&error))
}

/// The answer where files could not be written or read: the state itself is none of them.
pub(super) fn failed(error: &io::Error) -> Status {
    tracing::warn!(%error, "files beside the state cannot be written or read");
    let why = format!("coord: a file beside the state: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull => Status::resource_exhausted(why),
        _ => Status::internal(why),
    }
}
