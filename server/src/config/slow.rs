//! `--warning-apply-duration` and `--warning-unary-request-duration`: what is slow enough to be told of.

use std::time::Duration;

use super::{Invalid, duration, invalid};
use crate::cli::Settings;

const UNARY: &str = "warning-unary-request-duration";
const APPLY: &str = "warning-apply-duration";
const UNARY_DEFAULT: Duration = Duration::from_millis(300);
const APPLY_DEFAULT: Duration = Duration::from_millis(100);

/// Calls that take longer are told of in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slow {
    /// A call as its client sees it.
    pub unary: Duration,
    /// A read, or the part of a change in which it is applied.
    pub apply: Duration,
}

impl Default for Slow {
    fn default() -> Self {
        Self {
            unary: UNARY_DEFAULT,
            apply: APPLY_DEFAULT,
        }
    }
}

/// Errors: no duration.
pub(super) fn resolve(settings: &Settings) -> Result<Slow, Invalid> {
    let read = |flag: &'static str, default: Duration| {
        let asked = settings.get(flag).map_or(Ok(default), duration);
        asked.map_err(|why| invalid(flag, why))
    };
    let unary = read(UNARY, UNARY_DEFAULT)?;
    Ok(Slow {
        // As in etcd, 0 is the default here, and below everything.
        unary: if unary.is_zero() {
            UNARY_DEFAULT
        } else {
            unary
        },
        apply: read(APPLY, APPLY_DEFAULT)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_etcds_unless_they_are_given() {
        let slow = |unary: &str, apply: &str| {
            resolve(&Settings::default().with(UNARY, unary).with(APPLY, apply))
        };
        assert_eq!(resolve(&Settings::default()), Ok(Slow::default()));
        let given = slow("2s", "0s").unwrap();
        assert_eq!(
            (given.unary, given.apply),
            (Duration::from_secs(2), Duration::ZERO)
        );
        assert_eq!(slow("0s", "1ms").unwrap().unary, UNARY_DEFAULT);
        assert_eq!(slow("1", "1ms").unwrap_err().flag, UNARY);
        assert_eq!(slow("1s", "-1ms").unwrap_err().flag, APPLY);
    }
}
