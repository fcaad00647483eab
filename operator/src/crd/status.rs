//! The status of a CoordCluster, read by people and the next pass.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The operator's last observation, and the facts it must remember about the cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CoordClusterStatus {
    /// The generation of the spec that this status speaks about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Voting members, healthy or not.
    #[serde(default)]
    pub replicas: i32,
    /// Voting members that take part and have caught up.
    #[serde(default)]
    pub healthy_replicas: i32,
    /// The label selector of the member pods, for the scale subresource.
    #[serde(default)]
    pub selector: String,
    /// The cluster's id in hexadecimal. Once set, the operator never bootstraps again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// How the first member was started. Recorded before its pod exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
    /// The server image that members run, or are being changed to. It stays until `spec.version` or `spec.image` says
    /// otherwise, whatever images a newer operator, or one that is configured otherwise, hands to new clusters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_image: Option<String>,
    /// The `spec.version` that the image was chosen for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_version: Option<String>,
    /// The disks; absent until there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<StorageRow>,
    /// The name of the leading member.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// The lowest version of Coord's server among the members that answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// One row per member, in order of their number.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub members: Vec<MemberRow>,
    /// The step the operator takes, recorded before it acts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<Operation>,
    /// Ready, Quorate, Progressing, Degraded, StorageHealthy, Spread, Stalled, Paused.
    #[serde(default)]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// How the first member of a cluster was started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// The number of the member that starts the cluster alone; all others join it.
    pub seed: i32,
    /// The initial cluster token: drawn once, so that two clusters of one name never mix.
    pub token: String,
}

/// The disks of all members together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StorageRow {
    /// The size of the largest of them: `spec.storage.size` cannot be set below it.
    #[schemars(length(max = 32))]
    pub capacity: String,
}

/// One member, as seen by the leader and by itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MemberRow {
    /// The member's name, which is also its StatefulSet's.
    pub name: String,
    /// The member id in hexadecimal; absent until the member has been added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// leader, voter or learner; joining if it waits to be added; unknown while there is no member list.
    pub role: String,
    /// True if it answers, follows the leader and has caught up.
    pub healthy: bool,
    /// Log entries it is behind the leader; absent if it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<i64>,
    /// The version of Coord's server that it runs; absent if it does not answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The node its pod is on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Why it is not healthy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// A step in progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// The step that is being done.
    pub step: String,
    /// Why.
    pub because: String,
    /// Since when.
    pub started_at: Time,
}
