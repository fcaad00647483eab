//! One operator acts at a time: a Lease, renewed; an operator that loses it ends.
//!
//! Clocks of different machines are never compared: a stranger's lease has run out when it has not changed for its
//! duration on our own clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

/// How long others wait before they take a lease that is not renewed.
const DURATION: Duration = Duration::from_secs(15);
/// Without a successful renewal for this long the process ends: well before anybody else may act.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(2);
/// A busy API server may take its time; a lost answer must leave room for another try.
const CALL_TIMEOUT: Duration = Duration::from_secs(4);

/// Until when this process may act. Clones share it.
///
/// It ends by the clock, whether or not anybody has noticed: a process that was paused past its lease finds it ended
/// before its next write, though the task that renews has not run yet.
#[derive(Clone, Debug, Default)]
pub struct LeaseValidity {
    /// None: there is no lease, and no other operator.
    until: Option<Arc<Mutex<Instant>>>,
}

impl LeaseValidity {
    /// For an operator that has no lease.
    pub fn endless() -> Self {
        Self { until: None }
    }

    fn of_lease() -> Self {
        Self {
            until: Some(Arc::new(Mutex::new(Instant::now()))),
        }
    }

    /// True while no other operator can have taken the lease.
    pub fn holds(&self) -> bool {
        self.until.as_ref().is_none_or(|until| {
            Instant::now() < *until.lock().unwrap_or_else(PoisonError::into_inner)
        })
    }

    /// `asked`: before the renewal was sent. Others count from when they see it, which is later.
    fn renewed(&self, asked: Instant) {
        if let Some(until) = &self.until {
            *until.lock().unwrap_or_else(PoisonError::into_inner) = asked + RENEW_DEADLINE;
        }
    }
}

/// A claim to be the one operator.
pub struct Leadership {
    leases: Api<Lease>,
    name: String,
    identity: String,
    validity: LeaseValidity,
}

/// The lease as last seen, and when it last changed.
struct Seen {
    resource_version: Option<String>,
    since: Instant,
}

impl Leadership {
    /// A claim to the lease `name` by `identity`, which no other process may use.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            validity: LeaseValidity::of_lease(),
        }
    }

    /// Until when the lease can be trusted to be ours.
    pub fn validity(&self) -> LeaseValidity {
        self.validity.clone()
    }

    /// Waits until the lease is ours.
    pub async fn acquire(&self) {
        let mut seen = None;
        loop {
            let asked = Instant::now();
            match self.attempt(&mut seen).await {
                Ok(true) => {
                    self.validity.renewed(asked);
                    return;
                }
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, lease = self.name, "cannot take the lease"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Renews the lease; returns when it is lost.
    pub async fn hold(&self) {
        let mut renewed = Instant::now();
        let mut seen = None;
        loop {
            let left = RENEW_DEADLINE.saturating_sub(renewed.elapsed());
            let asked = Instant::now();
            match tokio::time::timeout(left, self.attempt(&mut seen)).await {
                Ok(Ok(true)) => {
                    renewed = asked;
                    self.validity.renewed(asked);
                }
                Ok(Ok(false)) => {
                    tracing::error!(lease = self.name, "another operator has the lease");
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, lease = self.name, "cannot renew the lease");
                }
                Err(_) => {
                    tracing::error!(lease = self.name, "the lease could not be renewed in time");
                    return;
                }
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Gives the lease back, so that the next operator need not wait for it to run out.
    pub async fn release(&self) {
        let Ok(Ok(Some(mut lease))) =
            tokio::time::timeout(CALL_TIMEOUT, self.leases.get_opt(&self.name)).await
        else {
            return;
        };
        let Some(spec) = lease
            .spec
            .as_mut()
            .filter(|s| s.holder_identity.as_deref() == Some(&self.identity))
        else {
            return;
        };
        spec.holder_identity = None;
        let params = PostParams::default();
        let _ = tokio::time::timeout(
            CALL_TIMEOUT,
            self.leases.replace(&self.name, &params, &lease),
        )
        .await;
    }

    /// One read and at most one write. True if the lease is ours now. The write carries the resource version that was
    /// read: of two who try, one fails.
    async fn attempt(&self, seen: &mut Option<Seen>) -> Result<bool, kube::Error> {
        let call = async {
            let Some(lease) = self.leases.get_opt(&self.name).await? else {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(self.claim(0, None)),
                };
                return won(self.leases.create(&PostParams::default(), &lease).await);
            };
            let spec = lease.spec.clone().unwrap_or_default();
            let holder = spec.holder_identity.as_deref().unwrap_or_default();
            let transitions = spec.lease_transitions.unwrap_or(0);
            let claim = if holder == self.identity {
                self.claim(transitions, spec.acquire_time)
            } else {
                if !holder.is_empty() && !has_run_out(seen, &lease) {
                    return Ok(false);
                }
                self.claim(transitions + 1, None)
            };
            let lease = Lease {
                metadata: lease.metadata,
                spec: Some(claim),
            };
            won(self
                .leases
                .replace(&self.name, &PostParams::default(), &lease)
                .await)
        };
        match tokio::time::timeout(CALL_TIMEOUT, call).await {
            Ok(answer) => answer,
            Err(_) => Err(kube::Error::Service("no answer in time".into())),
        }
    }

    fn claim(&self, transitions: i32, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(i32::try_from(DURATION.as_secs()).expect("15 fits")),
            lease_transitions: Some(transitions),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }
}

/// True if the lease has not changed for its duration, on our clock.
fn has_run_out(seen: &mut Option<Seen>, lease: &Lease) -> bool {
    let resource_version = lease.metadata.resource_version.clone();
    match seen {
        Some(seen) if seen.resource_version == resource_version => seen.since.elapsed() >= DURATION,
        _ => {
            *seen = Some(Seen {
                resource_version,
                since: Instant::now(),
            });
            false
        }
    }
}

/// Losing the race is an answer, not an error.
fn won(written: Result<Lease, kube::Error>) -> Result<bool, kube::Error> {
    match written {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenure_ends_by_the_clock_before_anybody_else_may_take_over() {
        let validity = LeaseValidity::of_lease();
        assert!(!validity.holds(), "not acquired yet");
        let now = Instant::now();
        validity.renewed(now);
        assert!(validity.holds());
        let Some(long_ago) = now.checked_sub(RENEW_DEADLINE) else {
            return; // The machine has been up for less than ten seconds.
        };
        validity.clone().renewed(long_ago);
        assert!(!validity.holds(), "paused since the last renewal");
        assert!(RENEW_DEADLINE < DURATION);
        assert!(LeaseValidity::endless().holds());
    }
}
