//! The settings of this member, checked and resolved once.
//!
//! Owns the meaning of the settings: URLs, sizes, durations, the initial cluster. After [`Config::resolve`] no room
//! looks at a flag again.

mod audit;
mod auth;
mod compaction;
mod gates;
mod initial;
mod logging;
mod requests;
mod slow;
mod tls;
mod url;
mod web;

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

pub use audit::Audit;
pub use auth::Auth;
pub use compaction::AutoCompaction;
pub use initial::{Initial, InitialState};
pub use logging::{LogOutput, LogRotation, Logging};
pub use requests::{REQUEST_BYTES_MAX, Requests};
pub use slow::Slow;
pub use tls::Tls;
pub use url::Url;
pub use web::Web;

use crate::cli::Settings;
use crate::go_duration;

/// etcd's default when `--quota-backend-bytes` is 0.
const QUOTA_BYTES_DEFAULT: u64 = 2 * 1024 * 1024 * 1024;
/// At 10,000 entries a second, half a minute; at the 1,000 that gathering makes of a busy cluster, minutes.
const CATCHUP_ENTRIES_DEFAULT: u64 = 300_000;
/// etcd's bound on `--election-timeout`.
const ELECTION_MILLIS_MAX: u64 = 50_000;

/// One member's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Human-readable name.
    pub name: String,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// The side that clients use.
    pub client: Side,
    /// The side that members use.
    pub peer: Side,
    /// How the cluster comes about. Looked at only while the data directory is empty.
    pub initial: Initial,
    /// Time between heartbeats.
    pub heartbeat: Duration,
    /// etcd's election timeout.
    pub election: Duration,
    /// Stored bytes above which writes are refused; `None` is no limit.
    pub quota_bytes: Option<u64>,
    /// How much history the leader keeps; `None` is all.
    pub auto_compaction: Option<AutoCompaction>,
    /// Bounds on clients' requests.
    pub requests: Requests,
    /// The services over plain HTTP, and the origins and hosts that may use them.
    pub web: Web,
    /// Calls and streams at once on one client connection; 0 is no bound of the setting.
    pub streams_max: u32,
    /// Addresses where clients' plain HTTP is served alone, and no longer beside gRPC; may be none.
    pub http_listen: Vec<Url>,
    /// Addresses where the pages are served alone; may be none.
    pub metrics_listen: Vec<Url>,
    /// Whether the time of each call is measured.
    pub times_calls: bool,
    /// Log entries kept for members that are behind.
    pub catchup_entries: u64,
    /// Log lines.
    pub logging: Logging,
    /// The measures against members that differ, beyond that they stop.
    pub corruption: Corruption,
    /// Whether a member with data becomes the only one of its cluster.
    pub force_new_cluster: bool,
    /// The owner that the data directory must have; `None` takes any.
    pub owner: Option<Owner>,
    /// How clients show who they are.
    pub auth: Auth,
    /// The limits beyond which a call is slow.
    pub slow: Slow,
    /// The audit log, if there is to be one.
    pub audit: Option<Audit>,
}

/// The measures against members that have not applied the same, beyond that the one which differs stops. Members always compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Corruption {
    /// A member compares with its leader before it serves clients: etcd's gate `InitialCorruptCheck`.
    pub compares_first: bool,
    /// The alarm CORRUPT is raised, which stops all writes until somebody ends it: `--corrupt-check-time`, or the gate
    /// `CompactHashCheck`.
    pub raises_alarm: bool,
}

/// The owner that this member's data directory must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name that is stamped into the directory when it is made.
    pub name: String,
    /// The cluster token it must have been made with; `None` if none was given.
    pub token: Option<String>,
}

/// Where a side listens and what it tells others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// Addresses to bind; at least one.
    pub listen: Vec<Url>,
    /// Addresses to tell; at least one.
    pub advertise: Vec<Url>,
    /// How its connections are secured.
    pub tls: Tls,
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("--{flag}: {why}")]
pub struct Invalid {
    /// The flag.
    pub flag: &'static str,
    /// The defect, and the remedy.
    pub why: String,
}

fn invalid(flag: &'static str, why: impl Into<String>) -> Invalid {
    Invalid {
        flag,
        why: why.into(),
    }
}

impl Config {
    /// Checks the settings and fills in etcd's defaults.
    ///
    /// Errors: the first flag whose value cannot be.
    pub fn resolve(settings: &Settings) -> Result<Self, Invalid> {
        let name = settings.get("name").unwrap_or("default").to_owned();
        if name.is_empty() || name.contains(['=', ',']) {
            return Err(invalid(
                "name",
                format!("'{name}' must not be empty and must not contain '=' or ','"),
            ));
        }
        let client = side(
            settings,
            tls::clients(settings)?,
            "listen-client-urls",
            "advertise-client-urls",
            "http://localhost:2379",
        )?;
        let peer = side(
            settings,
            tls::peers(settings)?,
            "listen-peer-urls",
            "initial-advertise-peer-urls",
            "http://localhost:2380",
        )?;
        let http_listen = http_listen(settings, &client)?;
        let initial = initial::resolve(settings, &name, &peer)?;
        let corruption = corruption(settings)?;
        let heartbeat = millis(settings, "heartbeat-interval", 100)?;
        let election = millis(settings, "election-timeout", 1000)?;
        if election < heartbeat * 5 {
            let (election, heartbeat) = (election.as_millis(), heartbeat.as_millis());
            let why = format!(
                "{election} must be at least five times --heartbeat-interval, which is {heartbeat}"
            );
            return Err(invalid("election-timeout", why));
        }
        if election > Duration::from_millis(ELECTION_MILLIS_MAX) {
            return Err(invalid(
                "election-timeout",
                format!("must be at most {ELECTION_MILLIS_MAX} milliseconds"),
            ));
        }
        Ok(Self {
            data_dir: settings
                .get("data-dir")
                .map_or_else(|| format!("{name}.etcd"), str::to_owned)
                .into(),
            client,
            peer,
            initial,
            heartbeat,
            election,
            quota_bytes: quota(settings)?,
            auto_compaction: compaction::resolve(settings)?,
            requests: requests::resolve(settings)?,
            web: web::resolve(settings)?,
            streams_max: streams_max(settings)?,
            http_listen,
            metrics_listen: urls(settings, "listen-metrics-urls")?,
            times_calls: times_calls(settings)?,
            catchup_entries: catchup_entries(settings)?,
            logging: logging::resolve(settings)?,
            corruption,
            force_new_cluster: settings.get("force-new-cluster") == Some("true"),
            owner: owner(settings),
            auth: auth::resolve(settings)?,
            slow: slow::resolve(settings)?,
            audit: audit::resolve(settings)?,
            name,
        })
    }
}

fn side(
    settings: &Settings,
    tls: Tls,
    listen: &'static str,
    advertise: &'static str,
    default: &str,
) -> Result<Side, Invalid> {
    let urls = |flag: &'static str, default: &str| -> Result<Vec<Url>, Invalid> {
        let text = settings.get(flag).unwrap_or(default);
        let urls: Vec<Url> = text
            .split(',')
            .map(|url| Url::parse(url).map_err(|why| invalid(flag, why)))
            .collect::<Result<_, _>>()?;
        // Members reach each other from other machines.
        match urls.iter().find(|url| url.socket().is_some()) {
            Some(url) if listen == "listen-peer-urls" => Err(invalid(
                flag,
                format!("'{url}': members meet on ports only, use http:// or https://"),
            )),
            _ => Ok(urls),
        }
    };
    let listens = urls(listen, default)?;
    // As etcd does: a setting of where to listen needs one of what others are told.
    if listen == "listen-client-urls"
        && settings.get(listen).is_some()
        && settings.get(advertise).is_none()
    {
        return Err(invalid(
            advertise,
            "must be set together with --listen-client-urls",
        ));
    }
    Ok(Side {
        listen: listens,
        advertise: urls(advertise, default)?,
        tls,
    })
}

fn corruption(settings: &Settings) -> Result<Corruption, Invalid> {
    let gates::Gates {
        compares_first,
        raises_corrupt,
    } = gates::resolve(settings)?;
    let time = |flag: &'static str| match settings.get(flag) {
        None => Ok(None),
        Some(text) => match go_duration::parse(text) {
            Some(time) => Ok(Some(time)),
            None => Err(invalid(
                flag,
                format!("'{text}' is not a duration such as 1h30m"),
            )),
        },
    };
    if time("compact-hash-check-time")?.is_some_and(|time| time.is_zero()) {
        return Err(invalid("compact-hash-check-time", "must be more than 0"));
    }
    let is_periodic = time("corrupt-check-time")?.is_some_and(|time| !time.is_zero());
    Ok(Corruption {
        compares_first,
        raises_alarm: raises_corrupt || is_periodic,
    })
}

fn millis(settings: &Settings, flag: &'static str, default: u64) -> Result<Duration, Invalid> {
    let Some(text) = settings.get(flag) else {
        return Ok(Duration::from_millis(default));
    };
    match text.parse::<u64>() {
        Ok(0) | Err(_) => Err(invalid(
            flag,
            format!("'{text}' is not a positive whole number of milliseconds"),
        )),
        Ok(value) => Ok(Duration::from_millis(value)),
    }
}

fn quota(settings: &Settings) -> Result<Option<u64>, Invalid> {
    const FLAG: &str = "quota-backend-bytes";
    let Some(text) = settings.get(FLAG) else {
        return Ok(Some(QUOTA_BYTES_DEFAULT));
    };
    match text.parse::<i64>() {
        Err(_) => Err(invalid(
            FLAG,
            format!("'{text}' is not a whole number of bytes"),
        )),
        Ok(0) => Ok(Some(QUOTA_BYTES_DEFAULT)),
        Ok(bytes) => Ok(u64::try_from(bytes).ok()),
    }
}

fn streams_max(settings: &Settings) -> Result<u32, Invalid> {
    const FLAG: &str = "max-concurrent-streams";
    let text = settings.get(FLAG);
    text.map_or(Ok(0), str::parse)
        .map_err(|_| invalid(FLAG, "must be a whole number of streams"))
}

/// URLs of a flag that may name none.
fn urls(settings: &Settings, flag: &'static str) -> Result<Vec<Url>, Invalid> {
    let text = settings.get(flag).unwrap_or_default();
    let urls = text.split(',').filter(|url| !url.trim().is_empty());
    urls.map(|url| Url::parse(url).map_err(|why| invalid(flag, why)))
        .collect()
}

fn times_calls(settings: &Settings) -> Result<bool, Invalid> {
    match settings.get("metrics").unwrap_or("basic") {
        "basic" => Ok(false),
        "extensive" => Ok(true),
        other => Err(invalid(
            "metrics",
            format!("'{other}' is neither basic nor extensive"),
        )),
    }
}

fn http_listen(settings: &Settings, client: &Side) -> Result<Vec<Url>, Invalid> {
    const FLAG: &str = "listen-client-http-urls";
    let listen = urls(settings, FLAG)?;
    let is_taken = |url: &&Url| client.listen.iter().any(|of| of.place() == url.place());
    match listen.iter().find(is_taken) {
        Some(url) => {
            let why =
                format!("cannot bind both --listen-client-urls and --{FLAG} on the same url {url}");
            Err(invalid(FLAG, why))
        }
        None => Ok(listen),
    }
}

fn catchup_entries(settings: &Settings) -> Result<u64, Invalid> {
    const FLAG: &str = "snapshot-catchup-entries";
    let text = settings.get(FLAG);
    text.map_or(Ok(CATCHUP_ENTRIES_DEFAULT), str::parse)
        .map_err(|_| invalid(FLAG, "must be a whole number of entries"))
}

/// Errors: a sentence that says what is wrong.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no duration such as 30s, 10m or 1h30m");
    go_duration::parse(text).ok_or_else(wrong)
}

fn owner(settings: &Settings) -> Option<Owner> {
    let name = settings
        .get("coord-owner")
        .filter(|name| !name.is_empty())?;
    Some(Owner {
        name: name.to_owned(),
        token: settings.get("initial-cluster-token").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn config(pairs: &[(&'static str, &str)]) -> Result<Config, Invalid> {
        let settings = pairs
            .iter()
            .fold(Settings::default(), |all, (name, value)| {
                all.with(name, *value)
            });
        Config::resolve(&settings)
    }

    #[test]
    fn no_flags_make_one_member_on_the_default_ports() {
        let config = config(&[]).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(config.client.listen[0].to_string(), "http://localhost:2379");
        assert_eq!(config.initial.cluster.len(), 1);
        assert_eq!(config.quota_bytes, Some(QUOTA_BYTES_DEFAULT));
    }

    #[test]
    fn each_value_that_cannot_be_is_refused_under_its_flag() {
        for (flag, pairs) in [
            ("election-timeout", vec![("election-timeout", "400")]),
            ("election-timeout", vec![("election-timeout", "60000")]),
            ("heartbeat-interval", vec![("heartbeat-interval", "x")]),
            ("initial-cluster", vec![("initial-cluster", "nonsense")]),
            (
                "initial-cluster-state",
                vec![("initial-cluster-state", "old")],
            ),
            (
                "listen-client-urls",
                vec![("listen-client-urls", "ftp://h:1")],
            ),
            (
                "listen-peer-urls",
                vec![("listen-peer-urls", "unix://socket")],
            ),
            ("key-file", vec![("cert-file", "cert.pem")]),
            ("listen-peer-urls", vec![("listen-peer-urls", "h:1")]),
            (
                "advertise-client-urls",
                vec![("listen-client-urls", "http://h:1")],
            ),
            ("quota-backend-bytes", vec![("quota-backend-bytes", "lots")]),
            (
                "snapshot-catchup-entries",
                vec![("snapshot-catchup-entries", "-1")],
            ),
            ("log-level", vec![("log-level", "loud")]),
            ("metrics", vec![("metrics", "all")]),
            ("log-format", vec![("log-format", "xml")]),
            ("log-outputs", vec![("log-outputs", "default,stdout")]),
            ("max-txn-ops", vec![("max-txn-ops", "-1")]),
            (
                "max-request-bytes",
                vec![("max-request-bytes", "134217729")],
            ),
            (
                "listen-client-http-urls",
                vec![("listen-client-http-urls", "https://localhost:2379")],
            ),
            (
                "watch-progress-notify-interval",
                vec![("watch-progress-notify-interval", "5")],
            ),
            ("feature-gates", vec![("feature-gates", "Nope=true")]),
            ("listen-metrics-urls", vec![("listen-metrics-urls", "h")]),
            ("name", vec![("name", "a=b")]),
        ] {
            assert_eq!(config(&pairs).unwrap_err().flag, flag, "{pairs:?}");
        }
    }

    #[test]
    fn a_negative_quota_is_no_limit() {
        assert_eq!(
            config(&[("quota-backend-bytes", "-1")])
                .unwrap()
                .quota_bytes,
            None
        );
    }
}
