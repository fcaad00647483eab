//! gRPC calls and bytes, counted around each call.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use coord_proto::methods::{METHODS, Method};
use http::{HeaderMap, Response};
use hyper::body::{Body, Frame, SizeHint};
use prometheus::{
    Histogram, HistogramOpts, HistogramTimer, HistogramVec, IntCounter, IntCounterVec, Opts,
    Registry,
};

use super::{counter, metrics, registered};

/// gRPC's codes by number, as Go's metrics spell them.
const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];
const OK: usize = 0;
const CANCELED: usize = 1;
const UNKNOWN: usize = 2;

pub(super) struct Counters {
    methods: HashMap<&'static str, Counted>,
    handled: IntCounterVec,
    received_bytes: IntCounter,
    sent_bytes: IntCounter,
}

struct Counted {
    method: &'static Method,
    started: IntCounter,
    /// Looked up once: nearly every call ends with it.
    ok: IntCounter,
    /// How long calls took, if that is asked for.
    handling: OnceLock<Histogram>,
}

impl Counters {
    pub(super) fn new(registry: &Registry) -> Self {
        let labels = ["grpc_method", "grpc_service", "grpc_type"];
        let opts = Opts::new(
            "grpc_server_started_total",
            "Total number of RPCs started on the server.",
        );
        let started = registered(registry, IntCounterVec::new(opts, &labels));
        let labels = ["grpc_code", "grpc_method", "grpc_service", "grpc_type"];
        let help =
            "Total number of RPCs completed on the server, regardless of success or failure.";
        let handled = registered(
            registry,
            IntCounterVec::new(Opts::new("grpc_server_handled_total", help), &labels),
        );
        let methods = METHODS.iter().map(|method| {
            let Method { service, name, .. } = method;
            let started = started.with_label_values(&[name, service, kind(method)]);
            let ok = handled.with_label_values(&[CODES[OK], name, service, kind(method)]);
            let counted = Counted {
                method,
                started,
                ok,
                handling: OnceLock::new(),
            };
            (method.path, counted)
        });
        Self {
            methods: methods.collect(),
            received_bytes: counter(
                registry,
                "etcd_network_client_grpc_received_bytes_total",
                "The total number of bytes received from grpc clients.",
            ),
            sent_bytes: counter(
                registry,
                "etcd_network_client_grpc_sent_bytes_total",
                "The total number of bytes sent to grpc clients.",
            ),
            handled,
        }
    }
}

/// Times calls from now on, as `--metrics=extensive` asks: a histogram for each method.
pub fn time_calls() {
    let Some(times) = timed_calls() else { return };
    for Counted {
        method, handling, ..
    } in metrics().grpc.methods.values()
    {
        let Method { service, name, .. } = method;
        handling.get_or_init(|| times.with_label_values(&[name, service, kind(method)]));
    }
}

/// The histograms; none if there are some already.
fn timed_calls() -> Option<HistogramVec> {
    let help = "Histogram of response latency (seconds) of gRPC that had been application-level handled by the server.";
    let opts = HistogramOpts::new("grpc_server_handling_seconds", help);
    let labels = ["grpc_method", "grpc_service", "grpc_type"];
    let times = HistogramVec::new(opts, &labels).expect("metric names and labels are valid");
    let registry = &metrics().registry;
    registry
        .register(Box::new(times.clone()))
        .ok()
        .map(|()| times)
}

/// The type of a method, as Go's metrics spell it.
fn kind(method: &Method) -> &'static str {
    match (method.client_streaming, method.server_streaming) {
        (false, false) => "unary",
        (true, false) => "client_stream",
        (false, true) => "server_stream",
        (true, true) => "bidi_stream",
    }
}

/// A call under way. Counted as canceled if it is dropped before it ends.
pub struct Call {
    counted: Option<&'static Counted>,
    /// Tells when it is dropped.
    _timer: Option<HistogramTimer>,
}

/// Counts a call by its path; unknown paths are not counted, or a client could make up any number of names.
pub fn call_started(path: &str) -> Call {
    let counted = metrics().grpc.methods.get(path);
    if let Some(counted) = counted {
        counted.started.inc();
    }
    let handling = counted.and_then(|counted| counted.handling.get());
    Call {
        counted,
        _timer: handling.map(Histogram::start_timer),
    }
}

impl Call {
    /// The method that is called, if there is one of that path.
    pub fn method(&self) -> Option<&'static Method> {
        self.counted.map(|counted| counted.method)
    }

    fn end(&mut self, code: usize) {
        let Some(Counted { method, ok, .. }) = self.counted.take() else {
            return;
        };
        if code == OK {
            ok.inc();
            return;
        }
        let Method { service, name, .. } = *method;
        let code = CODES.get(code).unwrap_or(&CODES[UNKNOWN]);
        metrics()
            .grpc
            .handled
            .with_label_values(&[code, name, service, kind(method)])
            .inc();
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(CANCELED);
    }
}

/// A request body whose bytes are counted.
pub struct CountedRequest<B>(pub B);

impl<B: Body<Data = Bytes> + Unpin> Body for CountedRequest<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.0).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            metrics()
                .grpc
                .received_bytes
                .inc_by(data.remaining() as u64);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A response body that counts its bytes, and the call's code when it ends.
pub struct CountedBody<B> {
    body: B,
    call: Call,
}

impl<B> CountedBody<B> {
    /// Counts `response` for `call`.
    pub fn follow(mut call: Call, response: Response<B>) -> Response<Self> {
        // A call that fails at once has its code among the headers, and no body.
        if let Some(code) = code_of(response.headers()) {
            call.end(code);
        }
        response.map(|body| Self { body, call })
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for CountedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            if let Some(data) = frame.data_ref() {
                metrics().grpc.sent_bytes.inc_by(data.len() as u64);
            } else if let Some(code) = frame.trailers_ref().and_then(code_of) {
                self.call.end(code);
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn code_of(headers: &HeaderMap) -> Option<usize> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt, Full};

    use super::*;

    const PATH: &str = "/etcdserverpb.Maintenance/Downgrade";

    fn handled(code: &str) -> u64 {
        let labels = [code, "Downgrade", "etcdserverpb.Maintenance", "unary"];
        metrics().grpc.handled.with_label_values(&labels).get()
    }

    #[tokio::test]
    async fn a_call_is_counted_once_under_the_code_it_ended_with() {
        let answer = || Response::new(Full::new(Bytes::from_static(b"data")));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
        let trailers = std::future::ready(Some(Ok(trailers)));
        let with_trailers = answer().map(|body| body.with_trailers(trailers));
        let body = CountedBody::follow(call_started(PATH), with_trailers).into_body();
        body.collect().await.unwrap();
        assert_eq!((handled("OK"), handled("Canceled")), (1, 0));

        let mut failed = answer();
        let code = http::HeaderValue::from_static("12");
        failed.headers_mut().insert("grpc-status", code);
        drop(CountedBody::follow(call_started(PATH), failed));
        assert_eq!((handled("Unimplemented"), handled("Canceled")), (1, 0));

        drop(CountedBody::follow(call_started(PATH), answer()));
        assert_eq!(handled("Canceled"), 1, "the client went away");
    }

    #[test]
    fn a_made_up_path_is_not_counted() {
        assert!(call_started("/etcdserverpb.KV/MadeUp").method().is_none());
    }
}
