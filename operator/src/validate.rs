//! The step from what was asked to what can be done: `(CoordCluster, Observed) -> Desired`, or the fields at fault.
//!
//! Most rules live at admission (`crd`); here are those that need a look at the cluster, and a second look at the few
//! whose violation would cost data, in case an older CRD let something through.

use crate::build::template_hash;
use crate::crd::{CoordCluster, CoordClusterSpec, ReclaimPolicy, quantity};
use crate::observe::{Observed, StorageClassSeen};
use kube::ResourceExt;

/// A spec that can be acted on, with every default resolved.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The CoordCluster's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its UID, which all children name as their owner.
    pub uid: String,
    /// Voting members.
    pub replicas: u32,
    /// The server image.
    pub image: String,
    /// The hash of everything that a running pod must be restarted for.
    pub template_hash: String,
    /// Bytes of each disk.
    pub storage_bytes: u64,
    /// True if disks go with the CoordCluster.
    pub volumes_owned: bool,
    /// True if nothing may be touched.
    pub paused: bool,
    /// The rest, as written.
    pub spec: CoordClusterSpec,
}

/// A field that cannot be acted on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its path, such as `spec.storage.storageClassName`.
    pub field: &'static str,
    /// What is wrong, and what to do.
    pub message: String,
}

/// The server images an operator hands out.
#[derive(Clone, Debug)]
pub struct ServerImage {
    /// Without tag, for `spec.version`.
    pub repository: String,
    /// For a spec that names neither image nor version.
    pub tag: String,
}

impl ServerImage {
    /// The image of a new cluster whose spec names none.
    pub fn default_image(&self) -> String {
        format!("{}:{}", self.repository, self.tag)
    }
}

/// Resolves `cluster`, or says which fields stand in the way.
pub fn validate(
    cluster: &CoordCluster,
    observed: &Observed,
    images: &ServerImage,
) -> Result<Desired, Vec<Problem>> {
    let spec = cluster.spec.clone();
    let mut problems = Vec::new();
    let mut problem = |field, message| problems.push(Problem { field, message });

    if !matches!(spec.replicas, 1 | 3 | 5 | 7) {
        problem(
            "spec.replicas",
            format!("must be 1, 3, 5 or 7, not {}", spec.replicas),
        );
    }
    let storage_bytes = quantity::parse(&spec.storage.size).unwrap_or(0);
    if storage_bytes == 0 {
        problem(
            "spec.storage.size",
            format!("{:?} is not a quantity above zero", spec.storage.size),
        );
    }
    if spec
        .server
        .quota
        .as_deref()
        .is_some_and(|quota| quantity::parse(quota).is_none())
    {
        problem(
            "spec.server.quota",
            "is not a quantity such as 2Gi".to_owned(),
        );
    }
    // Disks that exist don't need their class any more.
    let needs_disk = observed.volumes.len() < usize::try_from(spec.replicas).unwrap_or(0);
    if needs_disk && observed.storage_class == StorageClassSeen::Missing {
        let class = spec
            .storage
            .storage_class_name
            .as_deref()
            .unwrap_or_default();
        problem(
            "spec.storage.storageClassName",
            format!("there is no StorageClass {class:?}; create it"),
        );
    }
    if !problems.is_empty() {
        return Err(problems);
    }

    let image = image(&spec, observed, images);
    Ok(Desired {
        name: cluster.name_any(),
        namespace: cluster.namespace().unwrap_or_default(),
        uid: cluster.uid().unwrap_or_default(),
        replicas: u32::try_from(spec.replicas).expect("1, 3, 5 or 7, checked above"),
        template_hash: template_hash(&spec, &image),
        image,
        storage_bytes,
        volumes_owned: spec.storage.reclaim_policy == ReclaimPolicy::Delete,
        paused: spec.paused,
        spec,
    })
}

/// The image in order of authority. The default is the one recorded at creation, or what already runs if that record
/// was lost: a newer operator must not roll clusters that it did not create.
fn image(spec: &CoordClusterSpec, observed: &Observed, images: &ServerImage) -> String {
    if let Some(image) = &spec.image {
        return image.clone();
    }
    if let Some(version) = &spec.version {
        return format!("{}:{version}", images.repository);
    }
    if let Some(image) = &observed.record.server_image {
        return image.clone();
    }
    observed
        .sets
        .values()
        .next()
        .map_or_else(|| images.default_image(), |set| set.image.clone())
}
