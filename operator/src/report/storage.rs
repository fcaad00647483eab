//! StorageHealthy: whether the disks are as large as asked for, and whether what is stored fits.

use crate::crd::{StorageRow, quantity};
use crate::model::{Ordinal, names};
use crate::observe::Observed;
use crate::validate::Desired;

/// Percent of the quota beyond which writes may be refused any moment.
const FULL_PERCENT: u64 = 95;

/// Reason and sentence, if something is wrong with the disks.
pub(super) fn trouble(observed: &Observed, desired: &Desired) -> Option<(&'static str, String)> {
    if let Some((n, why)) = cannot_grow(observed, desired) {
        return Some((
            CANNOT_EXPAND,
            format!("the disk of {} {why}", names::member(&desired.name, n)),
        ));
    }
    if let Some((n, answer)) = observed.answers.iter().find(|(_, answer)| {
        answer.quota_bytes > 0 && answer.in_use_bytes * 100 >= answer.quota_bytes * FULL_PERCENT
    }) {
        return Some((
            "QuotaReached",
            format!(
                "{} stores nearly as much as its quota of {} allows, or more: writes are refused. Delete keys and compact, or \
                 raise spec.server.quota",
                names::member(&desired.name, *n),
                quantity::of_bytes(answer.quota_bytes)
            ),
        ));
    }
    let small = observed.volumes.iter().filter(|(_, v)| {
        !v.deleting
            && v.capacity_bytes
                .is_some_and(|has| has < desired.storage_bytes)
    });
    // One whose storage says why it does not grow tells more.
    let told = small.min_by_key(|(_, v)| v.resize_trouble.is_none());
    told.map(|(n, volume)| {
        let trouble = volume.resize_trouble.as_ref();
        let trouble = trouble.map(|why| {
            format!(
                " ({why}). A size that no disk has reached can be set back in spec.storage.size"
            )
        });
        (
            "DisksGrow",
            format!(
                "the disk of {} has {} of {}: its storage has not grown it yet{}",
                names::member(&desired.name, *n),
                quantity::of_bytes(volume.capacity_bytes.unwrap_or(0)),
                desired.spec.storage.size,
                trouble.unwrap_or_default()
            ),
        )
    })
}

/// The reason while a class does not let disks grow.
pub(super) const CANNOT_EXPAND: &str = "CannotExpand";

/// A disk that will never be as large as asked for, and the way out.
fn cannot_grow(observed: &Observed, desired: &Desired) -> Option<(Ordinal, String)> {
    let (n, volume) = observed.cannot_grow(desired.storage_bytes)?;
    let class = volume.class.as_deref().unwrap_or_default();
    let has = quantity::of_bytes(volume.capacity_bytes.unwrap_or(volume.requested_bytes));
    Some((
        n,
        format!(
            "has {has}, and StorageClass {class:?} does not allow expansion (allowVolumeExpansion): set spec.storage.size \
             back, or let the class allow it"
        ),
    ))
}

/// The status row of all disks together.
pub(super) fn row(observed: &Observed) -> Option<StorageRow> {
    let largest = observed
        .volumes
        .values()
        .map(|v| v.capacity_bytes.unwrap_or(0))
        .max()?;
    Some(StorageRow {
        capacity: quantity::of_bytes(largest),
    })
}
