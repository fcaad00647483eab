//! Disks grow in place; nothing restarts for it.

use super::{Case, Step, Verdict};
use crate::observe::StorageClassSeen;

/// Is every disk as large as the spec says?
pub(super) fn are_they_large_enough(case: &Case) -> Verdict {
    for (n, volume) in &case.observed.volumes {
        if volume.requested_bytes >= case.desired.storage_bytes || volume.deleting {
            continue;
        }
        let name = case.name(*n);
        if case.observed.storage_class != (StorageClassSeen::Found { expands: true }) {
            return Verdict::Later(format!(
                "spec.storage.size: the disk of {name} is smaller, and its storage class does not allow volume expansion"
            ));
        }
        let step = Step::GrowVolume {
            ordinal: *n,
            uid: volume.uid.clone(),
        };
        return Verdict::Act(
            step,
            format!("the disk of {name} is smaller than spec.storage.size"),
        );
    }
    Verdict::Pass
}
