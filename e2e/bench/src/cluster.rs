//! One side's members as processes on loopback, with their defaults, and the connections to them.

mod member;
mod program;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use coord_proto::etcd::etcdserverpb::{StatusRequest, StatusResponse};

pub use member::Member;
pub use program::{Program, Side, built_etcd};

use crate::gauge::Usage;
use crate::wire::{Connection, Rpc};

/// Starting, electing and catching up take at most this.
const PATIENCE: Duration = Duration::from_secs(60);

/// Running members that know each other.
pub struct Cluster {
    /// The program that they run.
    pub program: Program,
    /// In the order of their names.
    pub members: Vec<Member>,
    dir: PathBuf,
}

impl Cluster {
    /// Starts `nodes` fresh members with their data under `dir` and waits until each answers a linearizable read.
    pub async fn start(program: &Program, nodes: usize, dir: &Path) -> Result<Self> {
        let mut cluster = Self::plan(program, nodes, dir)?;
        for member in &mut cluster.members {
            member.spawn()?;
        }
        for member in &mut cluster.members {
            member.ready(PATIENCE).await?;
        }
        Ok(cluster)
    }

    /// `nodes` fresh members of which none runs yet.
    pub fn plan(program: &Program, nodes: usize, dir: &Path) -> Result<Self> {
        Ok(Self {
            program: program.clone(),
            members: Member::plan(program, nodes, dir)?,
            dir: dir.to_owned(),
        })
    }

    /// `count` connections, spread over all members in turn.
    pub async fn connections(&self, count: usize) -> Result<Vec<Connection>> {
        let mut connections = Vec::with_capacity(count);
        for member in self.members.iter().cycle().take(count) {
            connections.push(Connection::open(member.client_port).await?);
        }
        Ok(connections)
    }

    /// The index of the member that leads.
    pub async fn leader(&self) -> Result<usize> {
        let started = Instant::now();
        loop {
            for (index, member) in self.members.iter().enumerate() {
                let Ok(status) = member.status().await else {
                    continue;
                };
                if status.leader != 0 && status.leader == member_id(&status) {
                    return Ok(index);
                }
            }
            ensure!(started.elapsed() < PATIENCE, "no member leads");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until all members have applied the same revision, which is then returned with the time it took.
    pub async fn settle(&self) -> Result<(i64, Duration)> {
        let started = Instant::now();
        loop {
            let mut revisions = Vec::new();
            for member in &self.members {
                if let Ok(status) = member.status().await {
                    revisions.push(revision(&status));
                }
            }
            if revisions.len() == self.members.len()
                && revisions.iter().all(|revision| *revision == revisions[0])
            {
                return Ok((revisions[0], started.elapsed()));
            }
            ensure!(
                started.elapsed() < PATIENCE,
                "the members stay apart: revisions {revisions:?}"
            );
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Cluster {
    /// Waits until no member writes to its disk any more, but for a trickle; not for ever, some always do.
    pub async fn rest(&self) -> Result<()> {
        const TRICKLE_BYTES: u64 = 256 << 10;
        const LOOK: Duration = Duration::from_secs(1);
        const LOOKS_MAX: usize = 20;
        let mut before = 0;
        for _ in 0..LOOKS_MAX {
            let mut written = 0;
            for member in &self.members {
                written += Usage::of(member.pid()?)?.disk_bytes;
            }
            if written < before + TRICKLE_BYTES {
                return Ok(());
            }
            before = written;
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            member.kill();
        }
        // The files are of no use to anyone after the run, and there may be gigabytes of them.
        if let Err(error) = std::fs::remove_dir_all(&self.dir) {
            eprintln!("could not remove {}: {error}", self.dir.display());
        }
    }
}

/// The member that answered.
pub fn member_id(status: &StatusResponse) -> u64 {
    status.header.as_ref().map_or(0, |header| header.member_id)
}

/// The revision the member had applied when it answered.
pub fn revision(status: &StatusResponse) -> i64 {
    status.header.as_ref().map_or(0, |header| header.revision)
}

/// Asks over `connection`.
pub async fn status(connection: &Connection) -> Result<StatusResponse> {
    connection
        .call(Rpc::Status, &StatusRequest {})
        .await
        .context("Status")
}
