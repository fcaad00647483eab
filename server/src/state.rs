//! The law: the effect of a command on the state, and the answer of a query.
//!
//! Owns [`State`]: applies log entries in order, each member alike, and answers questions. Pure and synchronous: no
//! clock, no randomness, no tasks, nothing of this member's own. Everything that decides an outcome is replicated state.
//! A command is checked completely before it writes its first row, so there is nothing to undo. The rows of one entry,
//! with its position, reach the disk together; those of a change too large for one turn reach it piece by piece, and what
//! stands there of a revision that did not end is undone at the next open. Questions are answered in slices as well
//! (`reading.rs`): no turn of the runtime is long, whatever is asked or applied.
//!
//! It does not know who asks, what a wire looks like, or where rows are kept. Read `apply.rs`, `law.rs`, then `kv.rs`.

mod ahead;
mod alarm;
mod apply;
mod auth;
#[cfg(test)]
pub mod fuzz;
mod handle;
mod history;
mod kv;
mod law;
mod lease;
mod ledger;
mod level;
mod member;
mod no;
mod reading;
mod running_hash;
mod snapshot;
mod spaces;
mod stored;
#[cfg(test)]
mod tests;
mod txn;
mod unfinished;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::command::{
    Alarm, Fault, Incarnation, Lease, LeaseId, LogPosition, MemberId, MemberRecord, Revision,
};
use crate::disk::{Disk, MemoryRows, Persisted, Progress};
use crate::mvcc::{Mvcc, RESIDENT_BYTES_MAX};
pub use ahead::Ahead;
pub use apply::{Applied, Large, Turn};
use auth::Auth;
pub use handle::Handle;
pub use history::{History, LargeRevision, Part, Piece};
use law::Making;
use ledger::{Ledger, Superseded};
pub use no::No;
pub use reading::{Answer, Reading};
pub use running_hash::RunningHash;
pub use snapshot::{InstallReady, SnapshotReader, SnapshotWriter};
use spaces::LAYOUT;
pub use stored::{Stored, StoredPage, StoredReading};

pub use crate::command::level::FEATURE_LEVEL;
/// Bytes that a file system gives at least.
const BLOCK: u64 = 4096;
/// The disk may be behind by half of what is kept of rows in memory, but for these bounds.
const PENDING_BYTES_LEAST: usize = 1 << 20;
const PENDING_BYTES_MOST: usize = 16 << 20;
/// fjall's memtables may take twice what is kept of rows, but for these bounds: less than one of each space cannot be.
const MEMTABLE_BYTES_LEAST: usize = 32 << 20;
const MEMTABLE_BYTES_MOST: usize = 96 << 20;
/// On a small machine the keys in memory take this part of it.
const RESIDENT_PART_OF_MEMORY: u64 = 16;

/// Where a member's state store is.
#[derive(Clone, Debug)]
pub enum StatePlace {
    /// In a directory of the file system, with so many bytes of its keys in memory.
    Directory {
        /// Where.
        path: PathBuf,
        /// The most bytes of keys and values that are kept in memory; [`resident_bytes_max`] says what is enough.
        resident_bytes_max: usize,
    },
    /// In memory: of a simulated machine, which keeps it, or of nobody.
    Memory(Option<MemoryRows>),
}

/// How many bytes of its keys a member keeps in memory that may take `memory_bytes` in all: more than this answers nothing
/// quicker, and on a small machine the rest is needed for what clients ask.
pub fn resident_bytes_max(memory_bytes: u64) -> usize {
    let part = memory_bytes / RESIDENT_PART_OF_MEMORY;
    usize::try_from(part).map_or(RESIDENT_BYTES_MAX, |part| part.min(RESIDENT_BYTES_MAX))
}

/// The replicated state of one member.
pub struct State {
    disk: Disk,
    mvcc: Mvcc,
    ledger: Ledger,
    making: Making,
    superseded: Superseded,
    leases: BTreeMap<LeaseId, Lease>,
    members: BTreeMap<MemberId, MemberRecord>,
    alarms: BTreeSet<Alarm>,
    membership: Option<(Option<LogPosition>, Bytes)>,
    auth: Auth,
    pins: snapshot::Pins,
    level: u32,
    /// The highest level that may be applied here.
    level_max: u32,
    pending_bytes_max: usize,
}

impl State {
    /// Opens the state below `dir`, empty if there is none or if what is there is damaged (it is set aside then).
    ///
    /// The applied position may lie behind the one before a crash: replay the log after [`applied`](Self::applied), or
    /// give up if the log begins later. Blocks; takes about a second for each two million keys.
    pub fn open(dir: &Path) -> Result<Self, Fault> {
        Self::open_bounded(dir, RESIDENT_BYTES_MAX)
    }

    fn open_bounded(dir: &Path, resident_bytes_max: usize) -> Result<Self, Fault> {
        let load = |disk| Self::load(disk, FEATURE_LEVEL, resident_bytes_max);
        match load(Disk::open(dir, &LAYOUT)?) {
            Err(Fault::Corrupt { what, why }) => {
                tracing::error!(what, why, "the state is damaged and set aside");
                let why = format!("{what}: {why}");
                load(Disk::open_anew(dir, &why, &LAYOUT)?)
            }
            opened => opened,
        }
    }

    /// Opens the state at this place.
    ///
    /// Errors: as [`open`](Self::open).
    pub fn open_at(place: &StatePlace) -> Result<Self, Fault> {
        match place {
            StatePlace::Directory {
                path,
                resident_bytes_max,
            } => Self::open_bounded(path, *resident_bytes_max),
            StatePlace::Memory(Some(rows)) => {
                let disk = Disk::on(rows.clone(), &LAYOUT);
                Self::load(disk, FEATURE_LEVEL, RESIDENT_BYTES_MAX)
            }
            StatePlace::Memory(None) => Ok(Self::in_memory()),
        }
    }

    /// Opens the state below `dir` to look at it: every row is read, and nothing is set aside. Opening writes, so `dir` must be a
    /// copy, see [`crate::disk::copy`].
    ///
    /// Errors: `Corrupt` with what is damaged; others as of [`open`](Self::open).
    pub fn inspect(dir: &Path) -> Result<Self, Fault> {
        Self::load(
            Disk::inspect(dir, &LAYOUT)?,
            FEATURE_LEVEL,
            RESIDENT_BYTES_MAX,
        )
    }

    /// A state without files or threads, under the same law: for tests and simulation.
    pub fn in_memory() -> Self {
        Self::in_memory_with(FEATURE_LEVEL)
    }

    /// As [`State::in_memory`], of a version that knows the law up to `level_max`.
    pub fn in_memory_with(level_max: u32) -> Self {
        Self::load(Disk::in_memory(&LAYOUT), level_max, RESIDENT_BYTES_MAX)
            .expect("empty rows in memory hold no damage")
    }

    fn load(disk: Disk, level_max: u32, resident_bytes_max: usize) -> Result<Self, Fault> {
        // First of all: rows of a level that this version does not know are neither read nor changed.
        let level = level::load(&disk.rows(), level_max)?;
        let ledger = Ledger::load(&disk.rows())?;
        unfinished::undo(&disk, ledger.revision)?;
        let memtable_bytes =
            (2 * resident_bytes_max).clamp(MEMTABLE_BYTES_LEAST, MEMTABLE_BYTES_MOST);
        disk.limit_memtables(memtable_bytes as u64);
        let mut rows = disk.rows();
        let mvcc = Mvcc::open(&rows, resident_bytes_max)?;
        let superseded = Superseded::load(&rows)?;
        let leases = lease::load(&rows)?;
        let members = member::load(&rows)?;
        let alarms = alarm::load(&rows)?;
        let auth = auth::load(&rows)?;
        let membership = ledger::load_membership(&rows)?;
        if let Some(floor) = ledger.floor {
            rows.sweep_below(floor.0)?;
        }
        drop(rows);
        Ok(Self {
            disk,
            mvcc,
            ledger,
            making: Making::default(),
            superseded,
            leases,
            members,
            alarms,
            membership,
            auth,
            pins: snapshot::Pins::default(),
            level,
            level_max,
            pending_bytes_max: (resident_bytes_max / 2)
                .clamp(PENDING_BYTES_LEAST, PENDING_BYTES_MOST),
        })
    }

    /// The last entry applied.
    pub fn applied(&self) -> Option<LogPosition> {
        self.ledger.applied
    }

    /// Over all that was applied: alike on every member that has applied the same.
    pub fn running_hash(&self) -> RunningHash {
        self.ledger.hash
    }

    /// Does as a flipped bit: from now on this is not the state that others have.
    #[cfg(test)]
    pub(crate) fn disturb(&mut self) {
        self.ledger.hash.0 ^= 1;
    }

    /// From now on the state says that the cluster is at this level.
    #[cfg(test)]
    pub(crate) fn pretend_level(&mut self, level: u32) {
        self.level = level;
    }

    /// The newest membership applied: where it stands in the log, and the Raft room's own bytes.
    pub fn membership(&self) -> Option<(Option<LogPosition>, Bytes)> {
        self.membership.clone()
    }

    /// The newest revision; 1 when fresh.
    pub fn revision(&self) -> Revision {
        self.ledger.revision
    }

    /// The compaction floor: the oldest revision that can be read. `None` if nothing was ever compacted.
    pub fn compacted(&self) -> Option<Revision> {
        self.ledger.floor
    }

    /// The largest leader time that was applied.
    pub fn leader_time(&self) -> crate::command::UnixMillis {
        self.ledger.leader_time
    }

    /// All leases, by id.
    pub fn leases(&self) -> Vec<Lease> {
        self.leases.values().copied().collect()
    }

    /// The records that members published of themselves, by id; members that left stay listed.
    pub fn members(&self) -> Vec<MemberRecord> {
        self.members.values().cloned().collect()
    }

    /// The data directory that a member published itself with.
    pub fn incarnation(&self, member: MemberId) -> Option<Incarnation> {
        self.members.get(&member).map(|record| record.incarnation)
    }

    /// Lets go of what is in memory only to be found faster.
    pub fn forget_resident(&self) {
        self.mvcc.forget_resident();
    }

    /// The bytes that the quota counts: alike on every member, and less after a compaction.
    pub fn logical_bytes(&self) -> u64 {
        self.ledger.logical_bytes
    }

    /// Bytes that the files take on this member. Never less than the rows in them, and never 0: a file system gives a new
    /// file its blocks late, and etcdctl divides by this.
    pub fn disk_bytes(&self) -> u64 {
        self.disk.bytes().max(self.logical_bytes()).max(BLOCK)
    }

    /// The feature level of the cluster, which entries are written for.
    pub fn feature_level(&self) -> u32 {
        self.level
    }

    /// The highest feature level that can be applied here.
    pub fn feature_level_max(&self) -> u32 {
        self.level_max
    }

    /// Bytes applied that wait for the disk. Above a bound of the caller's, wait on [`flushed`](Self::flushed).
    /// 0 once the disk has failed: then the next entry says so.
    pub fn pending_bytes(&self) -> usize {
        self.disk.pending_bytes()
    }

    /// Bytes that the disk may be behind before applying should wait for it: on a small machine fewer, since each is held several
    /// times on its way.
    pub fn pending_bytes_max(&self) -> usize {
        self.pending_bytes_max
    }

    /// Returns when the writer thread has committed something, has failed, or has nothing to do.
    pub fn flushed(&self) -> impl Future<Output = ()> + Send + use<> {
        self.disk.flushed()
    }

    /// Follows the writer thread; a fault in there must stop the process.
    pub fn writing(&self) -> Progress {
        self.disk.progress()
    }

    /// Makes everything applied until now durable, on the writer thread. The log may be purged up to the position that
    /// it answers. Closed without an answer if the state was replaced meanwhile.
    pub fn persist(&self) -> Persisted {
        self.disk.persist(self.ledger.applied)
    }
}
