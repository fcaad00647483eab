//! What a member answers while it waits, to be added to a cluster or for another's state: alive, not ready, and why.

use std::convert::Infallible;

use ::http::{Method, Request, StatusCode, header};
use hyper::service::service_fn;
use tokio::sync::watch;
use tonic::Status;

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

fn answer<B>(request: &Request<B>, why: &str) -> Answer {
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        // In gRPC's words: its clients turn to another member, and neither retry nor move away from plain HTTP's.
        return Status::unavailable(format!("etcdserver: {why}")).into_http();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_told_to_turn_to_another_member() {
        let call = Request::post("http://a:1/etcdserverpb.KV/Put")
            .header(header::CONTENT_TYPE, "application/grpc+proto")
            .body(())
            .unwrap();
        let answer = answer(&call, "waiting to be added to the cluster");
        assert_eq!(answer.status(), StatusCode::OK);
        let said = |name| answer.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(said("grpc-status"), "14");
        assert!(said("grpc-message").contains("waiting"));
        assert_eq!(said("content-type"), "application/grpc");
    }

    #[test]
    fn another_method_is_none_of_its() {
        let other = Request::post("http://a:1/health").body(()).unwrap();
        let answer = answer(&other, "waiting");
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
