//! Which service answers a call: gRPC by the path's first part, everything else by the admin door.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use coord_proto::etcd::etcdserverpb as pb;
use http::{Request, Response, Version, header::CONTENT_TYPE};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic::{Code, Status};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::bodies::{Received, Requests, Sending};
use super::check::{RECEIVE_BYTES_MAX, STREAM_REQUEST_BYTES_MAX};
use super::cluster::ClusterService;
use super::error::{self, unavailable};
use super::gate::Gate;
use super::gunzip::Gunzip;
use super::kv::KvService;
use super::lease::LeaseService;
use super::maintenance::MaintenanceService;
use super::unary;
use super::watch::WatchService;
use crate::admin;
use crate::budget::{Held, OpenCall, Share};
use crate::command::Unavailable;
use crate::coordinator::Coordinator;
use crate::metrics::{self, Call, CountedBody, CountedRequest};
use pb::kv_server::Kv;
use pb::lease_server::Lease;

const GRPC_ENCODING: &str = "grpc-encoding";

type Reply = Either<Sending<CountedBody<unary::Reply>>, Full<Bytes>>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;

/// All that one client port answers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Routes(Arc<Services>);

/// The same, for one connection.
pub(super) struct Connection {
    services: Arc<Services>,
    share: Arc<Share>,
}

struct Services {
    kv: pb::kv_server::KvServer<KvService>,
    kv_calls: Arc<KvService>,
    watch: pb::watch_server::WatchServer<WatchService>,
    lease: pb::lease_server::LeaseServer<LeaseService>,
    lease_calls: Arc<LeaseService>,
    cluster: pb::cluster_server::ClusterServer<ClusterService>,
    maintenance: pb::maintenance_server::MaintenanceServer<MaintenanceService>,
    health: HealthServer<HealthService>,
    coordinator: Arc<Coordinator>,
}

impl Routes {
    pub(super) fn new(coordinator: Arc<Coordinator>, closing: watch::Receiver<bool>) -> Self {
        let gate = Gate::new(coordinator.clone(), closing);
        let kv_calls = Arc::new(KvService(gate.clone()));
        let kv = pb::kv_server::KvServer::from_arc(kv_calls.clone());
        let watch = pb::watch_server::WatchServer::new(WatchService(gate.clone()));
        let lease_calls = Arc::new(LeaseService(gate.clone()));
        let lease = pb::lease_server::LeaseServer::from_arc(lease_calls.clone());
        let cluster = pb::cluster_server::ClusterServer::new(ClusterService(gate.clone()));
        let maintenance = pb::maintenance_server::MaintenanceServer::new(MaintenanceService(gate));
        Self(Arc::new(Services {
            kv: kv.max_decoding_message_size(RECEIVE_BYTES_MAX),
            kv_calls,
            watch: watch.max_decoding_message_size(STREAM_REQUEST_BYTES_MAX),
            lease: lease.max_decoding_message_size(STREAM_REQUEST_BYTES_MAX),
            lease_calls,
            cluster: cluster.max_decoding_message_size(RECEIVE_BYTES_MAX),
            maintenance: maintenance.max_decoding_message_size(RECEIVE_BYTES_MAX),
            health: HealthServer::new(HealthService::from_health_reporter(HealthReporter::new())),
            coordinator,
        }))
    }
}

impl Routes {
    /// What answers one connection.
    pub(super) fn connection(&self, share: Arc<Share>) -> Connection {
        Connection {
            services: self.0.clone(),
            share,
        }
    }
}

impl hyper::service::Service<Request<Incoming>> for Connection {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, mut request: Request<Incoming>) -> Answering {
        let services = self.services.clone();
        if !is_grpc(&request) {
            return Box::pin(async move {
                let (method, uri) = (request.method(), request.uri());
                let answer = admin::answer(&services.coordinator, method, uri).await;
                Ok(answer.map(Either::Right))
            });
        }
        let call = metrics::call_started(request.uri().path());
        let Ok(open) = self.share.call() else {
            let refused = unavailable(Unavailable::TooManyRequests).into_http::<Body>();
            let refused = CountedBody::follow(call, refused);
            let refused = refused.map(|_| Either::Right(Full::default()));
            return Box::pin(std::future::ready(Ok(refused)));
        };
        let open = Arc::new(open);
        let requests = requests(request.uri().path());
        request.extensions_mut().insert(self.share.clone());
        let gunzip = takes_gzip(&mut request, requests);
        let request =
            request.map(|body| Received::new(CountedRequest(body), open.clone(), requests, gunzip));
        match services.often(request, call, open) {
            Ok(answering) => answering,
            Err((request, call, open)) => Box::pin(async move {
                let response = services.grpc(request).await?;
                let response = in_go_words(response).map(Either::Right);
                Ok(counted(response, call, open, requests))
            }),
        }
    }
}

/// What unpacks the request's messages, if they are compressed with gzip; then they look as if they were not.
fn takes_gzip<B>(request: &mut Request<B>, requests: Requests) -> Option<Gunzip> {
    let encoding = request.headers().get(GRPC_ENCODING)?;
    if encoding != "gzip" {
        return None;
    }
    request.headers_mut().remove(GRPC_ENCODING);
    let service = request.uri().path();
    let is_small = requests == Requests::Stream || service.starts_with("/etcdserverpb.Lease/");
    Some(Gunzip::new(match is_small {
        true => STREAM_REQUEST_BYTES_MAX,
        false => RECEIVE_BYTES_MAX,
    }))
}

/// Whether a call is a stream of requests.
fn requests(path: &str) -> Requests {
    match path {
        "/etcdserverpb.Watch/Watch" | "/etcdserverpb.Lease/LeaseKeepAlive" => Requests::Stream,
        _ => Requests::One,
    }
}

/// A response whose end and bytes are counted. It brings along what its reading holds.
fn counted(
    mut response: Response<unary::Reply>,
    call: Call,
    open: Arc<OpenCall>,
    requests: Requests,
) -> Response<Reply> {
    let read = response.extensions_mut().remove::<Arc<Held>>();
    let response = CountedBody::follow(call, response);
    response.map(|body| Either::Left(Sending::new(body, open, requests, read)))
}

type GrpcRequest = Request<Received<CountedRequest<Incoming>>>;
type Unusual = (GrpcRequest, Call, Arc<OpenCall>);

impl Services {
    /// The calls that come often enough for each of their layers to count; gives back any other.
    #[expect(
        clippy::result_large_err,
        reason = "it is the request, handed back once; a box would cost every such call an allocation"
    )]
    fn often(
        self: &Arc<Self>,
        request: GrpcRequest,
        call: Call,
        open: Arc<OpenCall>,
    ) -> Result<Answering, Unusual> {
        let (kv, lease) = (self.kv_calls.clone(), self.lease_calls.clone());
        if !unary::is_plain(&request) {
            return Err((request, call, open));
        }
        Ok(match request.uri().path() {
            "/etcdserverpb.KV/Range" => {
                answering(
                    request,
                    call,
                    open,
                    move |m| async move { kv.range(m).await },
                )
            }
            "/etcdserverpb.KV/Put" => {
                answering(request, call, open, move |m| async move { kv.put(m).await })
            }
            "/etcdserverpb.KV/Txn" => {
                answering(request, call, open, move |m| async move { kv.txn(m).await })
            }
            "/etcdserverpb.KV/DeleteRange" => answering(request, call, open, move |m| async move {
                kv.delete_range(m).await
            }),
            "/etcdserverpb.Lease/LeaseGrant" => {
                answering(request, call, open, move |m| async move {
                    lease.lease_grant(m).await
                })
            }
            "/etcdserverpb.Lease/LeaseRevoke" => {
                answering(request, call, open, move |m| async move {
                    lease.lease_revoke(m).await
                })
            }
            _ => return Err((request, call, open)),
        })
    }

    async fn grpc(&self, request: GrpcRequest) -> Result<Response<Body>, Infallible> {
        let service = request.uri().path().split('/').nth(1).unwrap_or_default();
        match service {
            "etcdserverpb.KV" => self.kv.clone().call(request).await,
            "etcdserverpb.Watch" => self.watch.clone().call(request).await,
            "etcdserverpb.Lease" => self.lease.clone().call(request).await,
            "etcdserverpb.Cluster" => self.cluster.clone().call(request).await,
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request).await,
            "grpc.health.v1.Health" => self.health.clone().call(request).await,
            unknown => Ok(Status::unimplemented(format!("unknown service {unknown}")).into_http()),
        }
    }
}

fn answering<M, A, F>(
    request: GrpcRequest,
    call: Call,
    open: Arc<OpenCall>,
    handle: impl FnOnce(tonic::Request<M>) -> F + Send + 'static,
) -> Answering
where
    M: prost::Message + Default + 'static,
    A: prost::Message + 'static,
    F: Future<Output = Result<tonic::Response<A>, Status>> + Send + 'static,
{
    Box::pin(async move {
        let response = unary::answer(request, handle).await;
        Ok(counted(response, call, open, Requests::One))
    })
}

/// gRPC needs HTTP/2; over HTTP/1.1 there is only plain HTTP.
fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = request
        .headers()
        .get(CONTENT_TYPE)
        .map(http::HeaderValue::as_bytes);
    request.version() == Version::HTTP_2
        && kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// What tonic says of a request that it does not take.
fn in_go_words(response: Response<Body>) -> Response<Body> {
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::OutOfRange => error::received(status).into_http(),
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_above_the_limit_is_refused_as_go_does() {
        let text = "Error, decoded message length too large: found 3 bytes, the limit is: 2 bytes";
        let response = in_go_words(Status::out_of_range(text).into_http());
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(
            status.message(),
            "grpc: received message larger than max (3 vs. 2)"
        );
        let response = in_go_words(Status::out_of_range("etcdserver: other").into_http());
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::OutOfRange);
    }
}
