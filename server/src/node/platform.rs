//! A member's platform: where its log and its state are, how it reaches others, and how much log it keeps.
//!
//! In production all of it is the operating system's. A simulation brings its own and runs the same member on it.

use std::path::PathBuf;

use super::{Stop, directory, memory};
use crate::budget::Budget;
use crate::command::Fault;
use crate::config::{self, Config};
use crate::disk::MemoryRows;
use crate::network::Network;
use crate::offload::Offload;
use crate::raft::Limits;
use crate::scratch;
use crate::state::{StatePlace, resident_bytes_max};
use crate::wal::{self, Wal};

/// A member's platform.
pub struct Platform {
    /// Raft's log.
    pub log: LogPlace,
    /// The state store.
    pub state: StatePlace,
    /// How others are reached, and reach this member.
    pub network: Network,
    /// Where work that waits for a disk is done.
    pub offload: Offload,
    /// How much log is kept.
    pub limits: Limits,
    /// Memory that the process may take.
    pub memory_bytes: u64,
    /// Held for as long as the process may write.
    pub(super) lock: Option<directory::Lock>,
}

/// Where the log is.
#[derive(Clone)]
pub enum LogPlace {
    /// In this data directory.
    Directory(PathBuf),
    /// On a simulated machine.
    Simulated(wal::Place),
}

impl Platform {
    /// The operating system's: takes the data directory, and waits a little for it.
    ///
    /// Errors: as of a directory that is another's, or cannot be made; `Usage` if it is empty and nothing can be begun in it.
    pub(super) async fn of(config: &Config) -> Result<Self, Stop> {
        if let Some(unfit) = &config.initial.unfit
            && !directory::has_data(&config.data_dir)?
        {
            // Before anything is written.
            return Err(unfit.clone().into());
        }
        let lock = directory::open(&config.data_dir).await?;
        let memory_bytes = memory::available_bytes();
        warn_of_large_requests(config, memory_bytes);
        Ok(Self {
            log: LogPlace::Directory(config.data_dir.clone()),
            state: StatePlace::Directory {
                path: directory::state(&config.data_dir),
                resident_bytes_max: resident_bytes_max(memory_bytes),
            },
            network: Network::Sockets,
            offload: Offload::Threads,
            limits: Limits {
                entries: config.catchup_entries,
                ..Limits::default()
            },
            memory_bytes,
            lock: Some(lock),
        })
    }

    /// The data directory, if this machine has one.
    pub(super) fn scratch(&self) -> Option<scratch::Room> {
        match &self.log {
            LogPlace::Directory(data_dir) => {
                Some(scratch::Room::new(data_dir.clone(), self.memory_bytes))
            }
            LogPlace::Simulated(_) => None,
        }
    }

    /// A simulated machine. Only a build with the feature `simulation` has what it stands on.
    pub fn simulated(log: wal::Place, rows: MemoryRows, network: Network, limits: Limits) -> Self {
        Self {
            log: LogPlace::Simulated(log),
            state: StatePlace::Memory(Some(rows)),
            network,
            offload: Offload::Inline,
            limits,
            memory_bytes: u64::MAX,
            lock: None,
        }
    }
}

/// The largest request fits into an entry with what is around it: operations are encoded in about as many bytes as they
/// came in, and a principal has a name.
const _: () = assert!(config::REQUEST_BYTES_MAX + (8 << 20) <= wal::ENTRY_BYTES_MAX);

/// Says what large requests may cost, where they are allowed.
fn warn_of_large_requests(config: &Config, memory_bytes: u64) {
    if let Some((bytes, recommended)) = config.requests.above_recommended() {
        tracing::warn!(
            "max-request-bytes" = bytes,
            "recommended-request-bytes" = recommended,
            "exceeded recommended request limit",
        );
    }
    let room = Budget::of(memory_bytes).request_bytes_max();
    if config.requests.bytes_max > room {
        tracing::warn!(
            "max-request-bytes" = config.requests.bytes_max,
            room_bytes = room,
            "requests above room_bytes are refused with too many requests: the machine has too little memory for them",
        );
    }
}

impl LogPlace {
    /// Whether a member has lived here.
    ///
    /// Errors: `Corrupt` if its log is gone as a whole.
    pub(super) fn has_log(&self) -> Result<bool, Fault> {
        match self {
            Self::Directory(data_dir) => directory::has_data(data_dir),
            Self::Simulated(place) => Ok(place.has_log()),
        }
    }

    pub(super) fn create(&self, identity: wal::Identity) -> Result<Wal, Fault> {
        match self {
            Self::Directory(data_dir) => {
                Wal::create(&directory::wal(data_dir), &identity, Self::options())
            }
            Self::Simulated(place) => place.create(identity),
        }
    }

    pub(super) fn open(&self) -> Result<Wal, Fault> {
        match self {
            Self::Directory(data_dir) => Wal::open(&directory::wal(data_dir), Self::options()),
            Self::Simulated(place) => place.open(),
        }
    }

    fn options() -> wal::Options {
        wal::Options::of(memory::available_bytes())
    }
}
