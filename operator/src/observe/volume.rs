//! Reads claims and their storage classes: the marks on a disk, its size, and whether it can grow.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimStatus};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::ListParams;
use kube::{Api, Client, Error, ResourceExt};

use super::text::{annotation, id};
use super::{Observed, StorageClassSeen, VolumeSeen};
use crate::crd::{Bootstrap, CoordCluster, quantity};
use crate::model::labels;

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// `volume`, as the planner sees it. `owner` is the UID of the CoordCluster.
pub(super) fn volume_seen(volume: &PersistentVolumeClaim, owner: &str) -> VolumeSeen {
    let annotations = volume.annotations();
    let requests = volume
        .spec
        .as_ref()
        .and_then(|s| s.resources.as_ref()?.requests.as_ref());
    let bootstrap =
        annotation(annotations, labels::TOKEN).zip(annotation(annotations, labels::BOOTSTRAP_SEED));
    VolumeSeen {
        uid: volume.uid().unwrap_or_default(),
        resource_version: volume.resource_version().unwrap_or_default(),
        cluster_id: annotation(annotations, labels::CLUSTER_ID).and_then(id),
        member_id: annotation(annotations, labels::MEMBER_ID).and_then(id),
        removed_id: annotation(annotations, labels::REMOVED).and_then(id),
        made_for: annotation(annotations, labels::MADE_FOR).map(str::to_owned),
        bootstrap: bootstrap.and_then(|(token, seed)| {
            Some(Bootstrap {
                token: token.to_owned(),
                seed: seed.parse().ok()?,
            })
        }),
        requested_bytes: requests
            .and_then(|r| quantity::parse(&r.get("storage")?.0))
            .unwrap_or(0),
        capacity_bytes: volume
            .status
            .as_ref()
            .and_then(|s| quantity::parse(&s.capacity.as_ref()?.get("storage")?.0)),
        class: volume
            .spec
            .as_ref()
            .and_then(|s| s.storage_class_name.clone()),
        resize_trouble: volume.status.as_ref().and_then(resize_trouble),
        expands: None,
        volume_name: volume.spec.as_ref().and_then(|s| s.volume_name.clone()),
        tied_to: None,
        home: None,
        lost: volume.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Lost"),
        deleting: volume.metadata.deletion_timestamp.is_some(),
        owned: volume.owner_references().iter().any(|o| o.uid == owner),
        trouble: None,
        stripped: false,
    }
}

/// The obstacle to growth, in the words of the resizer or the kubelet.
fn resize_trouble(status: &PersistentVolumeClaimStatus) -> Option<String> {
    const TYPES: [&str; 2] = ["ControllerResizeError", "NodeResizeError"];
    let conditions = status.conditions.as_ref()?.iter();
    let mut failed = conditions.filter(|c| TYPES.contains(&c.type_.as_str()) && c.status == "True");
    let message = failed.next()?.message.as_deref().unwrap_or_default();
    Some(message.chars().take(400).collect())
}

/// The class that new disks get. An operator that may not read classes finds out from the disks.
pub(super) async fn storage_class(
    client: &Client,
    cluster: &CoordCluster,
) -> Result<StorageClassSeen, Error> {
    let classes: Api<StorageClass> = Api::all(client.clone());
    let found = |class: &StorageClass| StorageClassSeen::Found {
        expands: class.allow_volume_expansion == Some(true),
    };
    let seen = match &cluster.spec.storage.storage_class_name {
        Some(name) => classes
            .get_opt(name)
            .await
            .map(|c| c.as_ref().map_or(StorageClassSeen::Missing, found)),
        // Without a default class a claim may still be bound to a volume that was made by hand.
        None => classes.list(&ListParams::default()).await.map(|classes| {
            let default = classes
                .iter()
                .find(|c| annotation(c.annotations(), DEFAULT_CLASS) == Some("true"));
            default.map_or(StorageClassSeen::Unknown, found)
        }),
    };
    match seen {
        Ok(seen) => Ok(seen),
        Err(Error::Api(status)) if status.is_forbidden() => Ok(StorageClassSeen::Unknown),
        Err(error) => Err(error),
    }
}

/// Asks the classes of disks that are too small whether they can grow: the claim's own, which may be neither the spec's
/// nor the default of today.
pub(super) async fn can_grow(
    client: &Client,
    cluster: &CoordCluster,
    observed: &mut Observed,
) -> Result<(), Error> {
    let wanted = quantity::parse(&cluster.spec.storage.size).unwrap_or(0);
    let small = observed
        .volumes
        .values()
        .filter(|v| v.requested_bytes < wanted);
    let names: BTreeSet<String> = small.filter_map(|v| v.class.clone()).collect();
    let classes: Api<StorageClass> = Api::all(client.clone());
    for name in names {
        let expands = match classes.get_opt(&name).await {
            Ok(Some(class)) => Some(class.allow_volume_expansion == Some(true)),
            // Gone since, or none that was ever there: volumes that were made by hand.
            Ok(None) => Some(false),
            Err(Error::Api(status)) if status.is_forbidden() => None,
            Err(error) => return Err(error),
        };
        let of_class = observed
            .volumes
            .values_mut()
            .filter(|v| v.class.as_ref() == Some(&name));
        of_class.for_each(|volume| volume.expands = expands);
    }
    Ok(())
}
