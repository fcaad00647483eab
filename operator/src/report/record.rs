//! The part of the status that the operator reads back: cluster id, seed and token, the image that was chosen. It is only
//! ever added to, and no other room writes it.

use crate::crd::{Bootstrap, CoordClusterStatus};
use crate::observe::Observed;
use crate::plan::Step;
use crate::validate::Desired;

/// Writes into `status` what `step` records, before it is taken.
///
/// `new_token` is used if a bootstrap is recorded for which no disk has a token.
pub(super) fn write(
    status: &mut CoordClusterStatus,
    observed: &Observed,
    desired: &Desired,
    step: &Step,
    new_token: impl FnOnce() -> String,
) {
    status.server_image = Some(desired.image.clone());
    status.server_version = desired.spec.version.clone();
    match step {
        Step::RecordBootstrap { seed, token } => {
            let token = token.clone().unwrap_or_else(new_token);
            status.bootstrap = Some(Bootstrap {
                seed: i32::try_from(*seed).unwrap_or(0),
                token,
            });
        }
        Step::RecordCluster { cluster_id } => {
            status.cluster_id = Some(format!("{cluster_id:x}"));
            // New members must know the token of the cluster they join; its disks do.
            let on_disk = observed
                .volumes
                .values()
                .filter(|v| v.cluster_id == Some(*cluster_id));
            let on_disk = on_disk.filter_map(|v| v.bootstrap.clone()).next();
            status.bootstrap = status.bootstrap.take().or(on_disk);
        }
        Step::Done
        | Step::Wait
        | Step::Stall
        | Step::MarkVolume { .. }
        | Step::Bootstrap { .. }
        | Step::MarkRemoved { .. }
        | Step::AddLearner { .. }
        | Step::Promote { .. }
        | Step::MoveLeader { .. }
        | Step::RemoveMember { .. }
        | Step::DeleteSet { .. }
        | Step::DeleteVolume { .. }
        | Step::RestartPod { .. } => {}
    }
}
