use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

/// The product that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Coord.
    Ours,
    /// etcd.
    Theirs,
}

impl Side {
    /// Both, ours first.
    pub const BOTH: [Self; 2] = [Self::Ours, Self::Theirs];
}

impl fmt::Display for Side {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Ours => "coord",
            Self::Theirs => "etcd",
        })
    }
}

/// A server's executable.
#[derive(Clone, Debug)]
pub struct Program {
    /// The product that it is.
    pub side: Side,
    /// Where it is.
    pub path: PathBuf,
    /// The version that it reports.
    pub version: String,
    /// Flags of its members beyond their names, places and addresses.
    pub flags: Vec<String>,
}

impl Program {
    /// Asks the executable for its version.
    pub fn find(side: Side, path: &Path) -> Result<Self> {
        let output = Command::new(path)
            .arg("--version")
            .output()
            .with_context(|| format!("run {} --version", path.display()))?;
        ensure!(
            output.status.success(),
            "{} --version failed",
            path.display()
        );
        let text = String::from_utf8_lossy(&output.stdout);
        // Coord also says which etcd it stands in for; its own line comes later.
        let line = text
            .lines()
            .find(|line| line.starts_with("Coord Version"))
            .or_else(|| text.lines().next())
            .unwrap_or("unknown");
        Ok(Self {
            side,
            path: path.to_owned(),
            version: line.replace(" Version:", ""),
            flags: Vec::new(),
        })
    }
}

/// The etcd that was built for the benchmark, else the newest built for the local Kubernetes; both are kept below
/// cargo's target directory.
pub fn built_etcd(target: &Path) -> Result<PathBuf> {
    let own = target.join("release/etcd");
    if own.is_file() {
        return Ok(own);
    }
    let tools = target.join("kubernetes/tools");
    let mut found: Vec<_> = std::fs::read_dir(&tools)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("etcd-"))
        .map(|entry| entry.path().join("etcd"))
        .filter(|path| path.is_file())
        .collect();
    found.sort_by_key(|path| path.metadata().and_then(|facts| facts.modified()).ok());
    match found.pop() {
        Some(path) => Ok(path),
        None => bail!(
            "no etcd under {}; 'make bench' builds it, or name one with --etcd",
            tools.display()
        ),
    }
}
