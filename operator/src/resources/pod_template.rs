//! The pod of one member: container, flags, probes, scheduling, and the hash that tells an old template from a new one.

use crate::crd::{Bootstrap, quantity};
use crate::model::{Ordinal, labels, names, template::SERVER};
use crate::validate::Desired;
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, HTTPGetAction, PersistentVolumeClaimVolumeSource,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
    SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

const VOLUME: &str = "data";
const MOUNT: &str = "/var/lib/coord";
/// Below the mount, whose own root may hold a `lost+found`.
const DATA_DIR: &str = "/var/lib/coord/data";
/// `nonroot`, as minimal base images call it.
const USER: i64 = 65532;
/// Enough to hand over leadership and close the log.
const GRACE_SECONDS: i64 = 30;

/// The pod of one member. It passes the `restricted` pod security level.
pub(super) fn pod_template(
    desired: &Desired,
    ordinal: Ordinal,
    is_voter: bool,
    bootstrap: Option<&Bootstrap>,
) -> PodTemplateSpec {
    let mut labels = labels::of_member(&desired.name, ordinal);
    labels.insert(labels::ROLE.to_owned(), labels::role(is_voter).to_owned());
    let scheduling = &desired.spec.scheduling;
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels),
            annotations: Some(
                [(
                    labels::TEMPLATE_HASH.to_owned(),
                    desired.template_hash.clone(),
                )]
                .into(),
            ),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            service_account_name: Some(desired.name.clone()),
            automount_service_account_token: Some(false),
            enable_service_links: Some(false),
            termination_grace_period_seconds: Some(GRACE_SECONDS),
            security_context: Some(PodSecurityContext {
                run_as_non_root: Some(true),
                run_as_user: Some(USER),
                run_as_group: Some(USER),
                fs_group: Some(USER),
                fs_group_change_policy: Some("OnRootMismatch".to_owned()),
                seccomp_profile: Some(SeccompProfile {
                    type_: "RuntimeDefault".to_owned(),
                    ..SeccompProfile::default()
                }),
                ..PodSecurityContext::default()
            }),
            image_pull_secrets: non_empty(desired.spec.image_pull_secrets.clone()),
            node_selector: (!scheduling.node_selector.is_empty())
                .then(|| scheduling.node_selector.clone().into_iter().collect()),
            affinity: scheduling.affinity.clone(),
            tolerations: non_empty(scheduling.tolerations.clone()),
            priority_class_name: scheduling.priority_class_name.clone(),
            topology_spread_constraints: Some(spread(desired)),
            containers: vec![container(desired, ordinal, bootstrap)],
            volumes: Some(vec![Volume {
                name: VOLUME.to_owned(),
                persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                    claim_name: names::volume(&desired.name, ordinal),
                    ..PersistentVolumeClaimVolumeSource::default()
                }),
                ..Volume::default()
            }]),
            ..PodSpec::default()
        }),
    }
}

fn container(desired: &Desired, ordinal: Ordinal, bootstrap: Option<&Bootstrap>) -> Container {
    let resources = desired.spec.resources.clone();
    Container {
        name: SERVER.to_owned(),
        image: Some(desired.image.clone()),
        image_pull_policy: desired
            .spec
            .image_pull_policy
            .map(|policy| format!("{policy:?}")),
        args: Some(args(desired, ordinal, bootstrap)),
        ports: Some(vec![
            port("client", names::CLIENT_PORT),
            port("peer", names::PEER_PORT),
        ]),
        resources: resources.map(|r| ResourceRequirements {
            requests: Some(r.requests),
            limits: Some(r.limits),
            ..ResourceRequirements::default()
        }),
        // What a server that failed said last is then in the pod's status, where the operator finds it.
        termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
        // Ten minutes to read back a large disk; a member that waits to be added is alive, too.
        startup_probe: Some(probe("/livez", 1, 600)),
        liveness_probe: Some(Probe {
            timeout_seconds: Some(5),
            ..probe("/livez", 10, 6)
        }),
        readiness_probe: Some(Probe {
            timeout_seconds: Some(2),
            ..probe("/readyz", 2, 2)
        }),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                ..Capabilities::default()
            }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![VolumeMount {
            name: VOLUME.to_owned(),
            mount_path: MOUNT.to_owned(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    }
}

/// The server's flags. What stands behind `--initial-` only matters on an empty disk.
///
/// Alike for every member: on an empty disk each waits. No template says that a pod may form a cluster, or a seed whose
/// disk was emptied under it would form a second one beside the first. Whoever does form it is told once, over the wire,
/// after the status says so.
fn args(desired: &Desired, ordinal: Ordinal, bootstrap: Option<&Bootstrap>) -> Vec<String> {
    let (cluster, namespace) = (desired.name.as_str(), desired.namespace.as_str());
    let name = names::member(cluster, ordinal);
    let peer_url = names::peer_url(cluster, namespace, ordinal);
    let anyone = names::any_peer_url(cluster, namespace);
    let initial_cluster = format!(
        "{name}={peer_url},{}={anyone}",
        names::peer_service(cluster)
    );
    let mut args = vec![
        format!("--name={name}"),
        format!("--data-dir={DATA_DIR}"),
        format!("--listen-client-urls=http://0.0.0.0:{}", names::CLIENT_PORT),
        format!(
            "--advertise-client-urls={}",
            names::client_url(cluster, namespace, ordinal)
        ),
        format!("--listen-peer-urls=http://0.0.0.0:{}", names::PEER_PORT),
        format!("--initial-advertise-peer-urls={peer_url}"),
        "--initial-cluster-state=existing".to_owned(),
        format!("--initial-cluster={initial_cluster}"),
        format!("--coord-owner={namespace}/{cluster}/{name}"),
    ];
    if let Some(bootstrap) = bootstrap {
        args.push(format!("--initial-cluster-token={}", bootstrap.token));
    }
    let server = &desired.spec.server;
    if let Some(milliseconds) = server.heartbeat_milliseconds {
        args.push(format!("--heartbeat-interval={milliseconds}"));
    }
    if let Some(milliseconds) = server.election_milliseconds {
        args.push(format!("--election-timeout={milliseconds}"));
    }
    if let Some(bytes) = server.quota.as_deref().and_then(quantity::parse) {
        args.push(format!("--quota-backend-bytes={bytes}"));
    }
    if let Some(level) = server.log_level {
        args.push(format!("--log-level={}", level.as_str()));
    }
    args
}

/// Over zones where possible, and over nodes strictly: two members that share a node share its fate.
///
/// A node that takes no pods (cordoned, not ready) is not counted, so that a member may move while it is away.
fn spread(desired: &Desired) -> Vec<TopologySpreadConstraint> {
    let own = &desired.spec.scheduling.topology_spread_constraints;
    if !own.is_empty() {
        return own.clone();
    }
    let over = |key: &str, unsatisfiable: &str| TopologySpreadConstraint {
        max_skew: 1,
        topology_key: key.to_owned(),
        when_unsatisfiable: unsatisfiable.to_owned(),
        label_selector: Some(LabelSelector {
            match_labels: Some(labels::selector(&desired.name)),
            ..LabelSelector::default()
        }),
        node_taints_policy: Some("Honor".to_owned()),
        ..TopologySpreadConstraint::default()
    };
    vec![
        over("topology.kubernetes.io/zone", "ScheduleAnyway"),
        over("kubernetes.io/hostname", "DoNotSchedule"),
    ]
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String("client".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: Some(name.to_owned()),
        container_port: i32::from(port),
        ..ContainerPort::default()
    }
}

fn non_empty<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}
