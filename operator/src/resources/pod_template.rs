//! The pod of one member: container, probes, scheduling, security. Its flags are in `flags`.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, HTTPGetAction, PersistentVolumeClaimVolumeSource,
    PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements, SeccompProfile,
    SecurityContext, TopologySpreadConstraint, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::flags;
use crate::crd::Bootstrap;
use crate::model::{Ordinal, labels, names, template::SERVER};
use crate::validate::Desired;

const VOLUME: &str = "data";
const MOUNT: &str = "/var/lib/coord";
/// `nonroot`, as minimal base images call it.
const USER: i64 = 65532;
/// Enough to hand over leadership and close the log.
const GRACE_SECONDS: i64 = 30;

/// The pod of one member. It passes the `restricted` pod security level.
///
/// Whether it votes is no part of the template: that would be another revision with each promotion, and a revision that
/// differs is how a template that somebody else wrote is known. It is put on running pods; one without it counts for no
/// budget, which then allows less.
pub(super) fn pod_template(
    desired: &Desired,
    ordinal: Ordinal,
    is_placed: bool,
    bootstrap: Option<&Bootstrap>,
) -> PodTemplateSpec {
    let scheduling = &desired.spec.scheduling;
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels::of_member(&desired.name, ordinal)),
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
            service_account_name: Some(names::service_account(&desired.name)),
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
            topology_spread_constraints: Some(spread(desired, is_placed)),
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
        args: Some(flags::args(desired, ordinal, bootstrap)),
        ports: Some(vec![
            port("client", names::CLIENT_PORT),
            port("peer", names::PEER_PORT),
        ]),
        resources: resources.map(|r| ResourceRequirements {
            requests: Some(r.requests),
            limits: Some(r.limits),
            ..ResourceRequirements::default()
        }),
        // The last words of a server that failed are then in the pod's status, where the operator finds them.
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

/// Over zones where possible, and over nodes strictly: two members that share a node share its fate.
///
/// A node that takes no pods (cordoned, not ready) is not counted, so that a member may move while it is away. A pod whose
/// disk is tied to a node runs there or nowhere: if another member came to be there too, strictness would only keep it
/// from starting again.
fn spread(desired: &Desired, is_placed: bool) -> Vec<TopologySpreadConstraint> {
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
        over(
            "kubernetes.io/hostname",
            if is_placed {
                "ScheduleAnyway"
            } else {
                "DoNotSchedule"
            },
        ),
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
