//! Both servers, and whether they say the same.

use std::fmt;

use anyhow::{Context, Result};
use coord_e2e::clients::programs;
use coord_e2e::cluster::process::Program;
use coord_e2e::cluster::{Cluster, Kind};
use serde_json::Value;
use tempfile::TempDir;

use super::alter::Alteration;
use super::generate::Seen;
use super::operation::Operation;
use super::side::Side;
use super::watching::Stream;

/// bcrypt at its cheapest: what passwords cost is not compared.
const FLAGS: [(&str, &str); 1] = [("bcrypt-cost", "4")];
/// Memory as files, and the bytes that must be left there: each server takes 70 MiB, most of it never written.
const MEMORY: &str = "/dev/shm";
const MEMORY_BYTES_MIN: u64 = 4 << 30;
/// Looked at this often at least.
const SETTLE_AFTER: u32 = 50;

/// The two did not say the same.
#[derive(Clone, Debug)]
pub(crate) struct Difference {
    pub(crate) at: String,
    pub(crate) etcd: Value,
    pub(crate) coord: Value,
}

impl Difference {
    /// Whether this one is of the same kind as another: about the same method, with the same refusals.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        let kind = |difference: &Self| {
            let Self { at, etcd, coord } = difference;
            let method = at.split(' ').find(|word| word.starts_with('/'));
            let words = |answer: &Value| answer["message"].as_str().map(str::to_owned);
            (method.map(str::to_owned), words(etcd), words(coord))
        };
        kind(self) == kind(other)
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, etcd, coord } = self;
        write!(f, "{at}\n  etcd:  {etcd}\n  coord: {coord}")
    }
}

pub(crate) struct Pair {
    etcd: Side,
    coord: Side,
    /// After the servers that keep their data in them.
    _folders: [TempDir; 2],
    seen: Seen,
    since_settled: u32,
    alteration: Option<Alteration>,
}

impl Pair {
    pub(crate) async fn start() -> Result<Self> {
        let mut etcd = Cluster::new(Kind::Processes(1), &FLAGS)?;
        let mut coord = Cluster::new(Kind::Processes(1), &FLAGS)?;
        let folders = [folder()?, folder()?];
        for (cluster, folder) in [&mut etcd, &mut coord].into_iter().zip(&folders) {
            let place = folder.path().join("data");
            cluster.set_flag(0, "data-dir", &place.display().to_string());
        }
        // Its data need not outlive the test, and a disk's leisure is not compared.
        etcd.set_flag(0, "unsafe-no-fsync", "true");
        etcd.set_program(Program {
            path: Some(programs::etcd()?),
            ..Program::default()
        });
        etcd.spawn(0)?;
        coord.spawn(0)?;
        etcd.ready(0).await?;
        coord.ready(0).await?;
        Ok(Self {
            etcd: Side::new(etcd).await?,
            coord: Side::new(coord).await?,
            _folders: folders,
            seen: Seen {
                revision: 1,
                ..Seen::default()
            },
            since_settled: 0,
            alteration: None,
        })
    }

    /// The servers as far as they were seen.
    pub(crate) fn seen(&self) -> Seen {
        self.seen
    }

    /// From now on what Coord says is altered.
    pub(crate) fn alter(&mut self, alteration: Option<Alteration>) {
        self.alteration = alteration;
    }

    /// Does one operation to both.
    ///
    /// Errors: the test itself cannot go on. Otherwise whether the two said the same.
    pub(crate) async fn apply(&mut self, operation: &Operation) -> Result<Result<(), Difference>> {
        let at = operation.to_string();
        match operation {
            Operation::Call { who, path, request } => {
                // A watcher's news after a compaction depend on how far it was before.
                let is_compaction = path.ends_with("/Compact");
                if (is_compaction || self.since_settled >= SETTLE_AFTER)
                    && let Err(difference) = self.settle(&at).await?
                {
                    return Ok(Err(difference));
                }
                self.since_settled += 1;
                let (etcd, coord) = tokio::join!(
                    self.etcd.call(*who, path, request),
                    self.coord.call(*who, path, request)
                );
                let (etcd, mut coord) = (etcd.context(at.clone())?, coord.context(at.clone())?);
                self.see(path, request, &etcd);
                if let Some(alteration) = self.alteration {
                    alteration.reply(path, &mut coord);
                }
                Ok(same(path, at, etcd, coord))
            }
            Operation::Open { stream, who } => {
                for side in [&mut self.etcd, &mut self.coord] {
                    side.streams.remove(stream);
                    let opened = Stream::open(side, *who).await.context(at.clone())?;
                    side.streams.insert(*stream, opened);
                }
                self.settle(&at).await
            }
            Operation::Watch { stream, create } => {
                let create = &begun(create, self.seen.revision);
                for side in [&mut self.etcd, &mut self.coord] {
                    if let Some(mut watches) = side.streams.remove(stream) {
                        let watched = watches.watch(side, create).await;
                        side.streams.insert(*stream, watches);
                        watched.context(at.clone())?;
                    }
                }
                Ok(Ok(()))
            }
            Operation::Cancel { stream, id } => {
                // All that is told before it ends is told by then.
                if let Err(difference) = self.settle(&at).await? {
                    return Ok(Err(difference));
                }
                for side in [&mut self.etcd, &mut self.coord] {
                    if let Some(watches) = side.streams.get_mut(stream) {
                        watches.cancel(*id).await?;
                    }
                }
                self.settle(&at).await
            }
            Operation::Settle => self.settle(&at).await,
        }
    }

    /// Waits until all streams have told all, and compares what they told.
    async fn settle(&mut self, at: &str) -> Result<Result<(), Difference>> {
        self.since_settled = 0;
        let revision = self.seen.revision;
        for (name, side) in [("etcd", &mut self.etcd), ("coord", &mut self.coord)] {
            let mut streams = std::mem::take(&mut side.streams);
            for (number, stream) in &mut streams {
                let settled = stream.settle(side, revision).await;
                settled.with_context(|| format!("{name}, stream {number}, before: {at}"))?;
            }
            side.streams = streams;
        }
        for (number, etcd) in &mut self.etcd.streams {
            let Some(coord) = self.coord.streams.get_mut(number) else {
                continue;
            };
            let (etcd, mut coord) = (
                std::mem::take(&mut etcd.told),
                std::mem::take(&mut coord.told),
            );
            if let Some(alteration) = self.alteration {
                coord.values_mut().for_each(|told| alteration.events(told));
            }
            if etcd != coord {
                return Ok(Err(Difference {
                    at: format!("what stream {number} told, before: {at}"),
                    etcd: serde_json::to_value(etcd)?,
                    coord: serde_json::to_value(coord)?,
                }));
            }
        }
        Ok(Ok(()))
    }

    fn see(&mut self, path: &str, request: &Value, answer: &Value) {
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<i64>().ok());
        if let Some(revision) = number(&answer["header"]["revision"]) {
            self.seen.revision = self.seen.revision.max(revision);
        }
        self.seen.leases = self.etcd.leases.len();
        let is_done = answer.get("code").is_none();
        match path.rsplit('/').next() {
            Some("Compact") if is_done => {
                self.seen.compacted_before = self.seen.compacted;
                self.seen.compacted = number(&request["revision"]).unwrap_or(0);
            }
            Some("AuthEnable") if is_done => self.seen.has_auth = true,
            Some("AuthDisable") if is_done => self.seen.has_auth = false,
            _ => {}
        }
    }
}

/// A folder for one server: in memory where there is room.
fn folder() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("coord-differential-");
    let room = rustix::fs::statvfs(MEMORY).map(|memory| memory.f_bavail * memory.f_frsize);
    if room.is_ok_and(|bytes| bytes >= MEMORY_BYTES_MIN)
        && let Ok(folder) = builder.tempdir_in(MEMORY)
    {
        return Ok(folder);
    }
    Ok(builder.tempdir()?)
}

/// A watcher that begins at `newest` at the latest: etcd tells a stream of no progress as long as one of its watchers begins later. The
/// generator makes none, but a shortened sequence has fewer revisions than the one it is of.
fn begun(create: &Value, newest: i64) -> Value {
    let mut create = create.clone();
    let start = create["start_revision"]
        .as_str()
        .and_then(|text| text.parse::<i64>().ok());
    if start.is_some_and(|start| start > newest) {
        create["start_revision"] = Value::String(newest.to_string());
    }
    create
}

fn same(path: &str, at: String, mut etcd: Value, coord: Value) -> Result<(), Difference> {
    let left = |value: &Value| {
        value["TTL"]
            .as_str()
            .and_then(|ttl| ttl.parse::<i64>().ok())
    };
    if path.ends_with("/LeaseTimeToLive")
        && let (Some(one), Some(other)) = (left(&etcd), left(&coord))
        && one.abs_diff(other) <= 1
    {
        etcd["TTL"] = coord["TTL"].clone();
    }
    match etcd == coord {
        true => Ok(()),
        false => Err(Difference { at, etcd, coord }),
    }
}
