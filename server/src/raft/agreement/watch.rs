//! The end of a member that differs.

use tokio::sync::watch;

use super::Agreement;
use crate::raft::membership::Membership;
use crate::raft::removal::say;

impl Agreement {
    /// Ends this member once it is known to differ.
    pub(in crate::raft) async fn watch(
        self,
        membership: Membership,
        stop: watch::Sender<Option<String>>,
    ) {
        loop {
            self.0.found.notified().await;
            if let Some(why) = self.verdict(&membership.voters()) {
                return say(&stop, why);
            }
        }
    }
}
