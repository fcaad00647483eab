//! The admin door: health, readiness, version and metrics over plain HTTP.
//!
//! Answers on the client port beside gRPC, in etcd's paths and words. It knows no gRPC service.

mod health;
mod metrics_page;
mod process;
mod waiting;

use std::sync::Arc;

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request, Response, StatusCode, Uri, header};
use http_body_util::Full;
use hyper::body::Incoming;

use crate::cli::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use crate::coordinator::Coordinator;
use crate::http::{Page, Pages};

pub use waiting::{Reason, Waiting, serve_waiting};

/// The pages of a member that serves.
pub struct Admin(Arc<Coordinator>);

impl Admin {
    /// Those that say how `coordinator` is.
    pub fn new(coordinator: Arc<Coordinator>) -> Self {
        Self(coordinator)
    }
}

impl Pages for Admin {
    fn answer(&self, request: Request<Incoming>) -> BoxFuture<'static, Page> {
        let coordinator = self.0.clone();
        Box::pin(async move { answer(&coordinator, request.method(), request.uri()).await })
    }
}

async fn answer(coordinator: &Coordinator, method: &Method, uri: &Uri) -> Page {
    let query = uri.query().unwrap_or_default();
    let is_get = method == Method::GET;
    match (uri.path(), health::check_path(uri.path())) {
        ("/health" | "/version" | "/metrics", _) | (_, Some(_)) if !is_get => method_not_allowed(),
        ("/health", _) => health::health(coordinator, query).await,
        ("/version", _) => version(),
        ("/metrics", _) => metrics_page::page(coordinator),
        (_, Some(check)) => health::checked(coordinator, check, query).await,
        (_, None) => text(StatusCode::NOT_FOUND, "404 page not found\n"),
    }
}

/// etcd's versions, which clients go by, and the version of this program beside them.
fn version() -> Page {
    let coord = env!("CARGO_PKG_VERSION");
    let body = format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{ETCD_CLUSTER_VERSION}","storage":"{ETCD_CLUSTER_VERSION}","coord":"{coord}"}}"#
    );
    with_type(StatusCode::OK, "application/json", body)
}

fn method_not_allowed() -> Page {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    answer
        .headers_mut()
        .insert(header::ALLOW, header::HeaderValue::from_static("GET"));
    answer
}

fn text(status: StatusCode, body: impl Into<String>) -> Page {
    with_type(status, "text/plain; charset=utf-8", body.into())
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Page {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}
