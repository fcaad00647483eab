//! Proposals: gathered while others are under way, sent to the leader in order, answered by the member they came from.
//!
//! Every member gathers: what arrives while two batches are in flight becomes the next. A follower's batch goes to the
//! leader as one message; the leader gathers what its members sent into one log entry. The answer never travels: a
//! member answers its clients when it has itself applied the entry. A proposal that may have reached a log is never
//! proposed again; if it is lost its outcome is unknown, and the client is told so.

mod gather;
mod pending;

use std::sync::Arc;

pub(super) use gather::{Forwarded, Gather, run};
pub(super) use pending::Pending;
use tokio::sync::oneshot;

use crate::command::{Command, MemberId, Op, Outcome, PutValue, Unavailable};

/// Proposals of this member that may wait for their outcome.
const REQUESTS_MAX: usize = 16 * 1024;
/// And their bytes.
const BYTES_MAX: usize = 64 << 20;

/// Where commands go in.
#[derive(Clone)]
pub(super) struct Proposer {
    gather: Arc<Gather>,
    pending: Pending,
}

impl Proposer {
    pub(super) fn new(origin: MemberId, run: u64) -> (Self, Arc<Gather>, Pending) {
        let pending = Pending::new(origin, run);
        let gather = Arc::new(Gather::default());
        let proposer = Self {
            gather: gather.clone(),
            pending: pending.clone(),
        };
        (proposer, gather, pending)
    }

    /// Proposes a command; resolves when this member has applied it and readers can see it.
    ///
    /// Errors: `TooManyRequests` before anything was proposed; `LeaderChanged` when its outcome cannot be known.
    pub(super) async fn propose(&self, command: Command) -> Result<Outcome, Unavailable> {
        let bytes = weight(&command);
        let (reply, outcome) = oneshot::channel();
        let proposal = self.pending.register(command, bytes, reply)?;
        self.gather.push(proposal, bytes);
        outcome.await.unwrap_or(Err(Unavailable::Stopped))
    }
}

/// About how many bytes a command takes in a log entry.
pub(super) fn weight(command: &Command) -> usize {
    const HEAD: usize = 48;
    fn put(put: &crate::command::Put) -> usize {
        let value = match &put.value {
            PutValue::Set(value) => value.len(),
            PutValue::Keep => 0,
        };
        HEAD + put.key.len() + value
    }
    fn op(op: &Op) -> usize {
        match op {
            // The bounds of a range, generously.
            Op::Range(_) | Op::DeleteRange(_) => 4 * HEAD,
            Op::Put(inner) => put(inner),
        }
    }
    match command {
        Command::Put(inner) => put(inner),
        Command::DeleteRange(_) => 4 * HEAD,
        Command::Txn(txn) => {
            let compares: usize = txn
                .compares
                .iter()
                .map(|compare| HEAD + compare.key.len())
                .sum();
            HEAD + compares
                + txn
                    .success
                    .iter()
                    .chain(&txn.failure)
                    .map(op)
                    .sum::<usize>()
        }
        Command::LeaseExpire { ids, .. } => HEAD + ids.len() * 8,
        Command::LeaseCheckpoint { remaining_seconds } => HEAD + remaining_seconds.len() * 16,
        Command::Compact { .. }
        | Command::LeaseGrant { .. }
        | Command::LeaseRevoke { .. }
        | Command::MemberPublish(_)
        | Command::RaiseLevel { .. } => 2 * HEAD,
    }
}
