//! The kernel's counters: per process and for the whole machine, from `/proc`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

/// `USER_HZ`, the unit of times in `/proc`; 100 on every Linux that this runs on.
const TICKS_PER_SECOND: u64 = 100;

/// A process's counters since it started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// User and system time of all its threads, those that ended included.
    pub cpu: Duration,
    /// Bytes it caused to be written to disk: a dirtied page counts whole.
    pub disk_bytes: u64,
    /// Memory now.
    pub resident_bytes: u64,
    /// The most memory it ever had.
    pub resident_bytes_max: u64,
}

impl Usage {
    /// Reads the counters of `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let read = |file: &str| {
            fs::read_to_string(format!("/proc/{pid}/{file}"))
                .with_context(|| format!("read {file} of process {pid}; has it ended?"))
        };
        let (stat, io, status) = (read("stat")?, read("io")?, read("status")?);
        // The name in parentheses may hold anything, so count from its end: utime and stime are fields 14 and 15.
        let after_name = stat.rsplit_once(')').context("stat has no name")?.1;
        let ticks = |nth: usize| -> Result<u64> {
            let field = after_name.split_whitespace().nth(nth);
            Ok(field.context("stat is short")?.parse()?)
        };
        Ok(Self {
            cpu: Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / TICKS_PER_SECOND),
            disk_bytes: number_after(&io, "write_bytes:")?,
            resident_bytes: number_after(&status, "VmRSS:")? * 1024,
            resident_bytes_max: number_after(&status, "VmHWM:")? * 1024,
        })
    }
}

fn number_after(text: &str, name: &str) -> Result<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no {name} in /proc"))
}

/// The machine's processor time since boot, in ticks over all cores.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processors {
    total: u64,
    idle: u64,
    stolen: u64,
}

impl Processors {
    /// Reads the counters.
    pub fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("empty /proc/stat")?;
        let ticks: Vec<u64> = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .map_while(|word| word.parse().ok())
            .collect();
        anyhow::ensure!(ticks.len() == 8, "/proc/stat has no steal column");
        Ok(Self {
            total: ticks.iter().sum(),
            idle: ticks[3] + ticks[4],
            stolen: ticks[7],
        })
    }

    /// Time between `self` and `later` that somebody used, as seconds.
    fn busy_seconds(self, later: Self) -> f64 {
        let idle = later.idle - self.idle;
        let stolen = later.stolen - self.stolen;
        (later.total - self.total).saturating_sub(idle + stolen) as f64 / TICKS_PER_SECOND as f64
    }

    /// How much of the machine was not ours between `self` and `later`; `known` is the processor time of the
    /// generator and of the servers measured.
    pub fn noise(self, later: Self, known: Duration) -> Noise {
        let total = (later.total - self.total) as f64 / TICKS_PER_SECOND as f64;
        if total == 0.0 {
            return Noise::default();
        }
        let others = (self.busy_seconds(later) - known.as_secs_f64()).max(0.0);
        Noise {
            stolen: (later.stolen - self.stolen) as f64 / TICKS_PER_SECOND as f64 / total,
            others: others / total,
        }
    }
}

/// Shares of the machine, 0 to 1, that went elsewhere during a measurement.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub struct Noise {
    /// Taken by the host.
    pub stolen: f64,
    /// Used by other processes of this machine.
    pub others: f64,
}

impl Noise {
    /// Above this share of steal a round says little.
    const STOLEN_MAX: f64 = 0.08;
    /// Above this share of other load a round says little.
    const OTHERS_MAX: f64 = 0.25;

    /// Whether the round should be read with care.
    pub fn is_high(self) -> bool {
        self.stolen > Self::STOLEN_MAX || self.others > Self::OTHERS_MAX
    }
}

/// Bytes that the files under `dir` occupy on disk.
pub fn disk_bytes(dir: &Path) -> Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        // A file may be renamed or removed while the directory is walked.
        let Ok(entry) = entry else { continue };
        let Ok(facts) = entry.metadata() else {
            continue;
        };
        sum += if facts.is_dir() {
            disk_bytes(&entry.path()).unwrap_or(0)
        } else {
            facts.blocks() * 512
        };
    }
    Ok(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_counters_can_be_read() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident_bytes > 0 && usage.resident_bytes <= usage.resident_bytes_max);
    }

    #[test]
    fn noise_is_what_neither_idle_nor_known() {
        let before = Processors {
            total: 0,
            idle: 0,
            stolen: 0,
        };
        let after = Processors {
            total: 200,
            idle: 50,
            stolen: 20,
        };
        let noise = before.noise(after, Duration::from_secs(1));
        assert!((noise.stolen - 0.1).abs() < 1e-9, "{noise:?}");
        assert!((noise.others - 0.15).abs() < 1e-9, "{noise:?}");
    }
}
