//! The admin door: health, readiness, version and metrics over plain HTTP, and the HTTP listener of the client port.
//!
//! Answers on the client port beside gRPC, in etcd's paths and words. It knows no gRPC service; the etcd door asks it
//! for what is not gRPC.

mod health;
pub mod http;
mod metrics_page;
mod process;
mod waiting;

use ::http::{Method, Response, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::Full;

use crate::cli::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use crate::coordinator::Coordinator;

pub use waiting::{Reason, Waiting, serve_waiting};

/// A whole answer.
pub type Answer = Response<Full<Bytes>>;

/// Answers one plain HTTP request.
pub async fn answer(coordinator: &Coordinator, method: &Method, uri: &Uri) -> Answer {
    if method != Method::GET {
        return method_not_allowed();
    }
    let query = uri.query().unwrap_or_default();
    match uri.path() {
        "/health" => health::health(coordinator, query).await,
        "/version" => version(),
        "/metrics" => metrics_page::page(coordinator),
        path => match health::check_path(path) {
            Some(check) => health::checked(coordinator, check, query).await,
            None => text(StatusCode::NOT_FOUND, "404 page not found\n"),
        },
    }
}

/// etcd's versions, which clients go by, and the version of this program beside them.
fn version() -> Answer {
    let coord = env!("CARGO_PKG_VERSION");
    let body = format!(
        r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{ETCD_CLUSTER_VERSION}","storage":"{ETCD_CLUSTER_VERSION}","coord":"{coord}"}}"#
    );
    with_type(StatusCode::OK, "application/json", body)
}

fn method_not_allowed() -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed\n");
    answer
        .headers_mut()
        .insert(header::ALLOW, header::HeaderValue::from_static("GET"));
    answer
}

fn text(status: StatusCode, body: impl Into<String>) -> Answer {
    with_type(status, "text/plain; charset=utf-8", body.into())
}

fn with_type(status: StatusCode, kind: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = status;
    answer
        .headers_mut()
        .insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    answer
}
