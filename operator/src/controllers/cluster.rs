//! The wiring of the pass over a CoordCluster to kube-rs: its triggers, its pace, and the retry when it fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::runtime::controller::{self, Action, Config, Controller};
use kube::runtime::events::{Event, EventType};
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt};

use super::pass::{AGAIN, pass};
use super::{PassError, Readable, tell};
use crate::context::Context;
use crate::model::labels;

/// Clusters looked at side by side. One pass is a few short calls; this many keep one slow cluster from mattering.
const CONCURRENCY: u16 = 8;
/// After an error that may need somebody.
const AFTER_ERROR: Duration = Duration::from_secs(3);

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
        .run(reconcile, after_error, context)
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

fn cluster_of<K: Resource>(object: &K) -> Option<ObjectRef<Readable>> {
    let cluster = object.labels().get(labels::CLUSTER)?;
    Some(ObjectRef::new(cluster).within(&object.namespace()?))
}

async fn reconcile(cached: Arc<Readable>, context: Arc<Context>) -> Result<Action, PassError> {
    let started = Instant::now();
    let result = pass(&cached, &context).await;
    let outcome = if result.is_ok() { "ok" } else { "error" };
    context.metrics.passes.with_label_values(&[outcome]).inc();
    context
        .metrics
        .pass_seconds
        .with_label_values(&[outcome])
        .observe(started.elapsed().as_secs_f64());
    match result {
        Ok(Some(later)) => Ok(Action::requeue(later)),
        Ok(None) => Ok(Action::await_change()),
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
            tell::publish(&context, &*cached, &event).await;
            Err(error)
        }
    }
}

fn after_error(_: Arc<Readable>, _: &PassError, _: Arc<Context>) -> Action {
    Action::requeue(AFTER_ERROR)
}
