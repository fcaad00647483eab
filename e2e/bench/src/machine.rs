//! The conditions without which a figure means nothing: the machine, the disk, the date, the versions.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::histogram::Histogram;

/// Facts of one run.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Day of the run, UTC.
    pub date: String,
    /// Processor model and number of cores.
    pub processor: String,
    /// Memory in GB (10^9).
    pub memory_gigabytes: f64,
    /// Kernel and its version.
    pub kernel: String,
    /// Median of an fdatasync after writing 4 KiB to the end of a file, in milliseconds.
    pub sync_millis: f64,
    /// The version that Coord's executable reports.
    pub ours: String,
    /// The version that etcd's reports.
    pub theirs: String,
    /// The commit the benchmark was started from, with a mark if files were changed since.
    pub commit: String,
}

impl Facts {
    /// Collects them; `dir` is where the data will be.
    pub fn collect(dir: &Path, ours: &str, theirs: &str) -> Result<Self> {
        let model = after_colon("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
        let cores = std::thread::available_parallelism()?;
        let memory_kib: f64 = after_colon("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .context("no MemTotal")?;
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
        Ok(Self {
            date: jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
            processor: format!("{model}, {cores} cores"),
            memory_gigabytes: memory_kib * 1024.0 / 1e9,
            kernel: format!("Linux {}", release.trim()),
            sync_millis: sync_millis(dir)?,
            ours: ours.to_owned(),
            theirs: theirs.to_owned(),
            commit: git(&["describe", "--always", "--dirty", "--exclude=*"])
                .unwrap_or_else(|| "unknown".into()),
        })
    }
}

fn after_colon(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

fn sync_millis(dir: &Path) -> Result<f64> {
    const SYNCS: u32 = 200;
    fs::create_dir_all(dir)?;
    let path = dir.join("sync-probe");
    let mut file = File::create(&path)?;
    let mut times = Histogram::default();
    for _ in 0..SYNCS {
        let started = Instant::now();
        file.write_all(&[1; 4096])?;
        file.sync_data()?;
        times.record(started.elapsed());
    }
    fs::remove_file(&path)?;
    times.quantile_millis(0.5).context("no syncs")
}
