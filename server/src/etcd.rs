//! The etcd v3 door: gRPC, and plain HTTP on the same port.
//!
//! In: the wire messages of `coord-proto`. Out: commands and queries to the coordinator, and its answers in etcd's
//! words. One way through: [`gate`] lets the call in, [`check`] and [`convert`] make a command of it, the coordinator
//! answers, [`header`] and [`error`] say so. Each service is one file; [`routes`] picks it by path, and [`unary`]
//! carries the calls that come most often past tonic. What is not there yet is refused by name and stands in `docs/compatibility.md`.

mod bodies;
mod check;
mod cluster;
mod convert;
mod error;
mod gate;
mod gunzip;
mod header;
mod kv;
mod lease;
mod maintenance;
mod requests;
mod routes;
#[cfg(test)]
mod tests;
mod unary;
mod watch;

use std::sync::Arc;

use crate::admin;
use crate::budget::Budget;
use crate::coordinator::Coordinator;
use crate::network::Listener;

/// Serves clients until `closing` turns true, then lets calls under way finish for a moment.
pub async fn serve(
    listener: Listener,
    coordinator: Arc<Coordinator>,
    budget: Budget,
    closing: tokio::sync::watch::Receiver<bool>,
) {
    let routes = routes::Routes::new(coordinator, closing.clone());
    let service = move |share| routes.connection(share);
    admin::http::serve(listener, budget, service, closing).await;
}
