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

use super::check::RECEIVE_BYTES_MAX;
use super::cluster::ClusterService;
use super::gate::Gate;
use super::kv::KvService;
use super::lease::LeaseService;
use super::maintenance::MaintenanceService;
use super::unary::{self, too_large};
use super::watch::WatchService;
use crate::admin;
use crate::coordinator::Coordinator;
use crate::metrics::{self, Call, CountedBody, CountedRequest};
use pb::kv_server::Kv;
use pb::lease_server::Lease;

type Reply = Either<CountedBody<unary::Reply>, Full<Bytes>>;
type Answering = Pin<Box<dyn Future<Output = Result<Response<Reply>, Infallible>> + Send>>;

/// All that one client port answers. Cheap to clone.
#[derive(Clone)]
pub(super) struct Routes(Arc<Services>);

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
            watch: watch.max_decoding_message_size(RECEIVE_BYTES_MAX),
            lease: lease.max_decoding_message_size(RECEIVE_BYTES_MAX),
            lease_calls,
            cluster: cluster.max_decoding_message_size(RECEIVE_BYTES_MAX),
            maintenance: maintenance.max_decoding_message_size(RECEIVE_BYTES_MAX),
            health: HealthServer::new(HealthService::from_health_reporter(HealthReporter::new())),
            coordinator,
        }))
    }
}

impl hyper::service::Service<Request<Incoming>> for Routes {
    type Response = Response<Reply>;
    type Error = Infallible;
    type Future = Answering;

    fn call(&self, request: Request<Incoming>) -> Answering {
        let services = self.0.clone();
        if !is_grpc(&request) {
            return Box::pin(async move {
                let (method, uri) = (request.method(), request.uri());
                let answer = admin::answer(&services.coordinator, method, uri).await;
                Ok(answer.map(Either::Right))
            });
        }
        let call = metrics::call_started(request.uri().path());
        let request = request.map(CountedRequest);
        match services.often(request, call) {
            Ok(answering) => answering,
            Err((request, call)) => Box::pin(async move {
                let response = services.grpc(request).await?;
                let response = in_go_words(response).map(Either::Right);
                Ok(CountedBody::follow(call, response).map(Either::Left))
            }),
        }
    }
}

type GrpcRequest = Request<CountedRequest<Incoming>>;

impl Services {
    /// The calls that come often enough for each of their layers to count; gives back any other.
    fn often(
        self: &Arc<Self>,
        request: GrpcRequest,
        call: Call,
    ) -> Result<Answering, (GrpcRequest, Call)> {
        let (kv, lease) = (self.kv_calls.clone(), self.lease_calls.clone());
        if !unary::is_plain(&request) {
            return Err((request, call));
        }
        Ok(match request.uri().path() {
            "/etcdserverpb.KV/Range" => {
                answering(request, call, move |m| async move { kv.range(m).await })
            }
            "/etcdserverpb.KV/Put" => {
                answering(request, call, move |m| async move { kv.put(m).await })
            }
            "/etcdserverpb.KV/Txn" => {
                answering(request, call, move |m| async move { kv.txn(m).await })
            }
            "/etcdserverpb.KV/DeleteRange" => {
                answering(
                    request,
                    call,
                    move |m| async move { kv.delete_range(m).await },
                )
            }
            "/etcdserverpb.Lease/LeaseGrant" => {
                answering(
                    request,
                    call,
                    move |m| async move { lease.lease_grant(m).await },
                )
            }
            "/etcdserverpb.Lease/LeaseRevoke" => answering(request, call, move |m| async move {
                lease.lease_revoke(m).await
            }),
            _ => return Err((request, call)),
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
    handle: impl FnOnce(tonic::Request<M>) -> F + Send + 'static,
) -> Answering
where
    M: prost::Message + Default + 'static,
    A: prost::Message + 'static,
    F: Future<Output = Result<tonic::Response<A>, Status>> + Send + 'static,
{
    Box::pin(async move {
        let response = unary::answer(request, handle).await;
        Ok(CountedBody::follow(call, response).map(Either::Left))
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

/// tonic calls a message above the limit out of range; clients know Go's answer.
fn in_go_words(response: Response<Body>) -> Response<Body> {
    let is_out_of_range = Status::from_header_map(response.headers())
        .filter(|status| status.code() == Code::OutOfRange);
    match is_out_of_range {
        Some(status) if status.message().contains("message length too large") => {
            too_large().into_http()
        }
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
            "grpc: received message larger than max (2097152)"
        );
        let response = in_go_words(Status::out_of_range("etcdserver: other").into_http());
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Code::OutOfRange);
    }
}
