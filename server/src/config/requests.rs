//! Bounds on clients' requests, and how often watchers hear that nothing has changed.

use std::time::Duration;

use super::{Invalid, duration, invalid};
use crate::cli::Settings;

/// etcd's default of `--max-request-bytes`.
const REQUEST_BYTES_DEFAULT: usize = 1536 * 1024;
/// Bytes of a request, at most, whatever the setting: every member's log and messages must have room for it.
pub const REQUEST_BYTES_MAX: usize = 128 << 20;
/// Above this etcd warns.
const REQUEST_BYTES_RECOMMENDED: usize = 10 << 20;
/// etcd's default of `--max-txn-ops`.
const TXN_OPS_DEFAULT: usize = 128;
/// etcd's default of `--watch-progress-notify-interval`, and the least that it can be.
const PROGRESS_DEFAULT: Duration = Duration::from_secs(600);
const PROGRESS_MIN: Duration = Duration::from_millis(100);

/// Bounds on clients' requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests {
    /// Bytes of a request that changes something.
    pub bytes_max: usize,
    /// Operations in each list of a transaction.
    pub txn_ops_max: usize,
    /// How often watchers that asked for it are told that nothing has changed.
    pub progress_interval: Duration,
    /// Whether the common name of a certificate says who asks, where no token does: with `--client-cert-auth`.
    pub common_names_are_users: bool,
}

impl Requests {
    /// The warning of etcd for a bound that is larger than it recommends: the bound, and the recommended one.
    pub fn above_recommended(&self) -> Option<(usize, usize)> {
        let is_above = self.bytes_max > REQUEST_BYTES_RECOMMENDED;
        is_above.then_some((self.bytes_max, REQUEST_BYTES_RECOMMENDED))
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self {
            bytes_max: REQUEST_BYTES_DEFAULT,
            txn_ops_max: TXN_OPS_DEFAULT,
            progress_interval: PROGRESS_DEFAULT,
            common_names_are_users: false,
        }
    }
}

/// The bounds that the settings ask for.
pub(super) fn resolve(settings: &Settings) -> Result<Requests, Invalid> {
    const BYTES: &str = "max-request-bytes";
    const OPS: &str = "max-txn-ops";
    const PROGRESS: &str = "watch-progress-notify-interval";
    let number = |flag: &'static str, default: usize| {
        let text = settings.get(flag);
        text.map_or(Ok(default), str::parse)
            .map_err(|_| invalid(flag, "must be a whole number"))
    };
    let bytes_max = number(BYTES, REQUEST_BYTES_DEFAULT)?;
    if bytes_max > REQUEST_BYTES_MAX {
        let why =
            format!("{bytes_max} is more than a member's log takes: at most {REQUEST_BYTES_MAX}");
        return Err(invalid(BYTES, why));
    }
    let progress = settings.get(PROGRESS);
    let progress = progress.map_or(Ok(PROGRESS_DEFAULT), duration);
    Ok(Requests {
        bytes_max,
        txn_ops_max: number(OPS, TXN_OPS_DEFAULT)?,
        progress_interval: progress
            .map_err(|why| invalid(PROGRESS, why))?
            .max(PROGRESS_MIN),
        common_names_are_users: settings.get("client-cert-auth") == Some("true"),
    })
}
