//! Raft's log on disk: entries, votes, what is committed and what is purged, as one ordered durable stream.
//!
//! Owns the segments (`docs/formats.md`), group commit and the cache of recent entries. In go records, out come entries
//! and the word that something is durable. It knows no Raft rule: it stores what it is told, in order, and either gives
//! all of it back or refuses to open. A write that failed is never tried again, because after it nobody knows what the
//! disk holds: the log is dead and the process must end.
//!
//! Group commit needs no timer: records queued while one write is under way become the next. Read `sector` for the
//! bytes, `writer` for the order of writes, `recover` for what is damage and what is only a torn tail.

mod carried;
mod disk;
mod entry;
#[cfg(feature = "failpoints")]
mod faulty;
#[cfg(test)]
pub mod fuzz;
mod identity;
mod log;
#[cfg(any(test, feature = "simulation"))]
mod memory;
mod options;
#[cfg(any(test, feature = "simulation"))]
mod place;
mod queue;
mod read_only;
mod record;
mod recover;
mod sector;
#[cfg(any(test, feature = "simulation"))]
mod stepper;
#[cfg(test)]
mod tests;
#[cfg(not(any(test, feature = "simulation")))]
mod unsimulated;
mod writer;

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

pub use disk::{Aligned, Directory, Disk, SegmentFile};
pub use entry::{Entry, Payload, PeerMemory, Proposals, Vote};
pub use identity::{Identity, identity_at};
#[cfg(any(test, feature = "simulation"))]
pub use memory::{Files, MemoryDisk, Write, blank_segment};
pub use options::{ENTRY_BYTES_MAX, Options};
#[cfg(any(test, feature = "simulation"))]
pub use place::Place;
pub use read_only::{Leftover, ReadOnly};
#[cfg(any(test, feature = "simulation"))]
pub use stepper::{Stepper, Waits};
#[cfg(not(any(test, feature = "simulation")))]
pub use unsimulated::{Place, Stepper, Waits};

use crate::command::level::FIRST_LEVEL;
use crate::command::{Fault, LogPosition};
use queue::{Closer, Shared};
use record::Record;
use writer::{Callback, Op, Waiting, Writer};

/// A log that is open. Clones share it; the last one that goes writes what is queued and closes it.
#[derive(Clone)]
pub struct Wal {
    shared: Arc<Shared>,
    _closer: Arc<Closer>,
}

/// The ends of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The last entry that was purged.
    pub purged: Option<LogPosition>,
    /// The last entry.
    pub last: Option<LogPosition>,
}

impl Wal {
    /// Makes an empty log in a directory that does not exist yet.
    ///
    /// Errors: `Io`. A crash in the middle leaves nothing under that name.
    pub fn create(path: &Path, identity: &Identity, options: Options) -> Result<Self, Fault> {
        let fault = |source| Fault::Io {
            path: path.to_owned(),
            source,
        };
        let unfinished = path.with_extension("new");
        match std::fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fault(error)),
            _ => {}
        }
        std::fs::create_dir_all(&unfinished).map_err(fault)?;
        create_on(
            &(Arc::new(Directory::new(&unfinished)) as _),
            identity,
            options,
        )?;
        std::fs::rename(&unfinished, path).map_err(fault)?;
        let parent = path.parent().unwrap_or(Path::new("."));
        std::fs::File::open(parent)
            .and_then(|parent| parent.sync_all())
            .map_err(fault)?;
        Self::open_on(directory(path), options)
    }

    /// Opens the log that is there.
    ///
    /// Errors: `Corrupt` if it is not all that was acknowledged, saying where and how to go on; `Io`.
    pub fn open(path: &Path, options: Options) -> Result<Self, Fault> {
        Self::open_on(directory(path), options)
    }

    /// Opens a log to look at it: nothing on the disk is changed, and nothing can be appended.
    ///
    /// Errors: as [`Wal::open`].
    pub fn open_read_only(disk: Arc<ReadOnly>) -> Result<Self, Fault> {
        let options = Options {
            threaded: false,
            ..Options::default()
        };
        Self::open_on(disk, options)
    }

    /// Makes an empty log on an empty disk.
    pub fn create_on(
        disk: Arc<dyn Disk>,
        identity: &Identity,
        options: Options,
    ) -> Result<Self, Fault> {
        create_on(&disk, identity, options)?;
        Self::open_on(disk, options)
    }

    /// Opens the log on this disk.
    ///
    /// Errors: as [`Wal::open`].
    pub fn open_on(disk: Arc<dyn Disk>, options: Options) -> Result<Self, Fault> {
        Self::open_with(disk, options, None)
    }

    /// Opens the log on this disk; nothing is written to it until `stepper` says so.
    ///
    /// Errors: as [`Wal::open`].
    pub fn open_stepped(
        disk: Arc<dyn Disk>,
        options: Options,
        stepper: Stepper,
    ) -> Result<Self, Fault> {
        let options = Options {
            threaded: false,
            ..options
        };
        Self::open_with(disk, options, Some(stepper))
    }

    fn open_with(
        disk: Arc<dyn Disk>,
        options: Options,
        stepper: Option<Stepper>,
    ) -> Result<Self, Fault> {
        let recovered = recover::recover(&disk, options)?;
        let shared = Arc::new(Shared {
            identity: recovered.identity,
            disk,
            log: Mutex::new(recovered.log),
            queue: Mutex::default(),
            wake: Condvar::new(),
            stepped: Mutex::default(),
            stepper,
            entry_bytes_max: options.entry_bytes_max,
            fault: watch::Sender::new(None),
        });
        let mut thread = None;
        if options.threaded {
            let run = shared.clone();
            let mut writer = recovered.writer;
            let spawned = std::thread::Builder::new()
                .name("wal".to_owned())
                .spawn(move || {
                    run.write_until_closed(&mut writer);
                });
            let path = shared.disk.place();
            thread = Some(spawned.map_err(|source| Fault::Io { path, source })?);
        } else {
            *shared.stepped() = Some(recovered.writer);
        }
        if let Some(stepper) = &shared.stepper {
            stepper.attach(&shared);
        }
        let closer = Closer {
            shared: shared.clone(),
            thread,
        };
        Ok(Self {
            shared,
            _closer: Arc::new(closer),
        })
    }

    /// Where it is, for messages.
    pub fn place(&self) -> std::path::PathBuf {
        self.shared.disk.place()
    }

    /// The identity of the member and cluster that the log belongs to.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// The largest payload that an entry may have. The caller checks before it appends; the log takes a larger one for a
    /// mistake that ends the member.
    pub fn entry_bytes_max(&self) -> usize {
        self.shared.entry_bytes_max
    }

    /// Says why the log died, once it has.
    pub fn fault(&self) -> watch::Receiver<Option<String>> {
        self.shared.fault.subscribe()
    }

    /// Its ends, with what is queued.
    pub fn ends(&self) -> Ends {
        let log = self.shared.log();
        Ends {
            purged: log.purged,
            last: log.last,
        }
    }

    /// From the next segment on the log is written for a cluster at this feature level, which never falls.
    pub fn written_for(&self, level: u32) {
        self.shared.log().level = level;
    }

    /// The index after the last entry that is durable.
    pub fn durable_end(&self) -> u64 {
        self.shared.log().durable_end()
    }

    /// The vote, with one that is queued.
    pub fn vote(&self) -> Option<Vote> {
        self.shared.log().vote
    }

    /// The newest known commit position, with one that is queued.
    pub fn committed(&self) -> Option<LogPosition> {
        self.shared.log().committed
    }

    /// Appends entries; they can be read when this returns. `flushed` is called when they are durable: of calls that
    /// become durable together only the newest, since it implies those before it.
    ///
    /// Errors: an entry that does not follow the last one, or is larger than [`Wal::entry_bytes_max`]; a log that is dead.
    pub fn append(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        flushed: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> io::Result<()> {
        self.append_with(entries, flushed, Waiting::Watermark)
    }

    /// As [`Wal::append`], for a `flushed` that must be called in any case.
    pub fn append_each(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        flushed: impl FnOnce(io::Result<()>) + Send + 'static,
    ) -> io::Result<()> {
        self.append_with(entries, flushed, Waiting::Each)
    }

    fn append_with(
        &self,
        entries: impl IntoIterator<Item = Entry>,
        flushed: impl FnOnce(io::Result<()>) + Send + 'static,
        waiting: fn(Callback) -> Waiting,
    ) -> io::Result<()> {
        let mut ops = Vec::new();
        {
            let mut log = self.shared.log();
            for entry in entries {
                if !log.accepts(&entry) {
                    return Err(io::Error::other("an entry does not follow the last one"));
                }
                if entry.payload.bytes().map_or(0, Bytes::len) > self.shared.entry_bytes_max {
                    return Err(io::Error::other("an entry is larger than the log takes"));
                }
                log.append(entry.clone());
                ops.push(Op {
                    record: Record::Entry(entry),
                    waiting: Waiting::Nobody,
                    rewrites: log.rewrites,
                });
            }
        }
        match ops.last_mut() {
            Some(last) => {
                last.waiting = waiting(Box::new(flushed));
                self.shared.enqueue(ops, true)
            }
            None => {
                flushed(Ok(()));
                Ok(())
            }
        }
    }

    /// Replaces the vote; resolves when it, and all that was queued before it, is durable.
    ///
    /// Errors: a log that is dead.
    pub async fn save_vote(&self, vote: Vote) -> io::Result<()> {
        let (waiting, durable) = waiting();
        let rewrites = {
            let mut log = self.shared.log();
            log.vote = Some(vote);
            log.rewrites
        };
        self.shared.enqueue(
            [Op {
                record: Record::Vote(vote),
                waiting,
                rewrites,
            }],
            true,
        )?;
        durable.await
    }

    /// Notes up to where entries are committed. Written with the next write.
    pub fn save_committed(&self, committed: LogPosition) -> io::Result<()> {
        self.shared.log().committed = Some(committed);
        let wake = {
            let mut queue = self.shared.queue();
            queue.check()?;
            queue.committed = Some(committed);
            queue.must_wake(false)
        };
        if wake {
            self.shared.wake.notify_one();
            self.shared.note(Waits::Idly);
        }
        Ok(())
    }

    /// The memory of other members, with what is queued.
    pub fn peers(&self) -> Arc<[PeerMemory]> {
        self.shared.log().peers.clone()
    }

    /// Replaces what is remembered of other members: the first 64 count. Written with the next write.
    pub fn save_peers(&self, peers: &[PeerMemory]) -> io::Result<()> {
        let peers: Arc<[PeerMemory]> = peers.iter().take(record::PEERS_MAX).copied().collect();
        self.shared.log().peers = peers.clone();
        let wake = {
            let mut queue = self.shared.queue();
            queue.check()?;
            queue.peers = Some(peers);
            queue.must_wake(false)
        };
        if wake {
            self.shared.wake.notify_one();
            self.shared.note(Waits::Idly);
        }
        Ok(())
    }

    /// Takes back all entries after `to`. Durable before any later record is.
    pub fn truncate(&self, to: Option<LogPosition>) -> io::Result<()> {
        let rewrites = {
            let mut log = self.shared.log();
            log.truncate(to);
            log.rewrites
        };
        let record = Record::Truncate(to);
        self.shared.enqueue(
            [Op {
                record,
                waiting: Waiting::Nobody,
                rewrites,
            }],
            false,
        )
    }

    /// Forgets entries up to `to`. Segments go once that is durable.
    pub fn purge(&self, to: LogPosition) -> io::Result<()> {
        self.purge_with(to, Waiting::Nobody, false)
    }

    /// As [`Wal::purge`]; resolves when it, and all that was queued before it, is durable.
    pub async fn purge_durably(&self, to: LogPosition) -> io::Result<()> {
        let (waiting, durable) = waiting();
        self.purge_with(to, waiting, true)?;
        durable.await
    }

    fn purge_with(&self, to: LogPosition, waiting: Waiting, urgent: bool) -> io::Result<()> {
        let rewrites = {
            let mut log = self.shared.log();
            log.purge(to);
            log.rewrites
        };
        let record = Record::Purge(to);
        self.shared.enqueue(
            [Op {
                record,
                waiting,
                rewrites,
            }],
            urgent,
        )
    }

    /// Entries `[start, end)` if `start` is in memory: at least one, not many more than `bytes_max` bytes.
    pub fn recent(&self, start: u64, end: u64, bytes_max: usize) -> Option<Vec<Entry>> {
        self.shared.log().recent(start, end, bytes_max)
    }

    /// Entries `[start, end)` as far as the log has them; at least one of those, not many more than `bytes_max` bytes.
    /// Reads the disk: not for an async thread.
    ///
    /// Errors: `Io`; `Corrupt` if what was durable is no longer there.
    pub fn read(&self, start: u64, end: u64, bytes_max: usize) -> Result<Vec<Entry>, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut bytes = 0;
        let mut next = start.max(self.shared.log().first_index());
        while next < end && (bytes < bytes_max || entries.is_empty()) {
            let more = match self.recent(next, end, bytes_max - bytes.min(bytes_max)) {
                Some(recent) => recent,
                None => self.shared.read_frame(next, end)?,
            };
            if more.is_empty() {
                break;
            }
            for entry in more {
                bytes += entry.size();
                next = entry.position.index + 1;
                entries.push(entry);
            }
        }
        Ok(entries)
    }

    /// The first entry that stands in the newest `bytes` of the log on disk, or in its newest few writes where those are
    /// longer; `None` if it is not longer than that.
    pub fn first_index_within(&self, bytes: u64) -> Option<u64> {
        self.shared.log().first_index_within(bytes)
    }

    /// Writes what is queued now, if no thread does.
    pub fn step(&self) {
        self.shared.step();
    }
}

/// Somebody who waits, and what resolves when the wait is over.
fn waiting() -> (Waiting, impl Future<Output = io::Result<()>>) {
    let (sender, durable) = oneshot::channel();
    let waiting = Waiting::Each(Box::new(move |result| {
        // The receiver may have gone.
        let _ = sender.send(result);
    }));
    let closed = |_| Err(io::Error::other("the log was closed"));
    (waiting, async move { durable.await.unwrap_or_else(closed) })
}

#[cfg(not(feature = "failpoints"))]
fn directory(path: &Path) -> Arc<dyn Disk> {
    Arc::new(Directory::new(path))
}

#[cfg(feature = "failpoints")]
fn directory(path: &Path) -> Arc<dyn Disk> {
    Arc::new(faulty::Faulty::new(path))
}

fn create_on(disk: &Arc<dyn Disk>, identity: &Identity, options: Options) -> Result<(), Fault> {
    let fault = |source| Fault::Io {
        path: disk.place(),
        source,
    };
    let ids = (identity.cluster, identity.member);
    // Nobody has told this member its cluster's level yet, and every version reads what the first one writes.
    let level = FIRST_LEVEL;
    Writer::first_segment(disk, ids, options.segment_bytes, level).map_err(fault)?;
    disk.write_small(identity::FILE, &identity.encode(level))
        .map_err(fault)
}
