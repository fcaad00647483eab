//! The spec of a CoordCluster: types, defaults and the rules that the API server checks. Its comments are the text of
//! `kubectl explain`.

#![expect(
    unreachable_pub,
    reason = "derive(KubeSchema) generates public structs inside private functions"
)]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Affinity, LocalObjectReference, Toleration, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::{CustomResource, KubeSchema};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::CoordClusterStatus;

/// A Coord cluster: an odd number of members that agree on every write.
#[derive(CustomResource, KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "coord.dev",
    version = "v1alpha1",
    kind = "CoordCluster",
    plural = "coordclusters",
    shortname = "cc",
    namespaced,
    status = "CoordClusterStatus",
    derive = "PartialEq",
    doc = "A Coord cluster: coordination for etcd clients, run by the Coord operator.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Wanted", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Voters", type_ = "integer", json_path = ".status.replicas"),
    printcolumn(name = "Healthy", type_ = "integer", json_path = ".status.healthyReplicas"),
    printcolumn(name = "Leader", type_ = "string", json_path = ".status.leader"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')")
        .message("metadata.name must begin with a letter, hold only a-z, 0-9 and '-', and have at most 40 characters: names of Services are made from it"),
    validation = Rule::new("!isQuantity(self.spec.storage.size) || !isQuantity(oldSelf.spec.storage.size) || quantity(self.spec.storage.size).compareTo(quantity(oldSelf.spec.storage.size)) >= 0 || !has(self.status) || !has(self.status.storage) || quantity(self.spec.storage.size).compareTo(quantity(self.status.storage.capacity)) >= 0")
        .message("spec.storage.size cannot be below status.storage.capacity, which a disk has already: disks never shrink"),
    validation = Rule::new("!has(self.status) || !has(self.status.storage) || (has(self.spec.storage.storageClassName) ? self.spec.storage.storageClassName : '') == (has(oldSelf.spec.storage.storageClassName) ? oldSelf.spec.storage.storageClassName : '')")
        .message("spec.storage.storageClassName cannot be changed once there is a disk (status.storage): a disk stays in the class that it was made in")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.version) && has(self.image))")
        .message("set spec.version or spec.image, not both: an image already says which version it is")
        .field_path(".version")
)]
pub struct CoordClusterSpec {
    /// Voting members: 1, 3, 5 or 7. An even number tolerates no more failures than the odd number below it.
    #[serde(default = "three")]
    #[x_kube(validation = Rule::new("self in [1, 3, 5, 7]").message("spec.replicas must be 1, 3, 5 or 7"))]
    pub replicas: i32,
    /// The server version, such as `0.1.0`: the tag of the operator's default server image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[x_kube(validation = Rule::new(
        "self.matches('^v?(0|[1-9][0-9]*)[.](0|[1-9][0-9]*)[.](0|[1-9][0-9]*)(-[0-9A-Za-z.-]+)?$')"
    ).message("spec.version must be a version such as 0.1.0 or 0.2.0-rc.1"))]
    pub version: Option<String>,
    /// The server image, if it is not the operator's default.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new("self.matches('^[^ \\t\\n]+$')").message("spec.image must not be empty or hold spaces"))]
    pub image: Option<String>,
    /// When the kubelet pulls the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<PullPolicy>,
    /// Secrets to pull the image with.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// The disk of each member.
    pub storage: Storage,
    /// CPU and memory of each member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,
    /// Where members may run. By default they spread over zones and then over nodes.
    #[serde(default)]
    pub scheduling: Scheduling,
    /// Options of the server.
    #[serde(default)]
    pub server: ServerOptions,
    /// When a member is replaced without being asked to.
    #[serde(default)]
    pub repair: Repair,
    /// While true the operator touches nothing and only reports.
    #[serde(default)]
    pub paused: bool,
}

fn three() -> i32 {
    3
}

/// The disk of each member.
#[derive(KubeSchema, Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Storage {
    /// Its size, such as `10Gi`. It can grow if the storage class allows it; a disk never shrinks, so that what no disk
    /// has reached yet can be taken back.
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(
        validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
            .message("spec.storage.size must be a quantity above zero, such as 10Gi")
    )]
    pub size: String,
    /// The StorageClass; the cluster's default class if absent. It cannot change once there is a disk.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// Whether the disks are kept or deleted with the CoordCluster. A retained disk is taken over by the next
    /// CoordCluster of the same name.
    #[serde(default)]
    pub reclaim_policy: ReclaimPolicy,
}

/// Whether the disks are kept or deleted with the CoordCluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReclaimPolicy {
    /// The disks stay.
    #[default]
    Retain,
    /// The disks are deleted with the CoordCluster.
    Delete,
}

/// When the kubelet pulls an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "Kubernetes' own words")]
pub enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

/// CPU and memory of each member.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// Resources reserved for a member.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    #[x_kube(validation = Rule::new("self.all(k, type(self[k]) == int || isQuantity(self[k]))")
        .message("spec.resources.requests: each value must be a quantity, such as 500m or 1Gi"))]
    pub requests: BTreeMap<String, Quantity>,
    /// Resources that a member may use at most.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "quantities")]
    #[x_kube(validation = Rule::new("self.all(k, type(self[k]) == int || isQuantity(self[k]))")
        .message("spec.resources.limits: each value must be a quantity, such as 500m or 1Gi"))]
    pub limits: BTreeMap<String, Quantity>,
}

/// A bounded map of quantities: without the bounds the API server's cost estimate refuses the rules above.
fn quantities(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 8,
        "additionalProperties": {
            "x-kubernetes-int-or-string": true,
            "maxLength": 32
        }
    })
}

/// Where members may run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Scheduling {
    /// Labels a node must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Affinity of the member pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// Taints the member pods tolerate.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,
    /// Replaces the default spread over zones and nodes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    /// The priority class of the member pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

/// When a member is replaced without being asked to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Repair {
    /// Whether a member whose disk is tied to a node that Kubernetes no longer has is replaced, or the node waited
    /// for.
    #[serde(default)]
    pub lost_node: LostNode,
    /// Seconds for which the node must have been gone. Default 600.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 604_800))]
    pub lost_node_seconds: Option<i32>,
}

impl Repair {
    /// Seconds that a gone node is waited for; `None` for ever.
    pub fn lost_node_patience(&self) -> Option<i64> {
        match self.lost_node {
            LostNode::Replace => Some(self.lost_node_seconds.map_or(600, i64::from)),
            LostNode::Wait => None,
        }
    }
}

/// Whether a member whose disk is tied to a node that Kubernetes no longer has is replaced, or the node waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum LostNode {
    /// It is removed and joins again with a new disk, if the others are a healthy quorum.
    #[default]
    Replace,
    /// It is waited for.
    Wait,
}

/// Options of the server.
#[derive(KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.electionMilliseconds) ? self.electionMilliseconds : 1000) >= 5 * (has(self.heartbeatMilliseconds) ? self.heartbeatMilliseconds : 100)")
        .message("spec.server.electionMilliseconds must be at least five times heartbeatMilliseconds (defaults: 1000 and 100)")
        .field_path(".electionMilliseconds")
)]
pub struct ServerOptions {
    /// Time between two heartbeats of the leader.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 10000))]
    pub heartbeat_milliseconds: Option<i32>,
    /// Time without a leader after which a member stands for election.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50, max = 50000))]
    pub election_milliseconds: Option<i32>,
    /// How much data a cluster may hold, such as `2Gi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))")
        .message("spec.server.quota must be a quantity above zero, such as 2Gi"))]
    pub quota: Option<String>,
    /// How much the server logs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<LogLevel>,
}

/// How much the server logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words are the meaning")]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    /// The word the server's flag takes.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}
