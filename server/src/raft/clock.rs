//! When openraft's clock runs. It ticks some fifty times a second, for elections and heartbeats; a member that is the whole
//! cluster and leads it needs neither, and may sleep.

use openraft::ServerState;
use openraft::async_runtime::WatchReceiver;

use super::core::Core;

/// Stops the clock while this member is alone, and starts it as soon as there is somebody else, or no leader.
pub(super) async fn run(core: Core, own: u64) {
    let mut metrics = core.server_metrics();
    loop {
        let is_alone = {
            let metrics = metrics.borrow_and_update();
            let mut members = metrics.membership_config.membership().nodes();
            metrics.state == ServerState::Leader && members.all(|(id, _)| *id == own)
        };
        core.runtime_config().tick(!is_alone);
        if metrics.changed().await.is_err() {
            return;
        }
    }
}
