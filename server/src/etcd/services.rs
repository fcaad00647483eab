//! The services of the door, by path.

use std::convert::Infallible;
use std::sync::Arc;

use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::v3electionpb::election_server::ElectionServer;
use coord_proto::etcd::v3lockpb::lock_server::LockServer;
use http::Response;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use super::auth::AuthService;
use super::check::{STREAM_REQUEST_BYTES_MAX, receive_bytes_max};
use super::cluster::ClusterService;
use super::election::ElectionService;
use super::error::unavailable;
use super::gate::Gate;
use super::kv::KvService;
use super::lease::LeaseService;
use super::lock::LockService;
use super::maintenance::MaintenanceService;
use super::observed::{Observed, Observer};
use super::record::Recorder;
use super::reflection;
use super::watch::WatchService;
use crate::audit;
use crate::command::Unavailable;
use crate::config::{Requests, Slow};
use crate::coordinator::Coordinator;
use crate::http::{Answering, Call, Calls, ClientCertificate, GrpcRequest, Words};
use pb::kv_server::Kv;
use pb::lease_server::Lease;

/// etcd's words to a client that may think that its certificate says who it is.
const NAME_IS_IGNORED: &str = "CommonName of client sending a request against gateway will be ignored and not used as expected";

const RANGE: &str = "/etcdserverpb.KV/Range";
const PUT: &str = "/etcdserverpb.KV/Put";
const TXN: &str = "/etcdserverpb.KV/Txn";
const DELETE_RANGE: &str = "/etcdserverpb.KV/DeleteRange";
const LEASE_GRANT: &str = "/etcdserverpb.Lease/LeaseGrant";
const LEASE_REVOKE: &str = "/etcdserverpb.Lease/LeaseRevoke";

static WORDS: Words = Words {
    too_many: || unavailable(Unavailable::TooManyRequests),
    late: || unavailable(Unavailable::Timeout),
};

/// All services of the door. Cheap to clone.
#[derive(Clone)]
pub struct Services(Arc<Each>);

struct Each {
    kv: pb::kv_server::KvServer<Observed<KvService>>,
    kv_calls: Arc<KvService>,
    watch: WatchService,
    lease: pb::lease_server::LeaseServer<Observed<LeaseService>>,
    lease_calls: Arc<LeaseService>,
    cluster: pb::cluster_server::ClusterServer<Observed<ClusterService>>,
    maintenance: pb::maintenance_server::MaintenanceServer<Observed<MaintenanceService>>,
    lock: LockServer<Observed<LockService>>,
    election: ElectionServer<Observed<ElectionService>>,
    auth: pb::auth_server::AuthServer<Observed<AuthService>>,
    observer: Observer,
    health: HealthServer<HealthService>,
    requests: Requests,
    coordinator: Arc<Coordinator>,
}

/// A service by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Kv,
    Watch,
    Lease,
    Cluster,
    Maintenance,
    Lock,
    Election,
    Auth,
    Health,
    Reflection,
    /// As it was before it was final; many programs ask for no other.
    ReflectionAlpha,
}

impl Name {
    /// The service of a path.
    ///
    /// Errors: the part that names none.
    fn of(path: &str) -> Result<Self, &str> {
        match path.split('/').nth(1).unwrap_or_default() {
            "etcdserverpb.KV" => Ok(Self::Kv),
            "etcdserverpb.Watch" => Ok(Self::Watch),
            "etcdserverpb.Lease" => Ok(Self::Lease),
            "etcdserverpb.Cluster" => Ok(Self::Cluster),
            "etcdserverpb.Maintenance" => Ok(Self::Maintenance),
            "v3lockpb.Lock" => Ok(Self::Lock),
            "v3electionpb.Election" => Ok(Self::Election),
            "etcdserverpb.Auth" => Ok(Self::Auth),
            "grpc.health.v1.Health" => Ok(Self::Health),
            "grpc.reflection.v1.ServerReflection" => Ok(Self::Reflection),
            "grpc.reflection.v1alpha.ServerReflection" => Ok(Self::ReflectionAlpha),
            unknown => Err(unknown),
        }
    }

    /// Bytes of one request message at most.
    fn request_bytes_max(self, requests: Requests) -> usize {
        match self {
            Self::Watch | Self::Lease | Self::Reflection | Self::ReflectionAlpha => {
                STREAM_REQUEST_BYTES_MAX
            }
            Self::Kv
            | Self::Cluster
            | Self::Maintenance
            | Self::Auth
            | Self::Lock
            | Self::Election
            | Self::Health => receive_bytes_max(requests),
        }
    }
}

impl Services {
    /// Those that ask `coordinator`; their streams end when `closing` turns true. Calls are recorded in `audit`, if there
    /// is one, and those that are `slow` are logged.
    pub fn new(
        coordinator: Arc<Coordinator>,
        requests: Requests,
        audit: Option<audit::Log>,
        slow: Slow,
        closing: watch::Receiver<bool>,
    ) -> Self {
        let recorder = audit
            .map(|log| Recorder::new(log, coordinator.clone(), requests.common_names_are_users));
        let observer = Observer::new(recorder, slow);
        let gate = Gate::new(coordinator.clone(), requests, closing);
        let kv_calls = Arc::new(KvService(gate.clone()));
        let kv = pb::kv_server::KvServer::new(observer.around(kv_calls.clone()));
        let watch = WatchService::new(gate.clone(), observer.recorder().cloned());
        let lease_calls = Arc::new(LeaseService(gate.clone()));
        let lease = pb::lease_server::LeaseServer::new(observer.around(lease_calls.clone()));
        let cluster = observer.around(Arc::new(ClusterService(gate.clone())));
        let cluster = pb::cluster_server::ClusterServer::new(cluster);
        let auth = observer.around(Arc::new(AuthService(gate.clone())));
        let auth = pb::auth_server::AuthServer::new(auth);
        let lock = LockServer::new(observer.around(Arc::new(LockService {
            gate: gate.clone(),
            kv: kv_calls.clone(),
            lease: lease_calls.clone(),
        })));
        let election = ElectionServer::new(observer.around(Arc::new(ElectionService {
            gate: gate.clone(),
            kv: kv_calls.clone(),
            lease: lease_calls.clone(),
        })));
        let maintenance = observer.around(Arc::new(MaintenanceService::new(gate)));
        let maintenance = pb::maintenance_server::MaintenanceServer::new(maintenance);
        let max = |name: Name| name.request_bytes_max(requests);
        Self(Arc::new(Each {
            kv: kv.max_decoding_message_size(max(Name::Kv)),
            kv_calls,
            watch,
            lease: lease.max_decoding_message_size(max(Name::Lease)),
            lease_calls,
            cluster: cluster.max_decoding_message_size(max(Name::Cluster)),
            maintenance: maintenance.max_decoding_message_size(max(Name::Maintenance)),
            lock: lock.max_decoding_message_size(max(Name::Lock)),
            election: election.max_decoding_message_size(max(Name::Election)),
            auth: auth.max_decoding_message_size(max(Name::Auth)),
            health: HealthServer::new(HealthService::from_health_reporter(HealthReporter::new())),
            observer,
            requests,
            coordinator,
        }))
    }
}

impl Calls for Services {
    fn answer(&self, call: Call) -> Answering {
        let each = self.0.clone();
        if !call.is_plain() {
            return call.through(move |request| each.grpc(request));
        }
        // Past tonic, under the observer as all calls are.
        macro_rules! lean {
            ($path:ident, $service:ident.$method:ident) => {
                call.unary(move |m| async move {
                    let call = |m| each.$service.$method(m);
                    each.observer.unary($path, m, call).await
                })
            };
        }
        // The calls that come often enough for each of tonic's layers to count.
        match call.path() {
            RANGE => lean!(RANGE, kv_calls.range),
            PUT => lean!(PUT, kv_calls.put),
            TXN => lean!(TXN, kv_calls.txn),
            DELETE_RANGE => lean!(DELETE_RANGE, kv_calls.delete_range),
            LEASE_GRANT => lean!(LEASE_GRANT, lease_calls.lease_grant),
            LEASE_REVOKE => lean!(LEASE_REVOKE, lease_calls.lease_revoke),
            _ => call.through(move |request| each.grpc(request)),
        }
    }

    fn request_bytes_max(&self, path: &str) -> usize {
        let requests = self.0.requests;
        Name::of(path).map_or(STREAM_REQUEST_BYTES_MAX, |name| {
            name.request_bytes_max(requests)
        })
    }

    fn refuses_json(&self, certificate: &ClientCertificate) -> Option<&'static str> {
        let has_name = !certificate.common_name().is_empty();
        let Each {
            requests,
            coordinator,
            ..
        } = &*self.0;
        let would_be_user = has_name && requests.common_names_are_users && coordinator.has_auth();
        would_be_user.then_some(NAME_IS_IGNORED)
    }

    fn words(&self) -> &'static Words {
        &WORDS
    }
}

impl Each {
    async fn grpc(self: Arc<Self>, request: GrpcRequest) -> Result<Response<Body>, Infallible> {
        match Name::of(request.uri().path()) {
            Ok(Name::Kv) => self.kv.clone().call(request).await,
            Ok(Name::Watch) => Ok(self.watch.call(request)),
            Ok(Name::Lease) => self.lease.clone().call(request).await,
            Ok(Name::Cluster) => self.cluster.clone().call(request).await,
            Ok(Name::Maintenance) => self.maintenance.clone().call(request).await,
            Ok(Name::Lock) => self.lock.clone().call(request).await,
            Ok(Name::Election) => self.election.clone().call(request).await,
            Ok(Name::Auth) => self.auth.clone().call(request).await,
            Ok(Name::Health) => self.health.clone().call(request).await,
            Ok(Name::Reflection) => reflection::v1(request).await,
            Ok(Name::ReflectionAlpha) => reflection::v1alpha(request).await,
            Err(unknown) => {
                Ok(Status::unimplemented(format!("unknown service {unknown}")).into_http())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use coord_proto::methods::METHODS;

    use super::*;

    #[test]
    fn every_method_of_the_definitions_has_a_service_here() {
        for method in METHODS {
            assert!(Name::of(method.path).is_ok(), "{}", method.path);
        }
        assert_eq!(Name::of("/no.Such/Method"), Err("no.Such"));
    }
}
