//! The queue of the log, and its writer: a thread of its own, or the caller.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::disk::Disk;
use super::entry::Entry;
use super::identity::Identity;
use super::log::Log;
use super::record::{Cursor, Peers, Record};
use super::sector::{self, BLOCK};
use super::writer::{self, Op, Waiting, Writer};
use super::{Stepper, Waits};
use crate::command::{Fault, LogPosition};

/// How long something that nobody waits for may stay unwritten when nothing else is.
const LAZY: Duration = Duration::from_millis(50);

/// The part that the handle, the writer and readers share.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) disk: Arc<dyn Disk>,
    pub(super) log: Mutex<Log>,
    pub(super) queue: Mutex<Queue>,
    pub(super) wake: Condvar,
    /// The writer when no thread has it.
    pub(super) stepped: Mutex<Option<Writer>>,
    /// The stepper that tells that writer when to write, if not every caller who waits.
    pub(super) stepper: Option<Stepper>,
    pub(super) entry_bytes_max: usize,
    pub(super) fault: watch::Sender<Option<String>>,
}

#[derive(Default)]
pub(super) struct Queue {
    pub(super) ops: VecDeque<Op>,
    /// The newest commit position, if it is not written yet. Nobody waits for it.
    pub(super) committed: Option<LogPosition>,
    /// The newest of what is remembered of other members, likewise.
    pub(super) peers: Option<Peers>,
    /// Whether somebody waits for something in `ops`.
    pub(super) urgent: bool,
    pub(super) closing: bool,
    pub(super) failed: bool,
    thread: Thread,
}

/// The state of the thread that writes. Waking it costs both sides more than the rest of a small write: it is done
/// only when it must hear of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Thread {
    /// It looks at the queue before it sleeps.
    #[default]
    Writing,
    /// It looks at the queue soon by itself.
    Resting,
    /// It sleeps until it is woken.
    Asleep,
}

/// Ends the writing when the last handle goes.
pub(super) struct Closer {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: Option<JoinHandle<()>>,
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.shared.queue().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // It ends after the write that is under way; a panic in it was reported as a fault.
            let _ = thread.join();
        } else {
            self.shared.step();
        }
    }
}

impl Queue {
    pub(super) fn check(&self) -> io::Result<()> {
        if self.failed || self.closing {
            return Err(io::Error::other(
                "the log is closed: a write to it failed, or the process is stopping",
            ));
        }
        Ok(())
    }
}

impl Shared {
    pub(super) fn log(&self) -> MutexGuard<'_, Log> {
        self.log
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    pub(super) fn stepped(&self) -> MutexGuard<'_, Option<Writer>> {
        self.stepped
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    pub(super) fn enqueue(
        &self,
        ops: impl IntoIterator<Item = Op>,
        urgent: bool,
    ) -> io::Result<()> {
        let wake = {
            let mut queue = self.queue();
            queue.check()?;
            let wake = queue.must_wake(urgent && !queue.urgent);
            queue.ops.extend(ops);
            queue.urgent |= urgent;
            wake
        };
        if wake {
            self.wake.notify_one();
        }
        match (&self.stepper, urgent) {
            (Some(stepper), true) => stepper.note(Waits::Urgently),
            (Some(stepper), false) => stepper.note(Waits::Idly),
            (None, true) => self.step(),
            (None, false) => {}
        }
        Ok(())
    }

    pub(super) fn note(&self, waits: Waits) {
        if let Some(stepper) = &self.stepper {
            stepper.note(waits);
        }
    }

    pub(super) fn write_until_closed(&self, writer: &mut Writer) {
        loop {
            let mut queue = self.queue();
            let mut has_rested = false;
            while !queue.urgent && !queue.closing {
                if has_rested && queue.is_empty() {
                    queue.thread = Thread::Asleep;
                    queue = self
                        .wake
                        .wait(queue)
                        .expect("nothing panics while it holds the lock");
                    has_rested = false;
                    continue;
                }
                queue.thread = Thread::Resting;
                let waited = self.wake.wait_timeout(queue, LAZY);
                let (woken, timeout) = waited.expect("nothing panics while it holds the lock");
                queue = woken;
                has_rested = timeout.timed_out();
                if has_rested && !queue.is_empty() {
                    break;
                }
            }
            queue.thread = Thread::Writing;
            let closing = queue.closing;
            let ops = queue.take();
            drop(queue);
            if !self.write_all(writer, ops) || closing {
                return;
            }
        }
    }

    /// Writes what is queued on the calling thread, unless a thread of its own does or the caller is called by it.
    pub(super) fn step(&self) {
        let Ok(mut stepped) = self.stepped.try_lock() else {
            return;
        };
        let Some(writer) = stepped.as_mut() else {
            return;
        };
        loop {
            let ops = self.queue().take();
            if ops.is_empty() || !self.write_all(writer, ops) {
                return;
            }
        }
    }

    fn write_all(&self, writer: &mut Writer, mut ops: VecDeque<Op>) -> bool {
        while !ops.is_empty() {
            if let Err(error) = writer.write(&mut ops, &self.log) {
                self.fail(ops, &error);
                return false;
            }
        }
        true
    }

    /// After a failed write nobody knows what the disk holds: everyone who waits is told, and nothing is written again.
    fn fail(&self, mut ops: VecDeque<Op>, error: &io::Error) {
        let why = format!(
            "cannot write the log in {}: {error}",
            self.disk.place().display()
        );
        {
            let mut queue = self.queue();
            queue.failed = true;
            ops.extend(queue.take());
        }
        for op in ops {
            op.waiting.fail(&why);
        }
        self.fault.send_replace(Some(why));
    }

    /// The entries of the frame that holds `index`, from there to `end`; none if it was purged meanwhile.
    pub(super) fn read_frame(&self, index: u64, end: u64) -> Result<Vec<Entry>, Fault> {
        let Some((frame, file, frame_end)) = self.log().find(index) else {
            return Ok(Vec::new());
        };
        let name = writer::name(frame.generation);
        let offset = u64::from(frame.block) * BLOCK as u64;
        let read = file.read(offset, frame.blocks as usize * BLOCK);
        let content = read.map_err(|source| Fault::Io {
            path: self.disk.place().join(&name),
            source,
        })?;
        let known = sector::read_known(&content, frame.generation, frame.block, frame.frame);
        let Some(records) = known else {
            return Err(Fault::Corrupt {
                what: format!(
                    "{} at byte {offset}",
                    self.disk.place().join(name).display()
                ),
                why:
                    "what was written there is no longer there; restart the member for a full check"
                        .to_owned(),
            });
        };
        let mut cursor = Cursor(Bytes::from(records));
        let mut entries = Vec::new();
        while let Some(record) = cursor.record() {
            if let Record::Entry(entry) = record
                && (index..end.min(frame_end)).contains(&entry.position.index)
            {
                entries.push(entry);
            }
        }
        Ok(entries)
    }
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.committed.is_none() && self.peers.is_none()
    }

    /// Whether the thread must be woken for what is queued now; `urgent` if somebody waits for it.
    pub(super) fn must_wake(&self, urgent: bool) -> bool {
        match self.thread {
            Thread::Writing => false,
            Thread::Resting => urgent,
            Thread::Asleep => true,
        }
    }

    /// All that is queued, with what nobody waits for behind it.
    fn take(&mut self) -> VecDeque<Op> {
        self.urgent = false;
        let mut ops = std::mem::take(&mut self.ops);
        let committed = self.committed.take().map(Record::Committed);
        let peers = self.peers.take().map(Record::Peers);
        ops.extend(committed.into_iter().chain(peers).map(|record| Op {
            record,
            waiting: Waiting::Nobody,
            rewrites: 0,
        }));
        ops
    }
}
