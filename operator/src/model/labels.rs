//! The labels and annotations of every object that the operator makes. They are interface: a change of a value orphans
//! what exists.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::{Ordinal, names};

/// The cluster that an object belongs to.
pub const CLUSTER: &str = "coord.dev/cluster";
/// The member that an object belongs to.
pub const MEMBER: &str = "coord.dev/member";
/// Whether the disruption budget counts a pod: [`VOTER`] or [`JOINING`].
pub const ROLE: &str = "coord.dev/role";
/// The pod's member votes.
pub const VOTER: &str = "voter";
/// The pod's member does not vote yet.
pub const JOINING: &str = "joining";
/// Annotation of StatefulSets and pods: the hash of what they were built from.
pub const TEMPLATE_HASH: &str = "coord.dev/template-hash";
/// Annotation of disks: the cluster whose data may be on it, in hexadecimal.
pub const CLUSTER_ID: &str = "coord.dev/cluster-id";
/// Annotation of disks: the member that lives on it, in hexadecimal.
pub const MEMBER_ID: &str = "coord.dev/member-id";
/// Annotation of disks: the member that lived on it and that the operator took out of the list, in hexadecimal. Without
/// it a disk on which a member lived is never deleted.
pub const REMOVED: &str = "coord.dev/removed";
/// Annotation of disks: the CoordCluster it was made for, as `namespace/name`. A copy in another namespace keeps it.
pub const MADE_FOR: &str = "coord.dev/made-for";
/// Annotation of disks: the cluster token it was made for.
pub const TOKEN: &str = "coord.dev/bootstrap-token";
/// Annotation of disks: the number of the member that bootstraps under that token.
pub const BOOTSTRAP_SEED: &str = "coord.dev/bootstrap-seed";

/// Labels of every object of a cluster.
pub fn of_cluster(cluster: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", "coord"),
        ("app.kubernetes.io/instance", cluster),
        ("app.kubernetes.io/managed-by", "coord-operator"),
        (CLUSTER, cluster),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Labels of every object of a member.
pub fn of_member(cluster: &str, ordinal: Ordinal) -> BTreeMap<String, String> {
    let mut labels = of_cluster(cluster);
    labels.insert(
        "app.kubernetes.io/component".to_owned(),
        "member".to_owned(),
    );
    labels.insert(MEMBER.to_owned(), names::member(cluster, ordinal));
    labels
}

/// The role label's value.
pub fn role(is_voter: bool) -> &'static str {
    if is_voter { VOTER } else { JOINING }
}

/// The selector of all pods of a cluster.
pub fn selector(cluster: &str) -> BTreeMap<String, String> {
    [
        (CLUSTER.to_owned(), cluster.to_owned()),
        (
            "app.kubernetes.io/component".to_owned(),
            "member".to_owned(),
        ),
    ]
    .into()
}

/// The same, as a string for list calls and the scale subresource.
pub fn selector_text(cluster: &str) -> String {
    selector(cluster)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect::<Vec<_>>()
        .join(",")
}

/// The selector of the voters' pods.
pub fn voters(cluster: &str) -> LabelSelector {
    let mut labels = selector(cluster);
    labels.insert(ROLE.to_owned(), VOTER.to_owned());
    LabelSelector {
        match_labels: Some(labels),
        ..LabelSelector::default()
    }
}
