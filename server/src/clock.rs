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

/// A time as log lines have it: `2026-12-01T05:00:25.123Z`.
pub fn rfc3339(time: UnixMillis) -> String {
    let (days, of_day) = (time.0 / 86_400_000, time.0 % 86_400_000);
    // Years that begin in March end with the day that may be missing. Source: H. Hinnant, chrono-compatible date algorithms.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, millis) = (of_day / 1000 % 60, of_day % 1000);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// The wall clock.
#[expect(clippy::disallowed_types, reason = "this file is the clock")]
pub fn wall() -> UnixMillis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixMillis(since.map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_as_its_date() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (1_796_135_999_999, "2026-12-01T14:39:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(rfc3339(UnixMillis(millis)), text);
        }
    }
}
