//! Whether this member is fine: `/health`, `/livez`, `/readyz`, as etcd's operators and probes ask it.

use bytes::Bytes;
use http::StatusCode;

use super::{text, with_type};
use crate::command::{AlarmKind, Keys, Order, Principal, Query, Range, RangeFilter, SortTarget};
use crate::coordinator::{Consistency, Coordinator};
use crate::http::Page;
use crate::metrics::metrics;

/// One thing to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    /// No damage was found. Damage stops the process, so a process that answers has found none.
    DataCorruption,
    /// The state answers.
    SerializableRead,
    /// A leader confirms a read.
    LinearizableRead,
    /// This member has a vote.
    NonLearner,
}

const LIVEZ: &[Check] = &[Check::SerializableRead];
const READYZ: &[Check] = &[
    Check::DataCorruption,
    Check::SerializableRead,
    Check::LinearizableRead,
    Check::NonLearner,
];

/// The checks behind a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Checks(&'static [Check]);

impl Check {
    fn name(self) -> &'static str {
        match self {
            Self::DataCorruption => "data_corruption",
            Self::SerializableRead => "serializable_read",
            Self::LinearizableRead => "linearizable_read",
            Self::NonLearner => "non_learner",
        }
    }

    async fn run(self, coordinator: &Coordinator) -> Result<(), String> {
        match self {
            Self::DataCorruption if alarms(coordinator).contains(&"CORRUPT") => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            Self::DataCorruption => Ok(()),
            Self::SerializableRead => read(coordinator, Consistency::Serializable).await,
            Self::LinearizableRead => read(coordinator, Consistency::Linearizable).await,
            Self::NonLearner if coordinator.is_learner() => {
                Err("not supported for learner".to_owned())
            }
            Self::NonLearner => Ok(()),
        }
    }
}

/// The checks that a path asks for, or `None` if it is not one of these.
pub(super) fn check_path(path: &str) -> Option<Checks> {
    let (checks, rest) = if let Some(rest) = path.strip_prefix("/livez") {
        (LIVEZ, rest)
    } else {
        (READYZ, path.strip_prefix("/readyz")?)
    };
    if rest.is_empty() || rest == "/" {
        return Some(Checks(checks));
    }
    let name = rest.strip_prefix('/')?;
    let place = checks.iter().position(|check| check.name() == name)?;
    Some(Checks(&checks[place..=place]))
}

/// Runs checks; `exclude=NAME` leaves one out, `verbose` says how each went.
pub(super) async fn checked(
    coordinator: &Coordinator,
    Checks(checks): Checks,
    query: &str,
) -> Page {
    let excluded: Vec<&str> = values(query, "exclude").collect();
    let mut lines = String::new();
    let mut is_fine = true;
    for check in checks {
        let name = check.name();
        if excluded.contains(&name) {
            lines.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match check.run(coordinator).await {
            Ok(()) => lines.push_str(&format!("[+]{name} ok\n")),
            Err(why) => {
                is_fine = false;
                lines.push_str(&format!("[-]{name} failed: {why}\n"));
            }
        }
    }
    count(is_fine);
    let is_verbose = values(query, "verbose").next().is_some();
    match (is_fine, is_verbose) {
        (true, false) => text(StatusCode::OK, "ok\n"),
        (true, true) => text(StatusCode::OK, lines + "ok\n"),
        (false, _) => text(StatusCode::SERVICE_UNAVAILABLE, lines),
    }
}

/// etcd's older health check: one question, answered in JSON. `exclude=NOSPACE` passes over a full store.
pub(super) async fn health(coordinator: &Coordinator, query: &str) -> Page {
    let is_serializable = values(query, "serializable").any(|value| value == "true");
    let excluded: Vec<&str> = values(query, "exclude").collect();
    let alarm = alarms(coordinator)
        .into_iter()
        .find(|alarm| !excluded.contains(alarm));
    let reason = if let Some(alarm) = alarm {
        Some(format!("ALARM {alarm}"))
    } else if is_serializable {
        read(coordinator, Consistency::Serializable)
            .await
            .err()
            .map(range_error)
    } else if coordinator.leadership().borrow().leader.is_none() {
        Some("RAFT NO LEADER".to_owned())
    } else {
        fresh_read(coordinator).await.err().map(range_error)
    };
    count(reason.is_none());
    let (status, is_fine) = match reason {
        None => (StatusCode::OK, true),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, false),
    };
    let body =
        serde_json::json!({ "health": is_fine.to_string(), "reason": reason.unwrap_or_default() });
    with_type(status, "application/json", body.to_string())
}

/// The names of the alarms of any member, and that of a store that is full here.
fn alarms(coordinator: &Coordinator) -> Vec<&'static str> {
    let now = coordinator.status();
    let raised = now.alarms.iter().map(|alarm| match alarm.kind {
        AlarmKind::NoSpace => "NOSPACE",
        AlarmKind::Corrupt => "CORRUPT",
    });
    now.is_full
        .then_some("NOSPACE")
        .into_iter()
        .chain(raised)
        .collect()
}

/// A linearizable read, which here a learner answers, too: its clients' reads go to voters, its health is its own.
async fn fresh_read(coordinator: &Coordinator) -> Result<(), String> {
    let barrier = coordinator.read_barrier().await;
    barrier.map_err(|error| error.to_string())?;
    read(coordinator, Consistency::Serializable).await
}

fn range_error(why: String) -> String {
    format!("RANGE ERROR:{why}")
}

async fn read(coordinator: &Coordinator, consistency: Consistency) -> Result<(), String> {
    let query = Query::Range(Range {
        keys: Keys::One(Bytes::from_static(b"health")),
        revision: None,
        limit: Some(1),
        sort: (SortTarget::Key, Order::Ascending),
        keys_only: false,
        count_only: true,
        filter: RangeFilter::default(),
    });
    let outcome = coordinator
        .read(&Principal::System, &query, consistency)
        .await
        .map_err(|error| error.to_string())?;
    outcome
        .result
        .map(|_| ())
        .map_err(|refusal| refusal.to_string())
}

fn count(is_fine: bool) {
    if is_fine {
        metrics().health_success.inc();
    } else {
        metrics().health_failures.inc();
    }
}

/// The values of a query parameter. Names and values of these paths need no unescaping.
fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key == name).then_some(value)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_has_a_path_of_its_own() {
        assert_eq!(check_path("/livez"), Some(Checks(LIVEZ)));
        assert_eq!(check_path("/readyz/"), Some(Checks(READYZ)));
        assert_eq!(
            check_path("/readyz/non_learner"),
            Some(Checks(&[Check::NonLearner]))
        );
        for path in ["/livez/non_learner", "/readyzz", "/readyz/nothing", "/"] {
            assert_eq!(check_path(path), None, "{path}");
        }
    }

    #[test]
    fn query_values_are_found_with_and_without_a_value() {
        let query = "verbose&exclude=a&exclude=b";
        assert_eq!(values(query, "exclude").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(values(query, "verbose").collect::<Vec<_>>(), [""]);
        assert_eq!(values("", "verbose").next(), None);
    }
}
