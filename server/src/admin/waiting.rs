//! What a member answers while it waits, to be added to a cluster or for another's state: alive, not ready, and why.

use std::convert::Infallible;

use ::http::{Method, Request, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::sync::watch;

use super::{Answer, method_not_allowed, text, version, with_type};
use crate::budget::Budget;
use crate::network::Listener;

/// Answers probes with `why` it waits, until it is dropped.
pub async fn serve_waiting(listener: Listener, why: &'static str) {
    let (_closing, closed) = watch::channel(false);
    let service = move |_| {
        service_fn(move |request| std::future::ready(Ok::<_, Infallible>(answer(&request, why))))
    };
    super::http::serve(listener, Budget::default(), service, closed).await;
}

fn answer(request: &Request<Incoming>, why: &str) -> Answer {
    if request.method() != Method::GET {
        return method_not_allowed();
    }
    match request.uri().path() {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/version" => version(),
        "/health" => {
            let body = serde_json::json!({ "health": "false", "reason": why });
            with_type(
                StatusCode::SERVICE_UNAVAILABLE,
                "application/json",
                body.to_string(),
            )
        }
        "/readyz" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("[-]membership failed: {why}\n"),
        ),
        _ => text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}
