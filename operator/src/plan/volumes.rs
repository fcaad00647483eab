//! Disks grow in place; nothing restarts for it.

use super::{Case, Step, Verdict};

/// Is every disk as large as the spec says?
pub(super) fn are_they_large_enough(case: &Case) -> Verdict {
    let wanted = case.desired.storage_bytes;
    for (n, volume) in &case.observed.volumes {
        let is_small = volume.requested_bytes < wanted;
        // A size that was taken back before any storage followed it must not be followed later. Kubernetes takes back only
        // to more than the disk has.
        let asks_too_much = volume.requested_bytes > wanted
            && volume.capacity_bytes.is_some_and(|has| has < wanted);
        if !(is_small || asks_too_much) || volume.deleting {
            continue;
        }
        let name = case.name(*n);
        if is_small && volume.expands == Some(false) {
            return Verdict::Later(format!(
                "spec.storage.size: the disk of {name} is smaller, and its storage class does not allow volume expansion"
            ));
        }
        let step = Step::GrowVolume {
            ordinal: *n,
            uid: volume.uid.clone(),
        };
        let than = if is_small {
            "smaller"
        } else {
            "asked to be larger"
        };
        return Verdict::Act(
            step,
            format!("the disk of {name} is {than} than spec.storage.size"),
        );
    }
    Verdict::Pass
}
