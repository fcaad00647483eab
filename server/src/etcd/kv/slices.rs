//! Long answers in slices of one revision, so that no turn of the runtime is long and heartbeats are never late for one,
//! and so that what is read is counted as it grows.

use super::Answering;
use crate::command::{
    Command, KeyValue, Keys, KvRefusal, OpResponse, Outcome, Principal, Query, Range, Refusal,
    Response, Unavailable,
};
use crate::coordinator::{Answer, Consistency, Coordinator, Error};

/// How often a read of the newest revision begins again when the state was replaced by another member's meanwhile.
const ATTEMPTS_MAX: usize = 3;

/// Answers a question that may have a long answer, once there is room for it.
pub(super) async fn read(
    coordinator: &Coordinator,
    principal: &Principal,
    query: &Query,
    consistency: Consistency,
    answering: &Answering,
) -> Result<Outcome, Error> {
    let mut attempts = 1;
    loop {
        // Nothing is read while there is no room for more, and what an earlier attempt has read is gone.
        answering.begin_again().await?;
        let answer = coordinator.ask(principal, query, consistency).await?;
        let outcome = collect(coordinator, answer, answering).await?;
        let is_overtaken = !names_revision(query)
            && matches!(
                outcome.result,
                Err(Refusal::Kv(KvRefusal::Compacted { .. }))
            );
        if !is_overtaken || attempts == ATTEMPTS_MAX {
            return Ok(outcome);
        }
        attempts += 1;
    }
}

/// Changes the state with a command that may have a long answer, once there is room for one.
///
/// Errors: as [`Coordinator::propose`]. The change is made before its answer is read, so where room for that does not
/// come in time, the client learns what it learns of a lost connection: nothing.
pub(super) async fn propose(
    coordinator: &Coordinator,
    principal: Principal,
    command: Command,
    answering: &Answering,
) -> Result<Outcome, Error> {
    answering.grow(0).await?;
    let answer = match coordinator.submit(principal, command).await? {
        // The law refused it, and nothing was changed.
        Answer::Done(outcome) if outcome.result.is_err() => return Ok(outcome),
        answer => answer,
    };
    let collected = collect(coordinator, answer, answering).await;
    match collected {
        // It was changed, and another member's state took the place of what was read.
        Ok(Outcome {
            result: Err(Refusal::Kv(KvRefusal::Compacted { .. })),
            ..
        }) => Err(Unavailable::Timeout.into()),
        Err(Error::Unavailable(Unavailable::TooManyRequests)) => Err(Unavailable::Timeout.into()),
        collected => collected,
    }
}

/// Whether it may have more than one key.
pub(super) fn is_long(range: &Range) -> bool {
    matches!(range.keys, Keys::Range { .. })
}

async fn collect(
    coordinator: &Coordinator,
    mut answer: Answer,
    answering: &Answering,
) -> Result<Outcome, Error> {
    let mut counted = 0;
    loop {
        match answer {
            Answer::Done(outcome) => {
                if let Ok(response) = &outcome.result {
                    answering
                        .grow(bytes(response).saturating_sub(counted))
                        .await?;
                }
                return Ok(outcome);
            }
            Answer::More(reading) => {
                let now = reading.bytes();
                if now > counted {
                    answering.grow(now - counted).await?;
                    counted = now;
                }
                answer = coordinator.go_on(reading).await?;
            }
        }
    }
}

fn names_revision(query: &Query) -> bool {
    match query {
        Query::Range(range) => range.revision.is_some(),
        // Each of its ranges may; it is asked for once.
        Query::Txn(_) | Query::Lease { .. } | Query::Leases | Query::Alarms | Query::Auth(_) => {
            true
        }
    }
}

/// About what an answer takes in memory.
fn bytes(response: &Response) -> usize {
    match response {
        Response::Range(found) => sizes(&found.kvs),
        Response::DeleteRange { prevs, .. } => sizes(prevs),
        Response::Put { prev } => prev.as_ref().map_or(0, size),
        Response::Txn { responses, .. } => responses.iter().map(op_bytes).sum(),
        Response::LeaseGrant { .. }
        | Response::Lease(_)
        | Response::Leases(_)
        | Response::Alarms(_)
        | Response::Auth(_)
        | Response::Done => 0,
    }
}

fn op_bytes(response: &OpResponse) -> usize {
    match response {
        OpResponse::Range(found) => sizes(&found.kvs),
        OpResponse::DeleteRange { prevs, .. } => sizes(prevs),
        OpResponse::Put { prev } => prev.as_ref().map_or(0, size),
        OpResponse::Txn { responses, .. } => responses.iter().map(op_bytes).sum(),
    }
}

fn sizes(kvs: &[KeyValue]) -> usize {
    kvs.iter().map(size).sum()
}

fn size(kv: &KeyValue) -> usize {
    size_of::<KeyValue>() + kv.key.len() + kv.value.len()
}
