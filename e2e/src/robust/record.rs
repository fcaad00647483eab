//! All that a run saw, as one value that can be written to a file and judged again.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::check::contents::Contents;
use crate::check::lease::Life;
use crate::check::terms::Sighting;
use crate::check::watch::Seen;
use crate::history::Call;

/// One run. Times count from its start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Record {
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Every call of the key-value clients.
    pub calls: Vec<Call>,
    /// Writes and reads of keys that leases hold.
    #[serde(default)]
    pub held: Vec<Call>,
    /// Every watcher.
    pub watchers: Vec<Watcher>,
    /// Every lease.
    pub tenancies: Vec<Tenancy>,
    /// The members' reports of themselves.
    pub sightings: Vec<Sighting>,
    /// From when to when a fault was there, or its consequences.
    pub troubled: Vec<(Duration, Duration)>,
    /// The contents of each member at the end.
    pub contents: Vec<Contents>,
    /// The last lines of each member's log, for a person to read.
    pub logs: Vec<(String, Vec<String>)>,
}

/// A watcher, and what it was for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Watcher {
    /// The responses that it was sent.
    pub seen: Seen,
    /// The revision up to which it must have seen everything; 0 for one that ended on the way.
    pub owed: i64,
    /// Whether it watched the whole store.
    pub is_whole: bool,
}

impl Watcher {
    /// Up to where it was told everything.
    #[must_use]
    pub fn reached(&self) -> i64 {
        let last = |response: &coord_proto::etcd::etcdserverpb::WatchResponse| {
            let header = response.header.as_ref().map_or(0, |header| header.revision);
            let event = response.events.last().and_then(|event| event.kv.as_ref());
            event.map_or(header, |kv| kv.mod_revision)
        };
        self.seen.responses.iter().map(last).max().unwrap_or(0)
    }
}

/// A lease, and the keys it was given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Tenancy {
    /// The life of the lease and of its first key.
    pub life: Life,
    /// All its keys.
    pub keys: Vec<String>,
}

impl Record {
    /// Writes it to a new file in `folder`, named after scenario and seed.
    pub fn save(&self, folder: &Path) -> Result<PathBuf> {
        std::fs::create_dir_all(folder)?;
        let path = folder.join(format!("{}-{}.json", self.scenario, self.seed));
        let file = File::create(&path).with_context(|| format!("write {}", path.display()))?;
        serde_json::to_writer(BufWriter::new(file), self)?;
        Ok(path)
    }

    /// Reads what [`Record::save`] wrote.
    pub fn load(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        Ok(serde_json::from_reader(BufReader::new(file))?)
    }
}
