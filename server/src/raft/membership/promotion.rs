//! Gives members that were added as voters their votes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;

use super::view::View;
use super::{ChangeError, Membership};
use crate::command::{MemberId, Unavailable};
use crate::raft::types::Place;

/// How often the leader looks whether a member that awaits its vote has caught up.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// While this member leads: a member that awaits its vote gets it as soon as it is fit, one after the other.
pub(in crate::raft) async fn run(membership: Membership) {
    let mut metrics = membership.core.server_metrics();
    let mut leadership = membership.leadership.clone();
    loop {
        let is_awaited = {
            let metrics = metrics.borrow_and_update();
            let mut members = metrics.membership_config.membership().nodes();
            members.any(|(_, place)| place.awaits_vote)
        };
        let leads = leadership.borrow_and_update().is_self;
        if !(is_awaited && leads) {
            let changed = tokio::select! {
                changed = metrics.changed() => changed.is_ok(),
                changed = leadership.changed() => changed.is_ok(),
            };
            if !changed {
                return;
            }
            continue;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
        let Some(id) = View::new(&membership).fit_for_vote() else {
            continue;
        };
        match membership.in_turn(move |this| this.vote_for(id)).await {
            Ok(()) => tracing::info!(member_id = %id, "a member that was added has its vote"),
            Err(error) => tracing::debug!(member_id = %id, %error, "it has no vote yet"),
        }
    }
}

impl Membership {
    /// The change that gives a member its vote, if it is still fit for it.
    fn vote_for(&self, id: MemberId) -> Result<(ChangeMembers<u64, Place>, bool), ChangeError> {
        if View::new(self).fit_for_vote() != Some(id) {
            return Err(Unavailable::Unhealthy.into());
        }
        let place = Place::at(self.urls(id));
        let change = vec![
            ChangeMembers::SetNodes(BTreeMap::from([(id.0, place)])),
            ChangeMembers::AddVoterIds(BTreeSet::from([id.0])),
        ];
        Ok((ChangeMembers::Batch(change), true))
    }
}
