//! Protective writes are made whatever else stands in the way: while paused, beside a spec that is invalid, or while an
//! earlier cluster's objects are still going.

use crate::crd::{CoordCluster, ReclaimPolicy};
use crate::model::Ordinal;
use crate::observe::Observed;

/// A disk that names the CoordCluster as its owner, and would go with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tied {
    /// The member's number.
    pub ordinal: Ordinal,
    /// The claim's UID.
    pub uid: String,
    /// Its resource version.
    pub resource_version: String,
}

/// The disks to untie: all that would go with a CoordCluster whose spec says that they stay.
pub fn to_untie(cluster: &CoordCluster, observed: &Observed) -> Vec<Tied> {
    if cluster.spec.storage.reclaim_policy == ReclaimPolicy::Delete {
        return Vec::new();
    }
    let volumes = observed.volumes.iter();
    volumes
        .filter(|(_, volume)| volume.owned)
        .map(|(n, volume)| Tied {
            ordinal: *n,
            uid: volume.uid.clone(),
            resource_version: volume.resource_version.clone(),
        })
        .collect()
}
