//! All that is stored, read and worked on by a thread of its own.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;
use tonic::Status;

use crate::coordinator::{Coordinator, Error, Stored, StoredReading};
use crate::etcd::error::status;

/// The pages of one moment.
pub(super) struct Pages {
    coordinator: Arc<Coordinator>,
    reading: StoredReading,
    /// Closed once nobody waits for the result.
    wanted: oneshot::Sender<()>,
}

impl Pages {
    /// The next page; `None` after the last. Blocks on the disk.
    ///
    /// Errors: [`coordinator::Error`](Error) inside of an `io::Error`; `Interrupted` if nobody waits for the result.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<Stored>>> {
        if self.wanted.is_closed() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let page = self.coordinator.next_stored(&mut self.reading);
        page.map_err(io::Error::other)
    }
}

/// Has `work` done on all pages, and returns what came of it.
pub(super) async fn gather<T: Send + 'static>(
    coordinator: &Arc<Coordinator>,
    reading: StoredReading,
    work: impl FnOnce(Pages) -> io::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let (wanted, _waits) = oneshot::channel();
    let pages = Pages {
        coordinator: coordinator.clone(),
        reading,
        wanted,
    };
    let work = tokio::task::spawn_blocking(move || work(pages)).await;
    let done = work.map_err(io::Error::other).flatten();
    done.map_err(|error| match error.downcast::<Error>() {
        Ok(error) => status(&error),
        Err(error) => failed(&error),
    })
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
