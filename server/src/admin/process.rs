//! The kernel's figures of this process, from `/proc`.

use std::fs;

/// Ticks per second in `/proc`, the same on every Linux whatever its timer runs at.
const TICKS_PER_SECOND: f64 = 100.0;
/// Bytes of a page in `/proc/self/statm`, on the machines this is built for.
const PAGE_BYTES: u64 = 4096;

/// One look at the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: u64,
    pub(super) open_files: u64,
    pub(super) open_files_max: u64,
}

impl Process {
    /// Reads what can be read; the rest stays zero.
    pub(super) fn now() -> Self {
        let read =
            |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
        Self {
            cpu_seconds: cpu_seconds(&read("stat")).unwrap_or_default(),
            resident_bytes: resident_bytes(&read("statm")).unwrap_or_default(),
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            open_files_max: open_files_max(&read("limits")).unwrap_or_default(),
        }
    }
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name in brackets may hold anything; numbers follow, user and system time the 12th and 13th.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn resident_bytes(statm: &str) -> Option<u64> {
    let pages: u64 = statm.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

fn open_files_max(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_used_something() {
        let process = Process::now();
        assert!(process.resident_bytes > 100_000, "{process:?}");
        assert!(process.open_files > 2, "{process:?}");
        assert!(process.open_files_max > 2, "{process:?}");
    }

    #[test]
    fn no_limit_is_no_small_one() {
        let line = |soft| format!("Max open files            {soft}       1048576    files\n");
        assert_eq!(open_files_max(&line("4096")), Some(4096));
        assert_eq!(open_files_max(&line("unlimited")), Some(u64::MAX));
    }

    #[test]
    fn a_name_with_brackets_does_not_shift_the_times() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 1 2 3 4 150 50 0 0 20 0 1 0 1 2 3";
        assert_eq!(cpu_seconds(stat), Some(2.0));
    }
}
