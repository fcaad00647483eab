//! The two Services: every member for peers, serving voters for clients.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::owner;
use crate::model::{labels, names};
use crate::validate::Desired;

/// Where members find each other: a DNS name per pod from the moment it has an address. A member that is not ready
/// must still be found, or it could never become ready.
pub fn peer_service(desired: &Desired) -> Service {
    let mut service = service(desired, names::peer_service(&desired.name));
    let spec = service.spec.as_mut().expect("set by service()");
    spec.cluster_ip = Some("None".to_owned());
    spec.publish_not_ready_addresses = Some(true);
    spec.ports = Some(vec![
        port("client", names::CLIENT_PORT),
        port("peer", names::PEER_PORT),
    ]);
    service
}

/// Where clients go: any ready voter. A learner is never ready.
pub fn client_service(desired: &Desired) -> Service {
    let mut service = service(desired, names::client_service(&desired.name));
    let spec = service.spec.as_mut().expect("set by service()");
    spec.ports = Some(vec![port("client", names::CLIENT_PORT)]);
    service
}

fn service(desired: &Desired, name: String) -> Service {
    Service {
        metadata: ObjectMeta {
            name: Some(name),
            namespace: Some(desired.namespace.clone()),
            labels: Some(labels::of_cluster(&desired.name)),
            owner_references: Some(vec![owner(desired)]),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceSpec {
            selector: Some(labels::selector(&desired.name)),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: i32::from(port),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
