//! The state that every pass shares. No decisions here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::Client;
use kube::runtime::events::Recorder;
use tokio::sync::Mutex as AsyncMutex;

use crate::execute::Writes;
use crate::leader::LeaseValidity;
use crate::member_client::Route;
use crate::metrics::Metrics;
use crate::observe::Memory;
use crate::validate::ServerImage;

/// The state that every pass shares.
pub struct Context {
    /// The API server. Its own retries are off: a call must not outlive the lease it was made under.
    pub client: Client,
    /// The way to members.
    pub route: Route,
    /// The images handed to new clusters.
    pub images: ServerImage,
    /// The count of writes.
    pub writes: Writes,
    /// Until when this process may act.
    pub validity: LeaseValidity,
    /// Counters and times.
    pub metrics: Metrics,
    /// Publishes events.
    pub recorder: Recorder,
    memories: Mutex<HashMap<String, Arc<AsyncMutex<Memory>>>>,
}

impl Context {
    /// A context without memories.
    pub fn new(
        client: Client,
        route: Route,
        images: ServerImage,
        writes: Writes,
        validity: LeaseValidity,
        metrics: Metrics,
        recorder: Recorder,
    ) -> Self {
        Self {
            client,
            route,
            images,
            writes,
            validity,
            metrics,
            recorder,
            memories: Mutex::default(),
        }
    }

    /// The memory of the cluster with that UID.
    pub fn memory(&self, uid: &str) -> Arc<AsyncMutex<Memory>> {
        let mut memories = self.memories.lock().unwrap_or_else(PoisonError::into_inner);
        memories.entry(uid.to_owned()).or_default().clone()
    }

    /// Forgets a cluster that is gone, and takes it out of the metrics: an alert on it would never end.
    pub fn is_gone(&self, namespace: &str, name: &str, uid: Option<&str>) {
        let labels = [namespace, name];
        // An error means that it was not there.
        let _ = self.metrics.cluster_ready.remove_label_values(&labels);
        if let Some(uid) = uid {
            let memories = self.memories.lock();
            memories.unwrap_or_else(PoisonError::into_inner).remove(uid);
        }
    }
}
