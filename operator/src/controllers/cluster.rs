//! The pass over one CoordCluster and its wiring to kube-rs: watch, queue, retry. Decides nothing about a cluster.

use super::unreadable;
use crate::context::Context;
use crate::crd::{CoordCluster, conditions};
use crate::execute::{ExecuteError, Hands, Sent, send, sentence, untie};
use crate::model::labels;
use crate::observe::{Failure, Memory, Observed, Refusal, observe};
use crate::plan::{Plan, plan, to_untie};
use crate::report::{self, Account, Outcome};
use crate::validate::{Desired, validate};
use crate::writes::{Write, writes};
use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::DeserializeGuard;
use kube::runtime::controller::{self, Action, Config, Controller};
use kube::runtime::events::{Event, EventType};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Clusters looked at side by side. One pass is a few short calls; this many keep one slow cluster from mattering.
const CONCURRENCY: u16 = 8;
/// A look at one cluster takes milliseconds; what takes longer will not get better by waiting.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(15);
/// A status that is not written by then may still be; the next pass fails on its resource version, and looks again.
const REPORT_TIMEOUT: Duration = Duration::from_secs(8);
/// A cluster without a leader is called so after this long: an election takes less.
const LEADERLESS_TOLD_SECONDS: i64 = 5;
/// After a write that came too late: the next pass sees why.
const AGAIN: Duration = Duration::from_millis(200);
/// After an error that may need somebody.
const AFTER_ERROR: Duration = Duration::from_secs(3);
/// A spec that cannot be acted on; a change of it wakes the pass anyway.
const AFTER_PROBLEM: Duration = Duration::from_secs(15);

/// A pass that failed.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The cluster could not be observed.
    #[error("cannot read the cluster: {}", sentence(.0))]
    Observe(#[source] kube::Error),
    /// It took too long.
    #[error("{0}: no answer in time")]
    Timeout(&'static str),
    /// The status could not be written.
    #[error("cannot write the status: {}", sentence(.0))]
    Report(#[source] kube::Error),
    /// The process was held up before it could write.
    #[error(transparent)]
    Held(#[from] ExecuteError),
}

impl PassError {
    fn is_stale(&self) -> bool {
        match self {
            Self::Held(_) => true,
            Self::Report(kube::Error::Api(status)) => status.is_conflict() || status.is_not_found(),
            Self::Observe(_) | Self::Timeout(_) | Self::Report(_) => false,
        }
    }
}

/// Runs passes over all clusters of `namespace`, or of all namespaces, until the process is told to end.
pub async fn run(context: Arc<Context>, namespace: Option<&str>, ready: crate::http::Readiness) {
    let client = context.client.clone();
    let config = watcher::Config::default();
    let ours = watcher::Config::default().labels(labels::CLUSTER);
    fn api<K>(client: &kube::Client, namespace: Option<&str>) -> Api<K>
    where
        K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        }
    }
    let controller = Controller::new(api::<Readable>(&client, namespace), config);
    let store = controller.store();
    tokio::spawn(async move {
        // Without the CRD, or the right to list, there is nothing to be ready for.
        if store.wait_until_ready().await.is_ok() {
            ready.store(true, Ordering::Relaxed);
        }
    });
    let told = context.clone();
    controller
        .owns(api::<StatefulSet>(&client, namespace), ours.clone())
        .owns(api::<Service>(&client, namespace), ours.clone())
        .owns(api::<PodDisruptionBudget>(&client, namespace), ours.clone())
        .watches(api::<Pod>(&client, namespace), ours.clone(), |pod| {
            cluster_of(&pod)
        })
        .watches(
            api::<PersistentVolumeClaim>(&client, namespace),
            ours,
            |volume| cluster_of(&volume),
        )
        .with_config(Config::default().concurrency(CONCURRENCY))
        .shutdown_on_signal()
        .run(pass, after_error, context)
        .for_each(|passed| {
            match passed {
                Ok(_) | Err(controller::Error::ReconcilerFailed(..)) => {}
                Err(controller::Error::ObjectNotFound(gone)) => {
                    let namespace = gone.namespace.as_deref().unwrap_or_default();
                    told.is_gone(namespace, &gone.name, gone.extra.uid.as_deref());
                }
                Err(error) => {
                    // Without the object that it could not read, which may be a whole list.
                    let error: String = error.to_string().chars().take(300).collect();
                    tracing::warn!(error, "cannot watch");
                }
            }
            std::future::ready(())
        })
        .await;
}

/// A CoordCluster as far as this build can read it: one that it cannot must not keep it from the others.
type Readable = DeserializeGuard<CoordCluster>;

fn cluster_of<K: Resource>(object: &K) -> Option<ObjectRef<Readable>> {
    let cluster = object.labels().get(labels::CLUSTER)?;
    Some(ObjectRef::new(cluster).within(&object.namespace()?))
}

async fn pass(cached: Arc<Readable>, context: Arc<Context>) -> Result<Action, PassError> {
    let started = Instant::now();
    let result = look_and_act(&cached, &context).await;
    let outcome = if result.is_ok() { "ok" } else { "error" };
    context.metrics.passes.with_label_values(&[outcome]).inc();
    context
        .metrics
        .pass_seconds
        .with_label_values(&[outcome])
        .observe(started.elapsed().as_secs_f64());
    match result {
        Err(error) if error.is_stale() => {
            tracing::debug!(cluster = cached.name_any(), %error, "the world moved on; looking again");
            Ok(Action::requeue(AGAIN))
        }
        Err(error) => {
            tracing::warn!(cluster = cached.name_any(), namespace = cached.namespace(), %error, "pass failed");
            let event = Event {
                type_: EventType::Warning,
                reason: "PassFailed".to_owned(),
                note: Some(error.to_string().chars().take(1000).collect()),
                action: "Reconcile".to_owned(),
                secondary: None,
            };
            publish(&context, &*cached, &event).await;
            Err(error)
        }
        result => result,
    }
}

fn after_error(_: Arc<Readable>, _: &PassError, _: Arc<Context>) -> Action {
    Action::requeue(AFTER_ERROR)
}

/// One pass: observe, validate, plan, report, execute.
///
/// The status is written under the resource version that was read first, and before anything is lost: it records the
/// intent, and of two operators that decided on the same state only one goes on.
async fn look_and_act(cached: &Readable, context: &Context) -> Result<Action, PassError> {
    let (name, namespace) = (cached.name_any(), cached.namespace().unwrap_or_default());
    let clusters: Api<CoordCluster> = Api::namespaced(context.client.clone(), &namespace);
    let readable: Api<Readable> = Api::namespaced(context.client.clone(), &namespace);
    let cluster = match tokio::time::timeout(OBSERVE_TIMEOUT, readable.get_opt(&name)).await {
        Ok(cluster) => cluster.map_err(PassError::Observe)?,
        Err(_) => return Err(PassError::Timeout("cannot read the cluster")),
    };
    let Some(cluster) = cluster.filter(|c| c.meta().deletion_timestamp.is_none()) else {
        // Its children name it as their owner, and so do its disks if they go with it: nothing is left to do here.
        context.is_gone(&namespace, &name, cached.uid().as_deref());
        return Ok(Action::await_change());
    };
    let cluster = match cluster.0 {
        Ok(cluster) => cluster,
        Err(why) => {
            let told = unreadable::tell(context, &name, &namespace, &why);
            return match tokio::time::timeout(REPORT_TIMEOUT, told).await {
                Ok(told) => told
                    .map(|()| Action::await_change())
                    .map_err(PassError::Report),
                Err(_) => Err(PassError::Timeout("the status was not written")),
            };
        }
    };
    let memory = context.memory(&cluster.uid().unwrap_or_default());
    let mut memory = memory.lock().await;

    let mut looked = Instant::now();
    let mut observed = look(context, &mut memory, &cluster).await?;
    // Before anything is asked of the spec: it may be invalid or paused, and the CoordCluster gone a moment later.
    let tied = to_untie(&cluster, &observed);
    if !tied.is_empty() {
        let untied = untie(
            &context.client,
            &context.writes,
            &context.tenure,
            looked,
            (&name, &namespace),
            &tied,
        );
        match untied.await {
            Ok(()) => return Ok(Action::requeue(AGAIN)),
            Err(error @ ExecuteError::TooLate) => return Err(error.into()),
            // Ready says so until it is done; it keeps nothing else from being done.
            Err(error) => tracing::warn!(cluster = name, %error, "a disk is not untied"),
        }
    }
    let desired = match validate(&cluster, &observed, &context.images) {
        Ok(desired) => desired,
        Err(problems) => {
            let outcome = Outcome::Invalid(&problems);
            report(context, &clusters, &cluster, &observed, outcome, false).await?;
            return Ok(Action::requeue(AFTER_PROBLEM));
        }
    };
    let mut plan = plan(&desired, &observed, Timestamp::now().as_second());
    // One look without a leader is an election, or a member that was slow. It is told if it lasts.
    let is_a_moment = memory
        .leaderless_seconds(observed.membership.is_some(), Timestamp::now().as_second())
        < LEADERLESS_TOLD_SECONDS
        && observed.record.cluster_id.is_some()
        && cluster.status.as_ref().is_some_and(|s| s.leader.is_some())
        && cluster.status.as_ref().and_then(|s| s.observed_generation)
            == cluster.metadata.generation;
    if plan.step.is_destructive() {
        // Decided twice, on two separate reads, or not done.
        looked = Instant::now();
        let again = look(context, &mut memory, &cluster).await?;
        let confirmed = crate::plan::plan(&desired, &again, Timestamp::now().as_second());
        if confirmed.step != plan.step {
            return Ok(Action::requeue(AGAIN));
        }
        (observed, plan) = (again, confirmed);
    }
    let now = Timestamp::now().as_second();
    let outgoing = writes(&plan, &observed, &desired, now);
    let due: BTreeSet<String> = outgoing
        .writes
        .iter()
        .map(Write::key)
        .chain(outgoing.held.iter().cloned())
        .collect();
    memory.retain_refusals(|key| due.contains(key));
    let taken = outgoing.taken.iter().map(|message| Refusal {
        message: message.clone(),
        count: 1,
        until: now,
        needs_help: true,
    });
    let taken: Vec<Refusal> = taken.collect();
    let told = |memory: &Memory| -> Vec<Refusal> {
        let refused = memory.refusals().filter(|r| r.is_told());
        taken.iter().chain(refused).cloned().collect()
    };
    let hands = Hands {
        client: &context.client,
        route: &context.route,
        writes: &context.writes,
        desired: &desired,
        observed: &observed,
        looked,
        tenure: &context.tenure,
    };
    let mut latest = cluster.clone();
    let mut last_told = None;
    let (mut acted, mut moved_on, mut stopped) = (false, false, false);
    for write in &outgoing.writes {
        if matches!(write, Write::Intent) {
            // What changes members, loses something or must not be done twice is written down first, under the resource
            // version that was read before all else: of two operators one fails here. Everything else is found again by
            // whoever comes next, and needs no write of its own before it.
            let refusals = told(&memory);
            let outcome = Outcome::Planned {
                desired: &desired,
                plan: &plan,
                refusals: &refusals,
            };
            let written = report(context, &clusters, &cluster, &observed, outcome, true).await?;
            latest = written.unwrap_or(latest);
            last_told = Some(refusals);
            continue;
        }
        let is_step = matches!(write, Write::Step { .. });
        if is_step && (moved_on || stopped) {
            break;
        }
        let key = write.key();
        match send(&hands, write).await {
            Ok(sent) => {
                memory.succeeded(&key);
                if let Sent::Applied(applied) = sent {
                    memory.remember_applied(&key, applied);
                }
                acted |= is_step;
            }
            Err(error @ ExecuteError::TooLate) => return Err(error.into()),
            Err(error) => {
                let failure = error.failure();
                tracing::debug!(cluster = name, key, %error, ?failure, "not written");
                let count = memory.failed(&key, error.to_string(), failure, now);
                // Once may be an old look; an object that turns us away again and again only stops what needs it.
                moved_on |= failure == Failure::Stale && count == 1;
                stopped |= write.stops(&plan.step);
            }
        }
    }
    if acted {
        done(context, &cluster, &desired, &plan).await;
    }
    let refusals = told(&memory);
    if last_told.is_none_or(|before| before != refusals) && !is_a_moment {
        let outcome = Outcome::Planned {
            desired: &desired,
            plan: &plan,
            refusals: &refusals,
        };
        report(context, &clusters, &latest, &observed, outcome, false).await?;
    }
    let is_waiting = !acted && !moved_on;
    let idle = memory.idle_seconds(!is_waiting, Timestamp::now().as_second());
    Ok(Action::requeue(match (moved_on, acted) {
        (true, _) => AGAIN,
        (false, true) => plan.requeue,
        // A step that is held back asks for more than it can do.
        (false, false) => plan.requeue.max(patience(idle)),
    }))
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

async fn look(
    context: &Context,
    memory: &mut Memory,
    cluster: &CoordCluster,
) -> Result<Observed, PassError> {
    let now = Timestamp::now().as_second();
    let reads = observe(&context.client, &context.route, memory, cluster, now);
    match tokio::time::timeout(OBSERVE_TIMEOUT, reads).await {
        Ok(observed) => observed.map_err(PassError::Observe),
        Err(_) => Err(PassError::Timeout("cannot read the cluster")),
    }
}

/// Writes the status if it says something new, or always if `is_intent`. Returns the cluster as it is afterwards.
async fn report(
    context: &Context,
    clusters: &Api<CoordCluster>,
    cluster: &CoordCluster,
    observed: &Observed,
    outcome: Outcome<'_>,
    is_intent: bool,
) -> Result<Option<CoordCluster>, PassError> {
    let name = cluster.name_any();
    let before = cluster.status.clone().unwrap_or_default();
    let account = Account {
        name: &name,
        generation: cluster.metadata.generation,
        observed,
        outcome,
    };
    let after = report::status(&account, &before, Timestamp::now(), || {
        format!("{:032x}", rand::random::<u128>())
    });
    let is_ready = after
        .conditions
        .iter()
        .any(|c| c.type_ == conditions::READY && c.status == "True");
    let labels = [&cluster.namespace().unwrap_or_default(), &name];
    context
        .metrics
        .cluster_ready
        .with_label_values(&labels)
        .set(i64::from(is_ready));
    let is_news = report::is_worth_writing(&before, &after);
    if !is_intent && !is_news {
        return Ok(None);
    }
    let warnings = report::warnings(&before, &after);
    // An intent that is written down already is sent as it stands: the API server compares the resource version and
    // stores nothing, so that nobody is woken by it.
    let mut written = cluster.clone();
    written.status = Some(if is_news { after } else { before });
    let params = PostParams::default();
    let call = clusters.replace_status(&name, &params, &written);
    let written = match tokio::time::timeout(REPORT_TIMEOUT, call).await {
        Ok(written) => written.map_err(PassError::Report)?,
        Err(_) => return Err(PassError::Timeout("the status was not written")),
    };
    if written.resource_version() != cluster.resource_version() {
        context.writes.wrote("Status");
    }
    for warning in &warnings {
        publish(context, cluster, warning).await;
    }
    Ok(Some(written))
}

/// Tells of a step that was done.
async fn done(context: &Context, cluster: &CoordCluster, desired: &Desired, plan: &Plan) {
    tracing::info!(
        cluster = desired.name,
        namespace = desired.namespace,
        step = ?plan.step,
        because = plan.because,
        "step done"
    );
    context
        .metrics
        .steps
        .with_label_values(&[plan.step.name()])
        .inc();
    if let Some(event) = report::event(desired, plan) {
        publish(context, cluster, &event).await;
    }
}

/// An event that cannot be written is not worth failing for.
async fn publish<K>(context: &Context, cluster: &K, event: &Event)
where
    K: Resource<DynamicType = ()>,
{
    let reference = cluster.object_ref(&());
    let call = context.recorder.publish(event, &reference);
    match tokio::time::timeout(Duration::from_secs(2), call).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "event not written"),
        Err(_) => tracing::debug!("event not written in time"),
    }
}
