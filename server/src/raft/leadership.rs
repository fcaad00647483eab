//! Who leads, as this member knows.

use openraft::ServerState;
use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use tokio::sync::watch;

use super::types::TypeConfig;
use crate::command::{LeaderKey, MemberId};
use crate::metrics::metrics as counters;

/// Who leads, as this member knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// Raft term.
    pub term: u64,
    /// The leader, if one is known.
    pub leader: Option<MemberId>,
    /// Whether it is this member.
    pub is_self: bool,
}

impl Leadership {
    /// Names one leadership: the term alone does not, with openraft's leader ids a term may see several leaders.
    pub fn key(&self) -> Option<LeaderKey> {
        self.leader.map(|leader| (self.term, leader))
    }
}

/// Follows openraft's word about it until the core ends.
pub(super) async fn follow(
    mut metrics: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
    leadership: watch::Sender<Leadership>,
) {
    loop {
        let now = {
            let metrics = metrics.borrow_and_update();
            Leadership {
                term: metrics.vote.leader_id.term,
                leader: metrics.current_leader.map(MemberId),
                is_self: metrics.state == ServerState::Leader,
            }
        };
        leadership.send_if_modified(|before| {
            let modified = *before != now;
            if modified {
                let leader = now
                    .leader
                    .map_or_else(|| "none".to_owned(), |id| id.to_string());
                tracing::info!(term = now.term, leader, is_self = now.is_self, "leadership");
                if now.leader.is_some() && before.key() != now.key() {
                    counters().leader_changes.inc();
                }
            }
            *before = now;
            modified
        });
        if metrics.changed().await.is_err() {
            leadership.send_replace(Leadership {
                leader: None,
                is_self: false,
                ..now
            });
            return;
        }
    }
}
