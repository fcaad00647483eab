//! Reasons to end this member: its core or log died, or it was removed from the cluster.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::sync::watch;

use super::core::Core;
use super::membership::Membership;
use super::peer::{self, Heard, Peers};
use crate::command::MemberId;

type Stop = watch::Sender<Option<String>>;

pub(super) fn say(stop: &Stop, why: String) {
    stop.send_if_modified(|reason| {
        let first = reason.is_none();
        if first {
            *reason = Some(why);
        }
        first
    });
}

/// A core that died leaves the process standing, but no longer a member.
pub(super) async fn watch_core(core: Core, stop: Stop) {
    let mut metrics = core.metrics();
    loop {
        let running = metrics.borrow_and_update().running_state.clone();
        if let Err(fatal) = running {
            return say(&stop, format!("Raft ended: {fatal}"));
        }
        if metrics.changed().await.is_err() {
            return say(&stop, "Raft ended".to_owned());
        }
    }
}

/// A log that failed to write is never written again.
pub(super) async fn watch_log(mut fault: watch::Receiver<Option<String>>, stop: Stop) {
    // An error means that the log was closed in good order.
    if let Ok(why) = fault.wait_for(Option::is_some).await {
        say(&stop, why.clone().unwrap_or_default());
    }
}

/// A state store that failed to write is opened anew by starting again.
pub(super) async fn watch_state(fault: impl Future<Output = Option<String>>, stop: Stop) {
    if let Some(why) = fault.await {
        say(&stop, format!("the state store failed: {why}"));
    }
}

/// Election timeouts after which a member asks even while all seems well.
const ASK_ANYWAY: u32 = 5;

/// Peers stop talking to a member that was removed, often before it has heard of it. So one that hears no leader for a
/// while asks them. Now and then it asks in any case: those that a survivor has dropped (`forced`) may have a leader and a quorum of
/// their own.
pub(super) async fn watch_removal(
    own: MemberId,
    membership: Membership,
    peers: Peers,
    heard: Heard,
    election: Duration,
    stop: Stop,
) {
    // The newest membership with this member in it: one without may be of before its time.
    let mut known = None;
    let mut asked = 0u32;
    loop {
        tokio::time::sleep(election).await;
        asked += 1;
        known = membership.committed_with(own).or(known);
        let members = membership.effective();
        let leads = membership.leadership.borrow().is_self;
        let is_well = leads || heard.ago() < election * 2;
        if is_well && asked < ASK_ANYWAY {
            continue;
        }
        asked = 0;
        for (member, urls, _) in members {
            if member != own && peer::ask::is_removed(&peers, member, &urls, known).await {
                let why = format!(
                    "this member ({own}) was removed from its cluster; its data directory is of no further use"
                );
                return say(&stop, why);
            }
        }
    }
}
