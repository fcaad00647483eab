//! The end of a member that differs, and the alarm for it.

use std::time::Duration;

use tokio::sync::watch;

use super::Agreement;
use crate::command::{Alarm, AlarmCommand, AlarmKind, Command, MemberId, Principal};
use crate::raft::membership::Membership;
use crate::raft::propose::Proposer;
use crate::raft::removal::say;

/// Raises the alarm CORRUPT of members that differ, which all members know and which etcd's clients look for.
pub(in crate::raft) struct Alarms {
    pub(in crate::raft) own: MemberId,
    pub(in crate::raft) proposer: Proposer,
}

impl Alarms {
    /// Whether it stands now, as far as anybody can tell within `patience`.
    async fn raise(&self, member: MemberId, patience: Duration) -> bool {
        let kind = AlarmKind::Corrupt;
        let command = Command::Alarm(AlarmCommand::Activate(Alarm { kind, member }));
        let proposed = self.proposer.propose(Principal::System, command);
        let is_raised = matches!(tokio::time::timeout(patience, proposed).await, Ok(Ok(_)));
        match is_raised {
            true => {
                tracing::error!(%member, "found data inconsistency with peers: the alarm CORRUPT is raised")
            }
            false => tracing::warn!(%member, "the alarm CORRUPT could not be raised"),
        }
        is_raised
    }
}

impl Agreement {
    /// Ends this member once it is known to differ. With `alarms`, a leader raises the alarm of members that do, or its own.
    pub(in crate::raft) async fn stop_if_it_differs(
        self,
        membership: Membership,
        alarms: Option<Alarms>,
        stop: watch::Sender<Option<String>>,
    ) {
        let patience = self.0.patience;
        loop {
            self.0.found.notified().await;
            if let Some(why) = self.verdict(&membership.voters()) {
                return self.end(why, alarms, &membership, &stop).await;
            }
            let Some(alarms) = alarms.as_ref().filter(|_| !self.to_alarm().is_empty()) else {
                continue;
            };
            // Others may still say that it is this member which differs: they do so with their next heartbeats.
            tokio::time::sleep(patience / 2).await;
            if self.verdict(&membership.voters()).is_some() {
                self.0.found.notify_one();
                continue;
            }
            for member in self.to_alarm() {
                if membership.leadership.borrow().is_self
                    && alarms.raise(member, patience * 2).await
                {
                    self.was_alarmed(member);
                }
            }
            if !self.to_alarm().is_empty() && membership.leadership.borrow().is_self {
                self.0.found.notify_one();
            }
        }
    }

    /// A leader that differs can still have its alarm committed; then it ends.
    async fn end(
        &self,
        why: String,
        alarms: Option<Alarms>,
        membership: &Membership,
        stop: &watch::Sender<Option<String>>,
    ) {
        if let Some(alarms) = alarms
            && membership.leadership.borrow().is_self
        {
            alarms.raise(alarms.own, self.0.patience).await;
        }
        say(stop, why);
    }
}
