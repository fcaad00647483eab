//! `--auto-compaction-mode` and `--auto-compaction-retention`.

use std::time::Duration;

use super::{Invalid, duration, invalid};
use crate::cli::Settings;

const MODE: &str = "auto-compaction-mode";
const RETENTION: &str = "auto-compaction-retention";

/// How much history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    /// Keep the changes of this time, not zero.
    Period(Duration),
    /// Keep this number of revisions, not zero.
    Revisions(u64),
}

/// The mode that the settings ask for; `None` keeps all history. A bare number is hours, or revisions.
///
/// Errors: as etcd, an unknown mode and a retention that is none.
pub(super) fn resolve(settings: &Settings) -> Result<Option<AutoCompaction>, Invalid> {
    let retention = settings.get(RETENTION).unwrap_or("0");
    let number = retention.parse::<u64>();
    let keep = match settings.get(MODE).unwrap_or("periodic") {
        "periodic" => AutoCompaction::Period(match number {
            Ok(hours) => hours
                .checked_mul(3600)
                .map(Duration::from_secs)
                .ok_or_else(|| invalid(RETENTION, format!("'{retention}' is too long")))?,
            Err(_) => duration(retention).map_err(|why| invalid(RETENTION, why))?,
        }),
        "revision" => AutoCompaction::Revisions(number.map_err(|_| {
            let why = format!("'{retention}' is not a number of revisions");
            invalid(RETENTION, why)
        })?),
        other => {
            let why = format!("unexpected value '{other}', use 'periodic' or 'revision'");
            return Err(invalid(MODE, why));
        }
    };
    let keeps_all = match keep {
        AutoCompaction::Period(period) => period.is_zero(),
        AutoCompaction::Revisions(revisions) => revisions == 0,
    };
    Ok((!keeps_all).then_some(keep))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keep(mode: &str, retention: &str) -> Result<Option<AutoCompaction>, Invalid> {
        let settings = Settings::default()
            .with(MODE, mode)
            .with(RETENTION, retention);
        resolve(&settings)
    }

    #[test]
    fn a_number_is_hours_or_revisions_and_zero_keeps_all() {
        let minutes =
            |minutes: u64| Some(AutoCompaction::Period(Duration::from_secs(minutes * 60)));
        assert_eq!(keep("periodic", "2"), Ok(minutes(120)));
        assert_eq!(keep("periodic", "30m"), Ok(minutes(30)));
        assert_eq!(
            keep("revision", "1000"),
            Ok(Some(AutoCompaction::Revisions(1000)))
        );
        for zero in ["0", "0s"] {
            assert_eq!(keep("periodic", zero), Ok(None));
        }
        assert_eq!(keep("revision", "0"), Ok(None));
        assert_eq!(resolve(&Settings::default()), Ok(None));
        for (mode, retention) in [("often", "1"), ("periodic", "-1"), ("revision", "1h")] {
            assert!(keep(mode, retention).is_err(), "{mode} {retention}");
        }
    }
}
