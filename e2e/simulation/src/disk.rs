//! The disk of a simulated machine, which its log is written to.
//!
//! A write takes its time, which [`Disk::write_log`] spends before the log is written, all in one piece. A power cut in
//! that time tears what is written: some sectors are new, some old. It can be slow, it can fail, and it can lie (for the
//! test that lies are found). Each start of the machine has a handle of its own; the one from before writes nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use coord_server::command::Fault;
use coord_server::disk::{MemoryRows, RowsCopy};
use coord_server::wal::{self, Aligned, Options, SegmentFile, Stepper, Waits, Wal};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::{interpose, trace};

/// Small segments, and little in memory, so that a short run sees the log change over, be cut and read from disk.
pub const LOG: Options = Options {
    segment_bytes: 128 << 10,
    entry_bytes_max: 110 << 10,
    recent_bytes_max: 16 << 10,
    threaded: false,
};
/// Bytes that a disk writes whole or not at all.
const SECTOR: usize = 512;
/// How long something that nobody waits for stays unwritten.
const IDLE: Duration = Duration::from_millis(50);

struct Inner {
    name: String,
    random: StdRng,
    files: BTreeMap<String, Vec<u8>>,
    /// Bytes that a lying disk has overwritten since it last told the truth: file, offset, old bytes.
    undo: Vec<(String, usize, Vec<u8>)>,
    lies: bool,
    fails: bool,
    /// Tears the next write, and then has no power.
    tears: bool,
    has_power: bool,
    /// Counts starts of the machine.
    start: u64,
    /// The time that a durable write takes.
    latency: Duration,
    /// Until when it takes no write.
    stalled_until: u64,
}

/// A copy of a disk, as a snapshot of the volume takes it.
#[derive(Clone)]
pub struct Copy {
    files: BTreeMap<String, Vec<u8>>,
    rows: RowsCopy,
}

impl Copy {
    /// The last entry of its log, if it holds one.
    ///
    /// Errors: a log that cannot be opened.
    pub fn last_index(&self) -> Result<Option<u64>, Fault> {
        let disk = wal::MemoryDisk::with(self.files.clone());
        let wal = Wal::open_on(Arc::new(disk), LOG)?;
        Ok(wal.ends().last.map(|last| last.index))
    }
}

/// The disk. Clones are the same one.
#[derive(Clone)]
pub struct Disk {
    inner: Arc<Mutex<Inner>>,
    /// Rows of the state store.
    pub rows: MemoryRows,
}

impl Disk {
    /// An empty one.
    pub fn new(name: &str, random: StdRng) -> Self {
        Self {
            inner: Arc::new(Mutex::new(Inner {
                name: name.to_owned(),
                random,
                files: BTreeMap::new(),
                undo: Vec::new(),
                lies: false,
                fails: false,
                tears: false,
                has_power: false,
                start: 0,
                latency: Duration::from_millis(1),
                stalled_until: 0,
            })),
            rows: MemoryRows::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner
            .lock()
            .expect("nothing panics while it holds the lock")
    }

    /// Gives it power. Writes go through the returned handle.
    pub fn power_on(&self) -> Arc<dyn wal::Disk> {
        let mut inner = self.lock();
        inner.has_power = true;
        inner.tears = false;
        inner.fails = false;
        inner.start += 1;
        self.rows.fail(false);
        Arc::new(Handle {
            disk: self.clone(),
            start: inner.start,
        })
    }

    /// A copy of it, as it is now.
    pub fn copy(&self) -> Copy {
        Copy {
            files: self.lock().files.clone(),
            rows: self.rows.copy(),
        }
    }

    /// Puts a copy in its place, while it has no power.
    pub fn put_back(&self, copy: &Copy) {
        self.lock().files = copy.files.clone();
        self.rows.put_back(&copy.rows);
    }

    /// Takes its power while `log` may be writing.
    pub fn power_off(&self, log: &Stepper) {
        let tears = {
            let mut inner = self.lock();
            inner.tears = inner.random.random_bool(0.7);
            inner.tears
        };
        if tears {
            log.step();
        }
        let mut inner = self.lock();
        inner.has_power = false;
        let lies = std::mem::take(&mut inner.undo);
        for (name, offset, before) in lies.into_iter().rev() {
            if let Some(content) = inner.files.get_mut(&name) {
                content[offset..offset + before.len()].copy_from_slice(&before);
            }
        }
        let unsynced = self.rows.unsynced();
        let kept = inner.random.random_range(0..=unsynced);
        drop(inner);
        self.rows.crash(kept);
    }

    /// Ends the process that writes to it: the operating system's bytes stay.
    pub fn process_killed(&self, log: &Stepper) {
        // A write that has begun ends without the process.
        let ends = self.lock().random.random_bool(0.5);
        if ends {
            log.step();
        }
        let mut inner = self.lock();
        inner.has_power = false;
        // The state store's writer is some entries behind.
        let unsynced = self.rows.unsynced();
        let lost = inner.random.random_range(0..=unsynced.min(50));
        drop(inner);
        self.rows.crash(unsynced - lost);
    }

    /// Makes the next writes fail.
    pub fn fail(&self) {
        self.lock().fails = true;
    }

    /// Acknowledges writes from now on without keeping them.
    pub fn lie(&self) {
        self.lock().lies = true;
    }

    /// From now on a durable write takes `latency`.
    pub fn set_latency(&self, latency: Duration) {
        self.lock().latency = latency;
    }

    /// Takes no write for `time`.
    pub fn stall(&self, time: Duration) {
        self.lock().stalled_until =
            interpose::now() + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    }

    fn time_of_write(&self) -> Duration {
        let mut inner = self.lock();
        let stalled = inner.stalled_until.saturating_sub(interpose::now());
        let spread = inner.random.random_range(0.5..2.0);
        Duration::from_nanos(stalled) + inner.latency.mul_f64(spread)
    }

    /// Writes the log whenever something is queued, as the thread of a real log does. Runs as long as the machine.
    pub async fn write_log(self, log: Stepper) {
        loop {
            if log.queued(Waits::Idly).await == Waits::Idly {
                // Over when somebody waits, or when it was idle for long enough.
                let _ = tokio::time::timeout(IDLE, log.queued(Waits::Urgently)).await;
            }
            tokio::time::sleep(self.time_of_write()).await;
            log.step();
        }
    }
}

fn no_power() -> io::Error {
    io::Error::other("the machine has no power")
}

/// The handle through which one start of the machine writes.
struct Handle {
    disk: Disk,
    start: u64,
}

impl Handle {
    fn lock(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.disk.lock();
        if inner.has_power && inner.start == self.start {
            Ok(inner)
        } else {
            Err(no_power())
        }
    }

    /// For what only happens whole: if the power fails now, before or after it.
    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.lock()?;
        if inner.tears {
            let is_done = inner.random.random_bool(0.5);
            if is_done {
                change(&mut inner)?;
            }
            inner.has_power = false;
            return Err(no_power());
        }
        change(&mut inner)
    }
}

fn missing(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, name.to_owned())
}

impl wal::Disk for Handle {
    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.lock()?.files.keys().cloned().collect())
    }

    fn create_segment(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn SegmentFile>> {
        let content = wal::blank_segment(bytes);
        self.change(|inner| {
            inner.files.insert(name.to_owned(), content);
            Ok(())
        })?;
        self.open_segment(name)
    }

    fn open_segment(&self, name: &str) -> io::Result<Arc<dyn SegmentFile>> {
        if !self.lock()?.files.contains_key(name) {
            return Err(missing(name));
        }
        Ok(Arc::new(Segment {
            handle: Self {
                disk: self.disk.clone(),
                start: self.start,
            },
            name: name.to_owned(),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|inner| {
            let content = inner.files.remove(from).ok_or_else(|| missing(from))?;
            inner.files.insert(to.to_owned(), content);
            Ok(())
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|inner| {
            inner.files.remove(name).ok_or_else(|| missing(name))?;
            Ok(())
        })
    }

    fn read_small(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        Ok(self.lock()?.files.get(name).cloned())
    }

    fn write_small(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.change(|inner| {
            inner.files.insert(name.to_owned(), bytes.to_vec());
            Ok(())
        })
    }

    fn place(&self) -> PathBuf {
        PathBuf::from(format!("disk of {}", self.disk.lock().name))
    }
}

struct Segment {
    handle: Handle,
    name: String,
}

impl SegmentFile for Segment {
    fn bytes(&self) -> io::Result<u64> {
        let inner = self.handle.lock()?;
        let content = inner.files.get(&self.name);
        Ok(content.ok_or_else(|| missing(&self.name))?.len() as u64)
    }

    fn read(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let inner = self.handle.lock()?;
        let content = inner.files.get(&self.name);
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let part = content
            .ok_or_else(|| missing(&self.name))?
            .get(start..start + bytes);
        Ok(part.ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
    }

    fn write_durably(&self, offset: u64, bytes: &Aligned) -> io::Result<()> {
        let mut guard = self.handle.lock()?;
        let inner = &mut *guard;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = bytes.bytes();
        trace::event(offset);
        trace::bytes(bytes);
        let content = inner
            .files
            .get_mut(&self.name)
            .ok_or_else(|| missing(&self.name))?;
        let place = &mut content[start..start + bytes.len()];
        if inner.lies {
            let before = place.to_vec();
            inner.undo.push((self.name.clone(), start, before));
        }
        if !inner.tears && !inner.fails {
            place.copy_from_slice(bytes);
            return Ok(());
        }
        // Nobody knows which sectors were written.
        let share = inner.random.random_range(0.0..1.0);
        for (old, new) in place.chunks_mut(SECTOR).zip(bytes.chunks(SECTOR)) {
            if inner.random.random_bool(share) {
                old.copy_from_slice(new);
            }
        }
        if inner.tears {
            inner.has_power = false;
            return Err(no_power());
        }
        Err(io::Error::other("the disk failed"))
    }
}
