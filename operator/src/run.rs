//! Wires the operator together: client, HTTP port, lease, controllers. It decides nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use futures::future::join_all;
use kube::runtime::events::{Recorder, Reporter};
use kube::{Client, Config};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::RunArgs;
use crate::context::Context;
use crate::execute::Writes;
use crate::leader::{Leadership, LeaseValidity};
use crate::member_client::Route;
use crate::metrics::Metrics;
use crate::{controllers, http, telemetry};

const CONTROLLER: &str = "coord-operator";

/// Runs until told to end, or until the lease is lost.
pub async fn run(args: RunArgs) -> anyhow::Result<()> {
    telemetry::start(&args.log_level, args.log_format)?;
    let mut config = Config::infer()
        .await
        .context("no way to an API server: neither in a pod nor a kubeconfig")?;
    // A retry inside one call would hide for minutes that nothing gets done, and may outlive the lease.
    config.default_retry = false;
    let own_namespace = args
        .lease_namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)?;

    let metrics = Metrics::default();
    let ready = http::Readiness::default();
    let listener = TcpListener::bind(args.http_address)
        .await
        .with_context(|| format!("cannot listen on {} (--http-address)", args.http_address))?;
    tokio::spawn(http::serve(listener, metrics.clone(), ready.clone()));

    let identity = identity(&args);
    let leadership = Leadership::new(client.clone(), &own_namespace, &args.lease_name, &identity);
    if args.leader_election {
        // Standing by is what a second replica is for.
        ready.store(true, Ordering::Relaxed);
        tracing::info!(identity, lease = args.lease_name, "waiting for the lease");
        tokio::select! {
            () = leadership.acquire() => {}
            () = told_to_end() => return Ok(()),
        }
    }
    metrics.is_leader.set(1);
    tracing::info!(identity, version = env!("CARGO_PKG_VERSION"), "acting");

    let reporter = Reporter {
        controller: CONTROLLER.to_owned(),
        instance: Some(identity),
    };
    let recorder = Recorder::new(client.clone(), reporter);
    #[cfg(feature = "failpoints")]
    let writes = Writes::with(
        args.failpoints.exit_after_writes,
        args.failpoints.pause_before_step,
    );
    #[cfg(not(feature = "failpoints"))]
    let writes = Writes::default();
    let validity = if args.leader_election {
        leadership.validity()
    } else {
        LeaseValidity::endless()
    };
    let context = Arc::new(Context::new(
        client,
        Route::PodAddress,
        args.images.into(),
        writes,
        validity,
        metrics,
        recorder,
    ));
    let namespaces: Vec<Option<&str>> = if args.watch_namespaces.is_empty() {
        vec![None]
    } else {
        args.watch_namespaces
            .iter()
            .map(|n| Some(n.as_str()))
            .collect()
    };
    let controllers = join_all(
        namespaces
            .into_iter()
            .map(|n| controllers::cluster::run(context.clone(), n, ready.clone())),
    );
    tokio::select! {
        _ = controllers => {}
        () = leadership.hold(), if args.leader_election => anyhow::bail!("the lease is lost; another operator may act now"),
    }
    if args.leader_election {
        leadership.release().await;
    }
    Ok(())
}

/// Unique per process: two that share a host name must not share a lease.
fn identity(args: &RunArgs) -> String {
    let name = args
        .identity
        .clone()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .unwrap_or_else(|| CONTROLLER.to_owned());
    format!("{name}_{:08x}", rand::random::<u32>())
}

async fn told_to_end() {
    let mut terminate = signal(SignalKind::terminate()).expect("SIGTERM can be caught");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
