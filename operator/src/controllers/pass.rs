//! One turn for one CoordCluster: observe, validate, plan, write, report, execute. It knows no queue and no watch.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use kube::{Api, Resource, ResourceExt};

use super::{PassError, Readable, tell, unreadable};
use crate::context::Context;
use crate::crd::CoordCluster;
use crate::execute::{ExecuteError, Sent, Writer, send, untie};
use crate::observe::{Failure, Memory, Observed, Refusal, observe};
use crate::plan::{Plan, plan, to_untie};
use crate::report::Outcome;
use crate::validate::{Desired, validate};
use crate::writes::{Outgoing, Write, writes};

/// A look at one cluster takes milliseconds; one that takes longer will not get better by waiting.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(15);
/// A cluster without a leader is called so after this long: an election takes less.
const LEADERLESS_TOLD_SECONDS: i64 = 5;
/// After a write that came too late: the next pass sees why.
pub(super) const AGAIN: Duration = Duration::from_millis(200);
/// A spec that cannot be acted on; a change of it wakes the pass anyway.
const AFTER_PROBLEM: Duration = Duration::from_secs(15);

/// An observation, and the moment since which it may be old.
struct Look {
    began: Instant,
    observed: Observed,
}

/// A decision about to be carried out.
struct Turn<'a> {
    context: &'a Context,
    cluster: &'a CoordCluster,
    desired: &'a Desired,
    look: &'a Look,
    plan: &'a Plan,
}

/// The outcome of the writes of a turn.
#[derive(Default)]
struct Outcomes {
    /// The step was done.
    acted: bool,
    /// A write was decided on something that is not so any more.
    moved_on: bool,
    /// A write that the step needs was not done.
    stopped: bool,
}

/// One pass over the cluster that `cached` names. Returns when to look again at the latest; `None`: when it changes.
///
/// The status is written under the resource version that was read first, and before anything is lost: it records the
/// intent, and of two operators that decided on the same state only one goes on.
pub(super) async fn pass(
    cached: &Readable,
    context: &Context,
) -> Result<Option<Duration>, PassError> {
    let (name, namespace) = (cached.name_any(), cached.namespace().unwrap_or_default());
    let Some(cluster) = read(context, &name, &namespace).await? else {
        // Its children name it as their owner, and so do its disks if they go with it: nothing is left to do here.
        context.is_gone(&namespace, &name, cached.uid().as_deref());
        return Ok(None);
    };
    let cluster = match cluster.0 {
        Ok(cluster) => cluster,
        Err(why) => {
            let told = unreadable::tell(context, &name, &namespace, &why);
            return match tokio::time::timeout(tell::TIMEOUT, told).await {
                Ok(told) => told.map(|()| None).map_err(PassError::Report),
                Err(_) => Err(PassError::Timeout("the status was not written")),
            };
        }
    };
    let memory = context.memory(&cluster.uid().unwrap_or_default());
    let mut memory = memory.lock().await;
    memory.is_of_spec(cluster.metadata.generation);
    let first = look(context, &mut memory, &cluster).await?;
    // Before anything is asked of the spec: it may be invalid or paused, and the CoordCluster gone a moment later.
    if protect(context, &cluster, &first).await? {
        return Ok(Some(AGAIN));
    }
    let desired = match validate(&cluster, &first.observed, &context.images) {
        Ok(desired) => desired,
        Err(problems) => {
            let outcome = Outcome::Invalid(&problems);
            tell::status(context, &cluster, &first.observed, outcome, false).await?;
            return Ok(Some(AFTER_PROBLEM));
        }
    };
    let Some((look, plan)) = decide(context, &mut memory, &cluster, &desired, first).await? else {
        return Ok(Some(AGAIN));
    };
    let turn = Turn {
        context,
        cluster: &cluster,
        desired: &desired,
        look: &look,
        plan: &plan,
    };
    turn.act(&mut memory).await.map(Some)
}

/// The cluster as it is; `None` if it is gone or going.
async fn read(
    context: &Context,
    name: &str,
    namespace: &str,
) -> Result<Option<Readable>, PassError> {
    let readable: Api<Readable> = Api::namespaced(context.client.clone(), namespace);
    let cluster = match tokio::time::timeout(OBSERVE_TIMEOUT, readable.get_opt(name)).await {
        Ok(cluster) => cluster.map_err(PassError::Observe)?,
        Err(_) => return Err(PassError::Timeout("cannot read the cluster")),
    };
    Ok(cluster.filter(|c| c.meta().deletion_timestamp.is_none()))
}

async fn look(
    context: &Context,
    memory: &mut Memory,
    cluster: &CoordCluster,
) -> Result<Look, PassError> {
    let began = Instant::now();
    let now = Timestamp::now().as_second();
    let reads = observe(&context.client, &context.route, memory, cluster, now);
    match tokio::time::timeout(OBSERVE_TIMEOUT, reads).await {
        Ok(observed) => Ok(Look {
            began,
            observed: observed.map_err(PassError::Observe)?,
        }),
        Err(_) => Err(PassError::Timeout("cannot read the cluster")),
    }
}

/// Unties disks that are to stay; true if it changed something.
async fn protect(
    context: &Context,
    cluster: &CoordCluster,
    look: &Look,
) -> Result<bool, PassError> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let tied = to_untie(cluster, &look.observed);
    if tied.is_empty() {
        return Ok(false);
    }
    let untied = untie(
        &context.client,
        &context.writes,
        &context.validity,
        look.began,
        (&name, &namespace),
        &tied,
    );
    match untied.await {
        Ok(()) => Ok(true),
        Err(error @ ExecuteError::TooLate) => Err(error.into()),
        // Ready says so until it is done; it keeps nothing else from being done.
        Err(error) => {
            tracing::warn!(cluster = name, %error, "a disk is not untied");
            Ok(false)
        }
    }
}

/// The plan of this pass. A step that can cost availability or data is decided twice, on two separate reads, or not
/// done (`None`).
async fn decide(
    context: &Context,
    memory: &mut Memory,
    cluster: &CoordCluster,
    desired: &Desired,
    first: Look,
) -> Result<Option<(Look, Plan)>, PassError> {
    let decided = plan(desired, &first.observed, Timestamp::now().as_second());
    if !decided.step.is_destructive() {
        return Ok(Some((first, decided)));
    }
    let again = look(context, memory, cluster).await?;
    let confirmed = plan(desired, &again.observed, Timestamp::now().as_second());
    Ok((confirmed.step == decided.step).then_some((again, confirmed)))
}

impl Turn<'_> {
    /// Sends the writes and tells what came of them. Returns when to look again.
    async fn act(&self, memory: &mut Memory) -> Result<Duration, PassError> {
        let now = Timestamp::now().as_second();
        let is_a_moment = self.is_a_moment(memory, now);
        let outgoing = writes(self.plan, &self.look.observed, self.desired, now);
        let due: BTreeSet<String> = outgoing
            .writes
            .iter()
            .map(Write::key)
            .chain(outgoing.held.iter().cloned())
            .collect();
        memory.retain_refusals(|key| due.contains(key));
        let mut latest = self.cluster.clone();
        let mut last_told = None;
        let mut outcomes = Outcomes::default();
        for write in &outgoing.writes {
            if matches!(write, Write::Intent) {
                // A step that changes members, loses something or must not be done twice is written down first, under
                // the resource version that was read before all else: of two operators one fails here. Everything
                // else is found again by the next operator, and needs no write of its own before it.
                let refusals = told(&outgoing, memory, now);
                latest = self
                    .tell(self.cluster, &refusals, true)
                    .await?
                    .unwrap_or(latest);
                last_told = Some(refusals);
                continue;
            }
            let is_step = matches!(write, Write::Step { .. });
            if is_step && (outcomes.moved_on || outcomes.stopped) {
                break;
            }
            self.send(write, memory, now, &mut outcomes).await?;
        }
        if outcomes.acted {
            tell::step(self.context, self.cluster, self.desired, self.plan).await;
        }
        let refusals = told(&outgoing, memory, now);
        if last_told.is_none_or(|before| before != refusals) && !is_a_moment {
            self.tell(&latest, &refusals, false).await?;
        }
        let is_waiting = !outcomes.acted && !outcomes.moved_on;
        let idle = memory.idle_seconds(!is_waiting, Timestamp::now().as_second());
        Ok(match (outcomes.moved_on, outcomes.acted) {
            (true, _) => AGAIN,
            (false, true) => self.plan.requeue,
            // A step that is held back asks for more than it can do.
            (false, false) => self.plan.requeue.max(patience(idle)),
        })
    }

    /// One look without a leader is an election, or a member that was slow. It is told if it lasts.
    fn is_a_moment(&self, memory: &mut Memory, now: i64) -> bool {
        let observed = &self.look.observed;
        let status = self.cluster.status.as_ref();
        memory.leaderless_seconds(observed.membership.is_some(), now) < LEADERLESS_TOLD_SECONDS
            && observed.record.cluster_id.is_some()
            && status.is_some_and(|s| s.leader.is_some())
            && status.and_then(|s| s.observed_generation) == self.cluster.metadata.generation
    }

    async fn send(
        &self,
        write: &Write,
        memory: &mut Memory,
        now: i64,
        outcomes: &mut Outcomes,
    ) -> Result<(), PassError> {
        let writer = Writer {
            client: &self.context.client,
            route: &self.context.route,
            writes: &self.context.writes,
            desired: self.desired,
            observed: &self.look.observed,
            looked: self.look.began,
            validity: &self.context.validity,
        };
        let key = write.key();
        match send(&writer, write).await {
            Ok(sent) => {
                memory.succeeded(&key);
                if let Sent::Applied(applied) = sent {
                    memory.remember_applied(&key, applied);
                }
                outcomes.acted |= matches!(write, Write::Step { .. });
            }
            Err(error @ ExecuteError::TooLate) => return Err(error.into()),
            Err(error) => {
                let failure = error.failure();
                tracing::debug!(cluster = self.desired.name, key, %error, ?failure, "not written");
                let count = memory.failed(&key, error.to_string(), failure, now);
                // Once may be an old look; an object that turns us away again and again only stops what needs it.
                outcomes.moved_on |= failure == Failure::Stale && count == 1;
                outcomes.stopped |= write.stops(&self.plan.step);
            }
        }
        Ok(())
    }

    async fn tell(
        &self,
        cluster: &CoordCluster,
        refusals: &[Refusal],
        is_intent: bool,
    ) -> Result<Option<CoordCluster>, PassError> {
        let outcome = Outcome::Planned {
            desired: self.desired,
            plan: self.plan,
            refusals,
        };
        tell::status(
            self.context,
            cluster,
            &self.look.observed,
            outcome,
            is_intent,
        )
        .await
    }
}

/// Refusals that a person should know of.
fn told(outgoing: &Outgoing, memory: &Memory, now: i64) -> Vec<Refusal> {
    let taken = outgoing.taken.iter().map(|message| Refusal {
        message: message.clone(),
        count: 1,
        until: now,
        needs_help: true,
    });
    let refused = memory.refusals().filter(|r| r.is_told()).cloned();
    taken.chain(refused).collect()
}

/// Waiting for the same thing for long is no reason to look often; watches report most of what may end it.
fn patience(idle_seconds: i64) -> Duration {
    match idle_seconds {
        ..10 => Duration::from_millis(500),
        10..30 => Duration::from_secs(1),
        30..60 => Duration::from_secs(2),
        _ => Duration::from_secs(5),
    }
}

#[cfg(test)]
mod tests;
