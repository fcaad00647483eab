//! What a member answers while it waits to be added to a cluster: alive, not ready, and why.

use std::convert::Infallible;

use ::http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{Answer, method_not_allowed, text, version, with_type};

const WHY: &str = "waiting to be added to the cluster";

/// Answers probes until it is dropped.
pub async fn serve_waiting(listener: TcpListener) {
    let (_closing, closed) = watch::channel(false);
    let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(answer(&request))));
    super::http::serve(listener, service, closed).await;
}

fn answer(request: &Request<Incoming>) -> Answer {
    if request.method() != Method::GET {
        return method_not_allowed();
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/version" => version(),
        "/health" => {
            let body = serde_json::json!({ "health": "false", "reason": WHY });
            with_type(
                StatusCode::SERVICE_UNAVAILABLE,
                "application/json",
                body.to_string(),
            )
        }
        "/readyz" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("[-]membership failed: {WHY}\n"),
        ),
        _ => text(StatusCode::SERVICE_UNAVAILABLE, format!("{WHY}\n")),
    }
}
