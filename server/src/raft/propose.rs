//! Proposals: gathered while others are under way, sent to the leader in order, answered by the member they came from.
//!
//! Every member gathers: proposals that arrive while two batches are in flight become the next. A follower's batch
//! goes to the leader as one message; the leader gathers what its members sent into one log entry. The answer never
//! travels: a member answers its clients when it has itself applied the entry. A proposal that may have reached a log
//! is never proposed again; if it is lost its outcome is unknown, and the client is told so.
//!
//! Invariant: one size counts everywhere, the encoded length. A gathered batch fits into one record of the log; a
//! proposal that does not is refused before it is proposed, so that no client can have the log refuse it (which ends
//! the member).

mod gather;
pub(super) mod pending;

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::command::{Command, MemberId, Principal, Unavailable, codec};
use crate::state::Answer;
use crate::steps;
pub(super) use gather::{Forwarded, Gather, run};
use pending::{Pending, Proposed};

/// Where commands go in.
#[derive(Clone)]
pub(super) struct Proposer {
    gather: Arc<Gather>,
    pending: Pending,
}

impl Proposer {
    /// The log takes entries of at most `entry_bytes_max`.
    pub(super) fn new(
        origin: MemberId,
        run: u64,
        entry_bytes_max: usize,
    ) -> (Self, Arc<Gather>, Pending) {
        let pending = Pending::new(origin, run);
        let gather = Arc::new(Gather::new(entry_bytes_max));
        let proposer = Self {
            gather: gather.clone(),
            pending: pending.clone(),
        };
        (proposer, gather, pending)
    }

    /// The largest command that can be proposed, as [`codec::proposal_bytes`] counts.
    pub(super) fn proposal_bytes_max(&self) -> usize {
        self.gather.batch_bytes_max()
    }

    /// Proposes a command; resolves when this member has applied it and readers can see it.
    ///
    /// Errors: `TooManyRequests` before anything was proposed, also for a command that no entry has room for;
    /// `LeaderChanged` when its outcome cannot be known.
    pub(super) async fn propose(
        &self,
        principal: Principal,
        command: Command,
    ) -> Result<Answer, Unavailable> {
        let bytes = codec::proposal_bytes(&principal, &command);
        if bytes > self.gather.batch_bytes_max() {
            return Err(Unavailable::TooManyRequests);
        }
        let (reply, outcome) = oneshot::channel();
        let proposal = self.pending.register(principal, command, bytes, reply)?;
        self.gather.push(proposal, bytes);
        let Proposed {
            answer,
            sent,
            committed,
        } = outcome.await.unwrap_or(Err(Unavailable::Stopped))?;
        steps::mark_at("waited to be proposed", sent);
        steps::mark_at("replicated", committed);
        steps::mark(steps::APPLIED);
        Ok(answer)
    }
}
