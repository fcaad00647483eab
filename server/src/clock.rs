//! The wall clock, and moments of the monotonic one. Deadlines inside a room may use tokio's `Instant`; std's clocks are
//! named nowhere else (`clippy.toml`).

use std::time::Duration;

use crate::command::UnixMillis;

/// A moment of the monotonic clock; only differences mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(tokio::time::Instant);

impl Moment {
    /// Now. Follows a paused tokio clock, so that tests and simulation decide what time it is.
    pub fn now() -> Self {
        Self(tokio::time::Instant::now())
    }

    /// This moment plus `duration`.
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0 + duration)
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_duration_since(earlier.0)
    }

    /// For `tokio::time::sleep_until`.
    pub fn instant(self) -> tokio::time::Instant {
        self.0
    }
}

/// The wall clock.
#[expect(clippy::disallowed_types, reason = "this file is the clock")]
pub fn wall() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixMillis(since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }))
}
