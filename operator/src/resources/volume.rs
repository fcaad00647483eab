//! The PersistentVolumeClaim of one member, and the marks on it that outlive the CoordCluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::owner;
use crate::crd::Bootstrap;
use crate::model::{Ordinal, labels, names};
use crate::validate::Desired;

/// A new disk of a member.
///
/// Made by the operator and not from a StatefulSet's claim template, so that a lost disk is never replaced by an
/// empty one behind the operator's back. It carries the token and the seed it was made for, for a CoordCluster of
/// the same name that may take it over.
pub fn volume(
    desired: &Desired,
    ordinal: Ordinal,
    bootstrap: Option<&Bootstrap>,
) -> PersistentVolumeClaim {
    let made_for = names::made_for(&desired.name, &desired.namespace);
    let mut annotations: BTreeMap<String, String> =
        [(labels::MADE_FOR.to_owned(), made_for)].into();
    if let Some(Bootstrap { seed, token }) = bootstrap {
        annotations.insert(labels::TOKEN.to_owned(), token.clone());
        annotations.insert(labels::BOOTSTRAP_SEED.to_owned(), seed.to_string());
    }
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(names::volume(&desired.name, ordinal)),
            namespace: Some(desired.namespace.clone()),
            labels: Some(labels::of_member(&desired.name, ordinal)),
            annotations: Some(annotations),
            owner_references: desired.volumes_owned.then(|| vec![owner(desired)]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: desired.spec.storage.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(
                    [(
                        "storage".to_owned(),
                        Quantity(desired.spec.storage.size.clone()),
                    )]
                    .into(),
                ),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}
