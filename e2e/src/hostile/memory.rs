//! The memory of a process, as the kernel says.

use std::fs;

use anyhow::{Context, Result, ensure};

/// Resident bytes now.
pub fn resident_bytes(process: u32) -> Result<u64> {
    field(process, "VmRSS")
}

/// The most that was ever resident.
pub fn resident_bytes_max(process: u32) -> Result<u64> {
    field(process, "VmHWM")
}

fn field(process: u32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .with_context(|| format!("process {process} has no {name}"))?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes * 1024)
}

/// How much more than at one moment a process may ever hold.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    process: u32,
    before: u64,
    more: u64,
}

impl Bound {
    /// `more` bytes above what it holds now.
    pub fn above_now(process: u32, more: u64) -> Result<Self> {
        // Sets the peak back to what is resident now: proc(5), clear_refs.
        fs::write(format!("/proc/{process}/clear_refs"), "5")?;
        Ok(Self {
            process,
            before: resident_bytes(process)?,
            more,
        })
    }

    /// Fails if it ever held more; returns the growth at its peak.
    pub fn check(&self) -> Result<u64> {
        let peak = resident_bytes_max(self.process)?;
        let grown = peak.saturating_sub(self.before);
        println!(
            "grew by {} KiB from {} KiB",
            grown / 1024,
            self.before / 1024
        );
        ensure!(
            grown <= self.more,
            "a member of {} KiB grew by {} KiB, allowed are {} KiB",
            self.before / 1024,
            grown / 1024,
            self.more / 1024
        );
        Ok(grown)
    }
}
