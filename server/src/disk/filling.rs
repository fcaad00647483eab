//! Filling a space with rows that come in order: straight into tables. By way of journal, memtables and compactions each byte
//! would be written six times or more, and other writers to the disk would wait for that.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use bytes::Bytes;
use fjall::Keyspace;

use super::background;
use super::marks;
use super::space::Space;

/// Rows that may wait for the disk, in calls of [`Filling::write`].
const WAITING_MAX: usize = 1;

type Row = (Bytes, Bytes);

/// Why rows were not taken.
pub(super) enum FillError {
    /// A key is not above the one before it.
    Disorder,
    /// fjall's reason.
    Store(fjall::Error),
}

/// A space that is being filled, on a thread of low priority. Dropped before its end, it is given up.
pub(super) struct Filling {
    space: Space,
    last: Bytes,
    /// The rows to write; `None` for the end. Gone when the thread is to end.
    rows: Option<SyncSender<Option<Vec<Row>>>>,
    thread: Option<JoinHandle<Result<(), fjall::Error>>>,
}

impl Filling {
    /// Begins to fill a space, which is `keyspace`.
    pub(super) fn begin(space: Space, keyspace: Keyspace) -> Self {
        let (rows, rows_in) = sync_channel(WAITING_MAX);
        let thread = std::thread::Builder::new()
            .name("state-filler".to_owned())
            .spawn(move || {
                background::give_way();
                fill(&keyspace, &rows_in)
            })
            .expect("the operating system starts a thread where it ran many before");
        Self {
            space,
            last: Bytes::new(),
            rows: Some(rows),
            thread: Some(thread),
        }
    }

    pub(super) fn space(&self) -> Space {
        self.space
    }

    /// Hands over rows. May wait for those before.
    pub(super) fn write(&mut self, rows: Vec<Row>) -> Result<(), FillError> {
        for (key, _) in &rows {
            // No key of a row is empty.
            if *key <= self.last {
                return Err(FillError::Disorder);
            }
            self.last = key.clone();
        }
        self.hand_over(Some(rows))
    }

    /// The rows are there, and durable, when this returns.
    pub(super) fn end(mut self) -> Result<(), FillError> {
        self.hand_over(None)?;
        self.join().map_err(FillError::Store)
    }

    fn hand_over(&mut self, rows: Option<Vec<Row>>) -> Result<(), FillError> {
        let sender = self.rows.as_ref().expect("it is there until it has ended");
        match sender.send(rows) {
            Ok(()) => Ok(()),
            // It ended early, and says why.
            Err(_) => self.join().map_err(FillError::Store),
        }
    }

    fn join(&mut self) -> Result<(), fjall::Error> {
        self.rows = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(ended)) => ended,
            Some(Err(panic)) => std::panic::resume_unwind(panic),
            None => Ok(()),
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        // The store stays open for as long as its thread runs.
        self.rows = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn fill(keyspace: &Keyspace, rows_in: &Receiver<Option<Vec<Row>>>) -> Result<(), fjall::Error> {
    let mut tables = keyspace.start_ingestion()?;
    loop {
        match rows_in.recv() {
            Ok(Some(rows)) => {
                for (key, value) in rows {
                    tables.write(marks::row_key(&key), value.as_ref())?;
                }
            }
            Ok(None) => return tables.finish(),
            // Given up.
            Err(_) => return Ok(()),
        }
    }
}
