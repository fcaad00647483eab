//! Disks grow in place; nothing restarts for it, and nothing is waited for.

use std::collections::BTreeMap;

use super::{Case, Verdict};
use crate::model::Ordinal;
use crate::observe::VolumeSeen;

/// The disks to ask another size for now. Also without a quorum: a disk that is full is how one is lost.
pub(super) fn growth(case: &Case) -> BTreeMap<Ordinal, String> {
    let due =
        unlike_the_spec(case).filter(|(_, v)| !(is_small(case, v) && v.expands == Some(false)));
    due.map(|(n, volume)| (n, volume.uid.clone())).collect()
}

/// Does every disk ask for what the spec says, or can it not?
pub(super) fn are_they_large_enough(case: &Case) -> Verdict {
    let Some((n, volume)) = unlike_the_spec(case).next() else {
        return Verdict::Pass;
    };
    let name = case.name(n);
    Verdict::Later(match (is_small(case, volume), volume.expands) {
        (true, Some(false)) => format!(
            "spec.storage.size: the disk of {name} is smaller, and its storage class does not allow volume expansion"
        ),
        (true, _) => format!("the disk of {name} is smaller than spec.storage.size"),
        (false, _) => format!("the disk of {name} is asked to be larger than spec.storage.size"),
    })
}

fn is_small(case: &Case, volume: &VolumeSeen) -> bool {
    volume.requested_bytes < case.desired.storage_bytes
}

/// The claims of this operator that ask for another size than the spec. One that was taken back before any storage
/// followed it must not be followed later. Kubernetes takes back only to more than the disk has.
fn unlike_the_spec<'a>(case: &'a Case) -> impl Iterator<Item = (Ordinal, &'a VolumeSeen)> {
    let wanted = case.desired.storage_bytes;
    let volumes = case.observed.volumes.iter();
    volumes
        .filter(|(_, v)| case.is_ours(v) && !v.deleting && !v.lost)
        .filter(move |(_, v)| {
            let asks_too_much =
                v.requested_bytes > wanted && v.capacity_bytes.is_some_and(|has| has < wanted);
            is_small(case, v) || asks_too_much
        })
        .map(|(n, v)| (*n, v))
}
