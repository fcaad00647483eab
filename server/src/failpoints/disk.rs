//! A disk that is slow when told to, and that forgets what was not synced when the process is killed.
//!
//! A kill leaves what the operating system was given; a power cut does not. With `COORD_FAILPOINT_POWER_CUT` set,
//! unsynced bytes stay in this process, so that SIGKILL does to them what a power cut does. The state store hands rows
//! over only to be synced, and the bug [`AckBeforeFsync`](super::Bug::AckBeforeFsync) keeps the log's writes here. With
//! `COORD_FAILPOINT_SLOW_DISK=FILE` every write of the log takes as many milliseconds longer as the file says.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

/// How much longer a write of the log takes now.
pub fn write_delay() -> Duration {
    static FILE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let file = FILE.get_or_init(|| std::env::var_os("COORD_FAILPOINT_SLOW_DISK").map(Into::into));
    let millis = file
        .as_ref()
        .and_then(|file| std::fs::read_to_string(file).ok())
        .and_then(|text| text.trim().parse().ok());
    Duration::from_millis(millis.unwrap_or(0))
}

/// Whether a kill is to be a power cut.
pub fn is_power_cut() -> bool {
    static SET: OnceLock<bool> = OnceLock::new();
    *SET.get_or_init(|| std::env::var_os("COORD_FAILPOINT_POWER_CUT").is_some())
}
