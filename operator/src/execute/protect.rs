//! Unties disks from a CoordCluster that keeps them. Needs no spec that can be acted on.

use std::time::Instant;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::objects::within;
use super::{ExecuteError, LOOK_AGE_MAX, Writes};
use crate::leader::LeaseValidity;
use crate::model::names;
use crate::plan::Tied;

/// Takes the owner off each of `tied`, which were seen in a look that began at `looked`.
pub async fn untie(
    client: &Client,
    writes: &Writes,
    validity: &LeaseValidity,
    looked: Instant,
    (cluster, namespace): (&str, &str),
    tied: &[Tied],
) -> Result<(), ExecuteError> {
    let volumes: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    for Tied {
        ordinal,
        uid,
        resource_version,
    } in tied
    {
        let name = names::volume(cluster, *ordinal);
        let metadata =
            json!({ "uid": uid, "resourceVersion": resource_version, "ownerReferences": [] });
        if !validity.holds() || looked.elapsed() > LOOK_AGE_MAX {
            return Err(ExecuteError::TooLate);
        }
        let patch = Patch::Merge(json!({ "metadata": metadata }));
        within(
            format!("patching claim {name}"),
            volumes.patch(&name, &PatchParams::default(), &patch),
        )
        .await?;
        writes.wrote("PatchVolume");
    }
    Ok(())
}
