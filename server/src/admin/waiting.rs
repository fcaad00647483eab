//! The answers of a member that does not serve: alive, not ready, and why. Here an empty one is told to form a
//! cluster.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, Request, StatusCode, header};
use hyper::service::service_fn;
use tokio::sync::Notify;
use tonic::Status;

use super::{method_not_allowed, text, version, with_type};
use crate::http::{Endpoint, Limits, Page, serve_until_dropped};

/// Why a member does not serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its directory is empty, and nobody has added it yet.
    NotAdded,
    /// Its directory is empty, and its peer URLs are those of a member that has run before.
    Wiped,
    /// Its directory is another member's.
    Foreign,
    /// It takes another member's state.
    Rebuilding,
}

impl Reason {
    fn name(self) -> &'static str {
        match self {
            Self::NotAdded => "not-added",
            Self::Wiped => "wiped",
            Self::Foreign => "foreign",
            Self::Rebuilding => "rebuilding",
        }
    }
}

/// A member that does not serve, as its client port shows it. Clones share all.
#[derive(Clone)]
pub struct Waiting {
    now: Arc<Mutex<(Reason, String)>>,
    door: Option<Arc<Door>>,
}

/// How a member is told to form a cluster alone.
struct Door {
    token: String,
    /// Drawn when this process began to wait: a word that was meant for an earlier one is refused.
    start: String,
    is_open: Mutex<bool>,
    told: Notify,
}

impl Waiting {
    /// It waits because of that.
    pub fn new(reason: Reason, why: impl Into<String>) -> Self {
        Self {
            now: Arc::new(Mutex::new((reason, why.into()))),
            door: None,
        }
    }

    /// As it is, and it may be told to form the cluster of `token`.
    pub fn with_door(self, token: &str) -> Self {
        let door = Door {
            token: token.to_owned(),
            start: format!("{:016x}", rand::random::<u64>()),
            is_open: Mutex::new(true),
            told: Notify::new(),
        };
        Self {
            door: Some(Arc::new(door)),
            ..self
        }
    }

    /// From now on it waits because of that.
    pub fn set(&self, reason: Reason, why: &str) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = (reason, why.to_owned());
    }

    /// From now on nobody tells it to form a cluster.
    pub fn shut(&self) {
        if let Some(door) = &self.door {
            *door.is_open.lock().unwrap_or_else(PoisonError::into_inner) = false;
        }
    }

    /// Resolves when it was told to form a cluster; never if it cannot be.
    pub async fn told(&self) {
        match &self.door {
            Some(door) => door.told.notified().await,
            None => std::future::pending().await,
        }
    }

    fn now(&self) -> (Reason, String) {
        self.now
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The word of this start, while it may be told.
    fn start(&self) -> Option<&str> {
        let door = self.door.as_ref()?;
        let is_open = *door.is_open.lock().unwrap_or_else(PoisonError::into_inner);
        is_open.then_some(door.start.as_str())
    }

    /// The same call twice is answered twice alike, and does one thing.
    fn bootstrap(&self, query: &str) -> Page {
        let value = |name: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let (Some(door), Some(start)) = (&self.door, self.start()) else {
            let (_, why) = self.now();
            return text(
                StatusCode::CONFLICT,
                format!("this member does not form a cluster: {why}\n"),
            );
        };
        if value("token") != Some(door.token.as_str()) {
            return text(
                StatusCode::CONFLICT,
                "this member was started with another --initial-cluster-token\n",
            );
        }
        if value("start") != Some(start) {
            return text(
                StatusCode::CONFLICT,
                "this member has been started again since\n",
            );
        }
        door.told.notify_one();
        text(StatusCode::ACCEPTED, "ok\n")
    }
}

/// Answers at `endpoint` for a member that does not serve, until it is dropped.
pub async fn serve_waiting(endpoint: Endpoint, waiting: Waiting) {
    let service = service_fn(move |request| {
        std::future::ready(Ok::<_, Infallible>(answer(&request, &waiting)))
    });
    serve_until_dropped(endpoint, Limits::clients(), service).await;
}

fn answer<B>(request: &Request<B>, waiting: &Waiting) -> Page {
    let (reason, why) = waiting.now();
    let kind = request.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        // In gRPC's words: its clients turn to another member, and neither retry nor move away from plain HTTP's.
        return Status::unavailable(format!("etcdserver: {why}")).into_http();
    }
    let path = request.uri().path();
    if (request.method(), path) == (&Method::POST, "/coord/bootstrap") {
        return waiting.bootstrap(request.uri().query().unwrap_or_default());
    }
    if request.method() != Method::GET {
        return method_not_allowed();
    }
    match path {
        "/livez" => text(StatusCode::OK, "ok\n"),
        "/version" => version(),
        "/coord/waiting" => {
            let body = serde_json::json!({
                "reason": reason.name(),
                "why": why,
                "start": waiting.start(),
            });
            with_type(StatusCode::OK, "application/json", body.to_string())
        }
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
        let waiting = Waiting::new(Reason::NotAdded, "waiting to be added to the cluster");
        let answer = answer(&call, &waiting);
        assert_eq!(answer.status(), StatusCode::OK);
        let said = |name| answer.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(said("grpc-status"), "14");
        assert!(said("grpc-message").contains("waiting"));
        assert_eq!(said("content-type"), "application/grpc");
    }

    #[test]
    fn another_method_is_none_of_its() {
        let other = Request::post("http://a:1/health").body(()).unwrap();
        let answer = answer(&other, &Waiting::new(Reason::NotAdded, "waiting"));
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
