//! The KV service: range, put, delete, transaction, compaction.

mod slices;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use coord_proto::etcd::etcdserverpb as pb;
use prost::Message;
use tonic::{Request, Response, Status};

use super::error::{self, Invalid, refused};
use super::gate::{Caller, Credentials, Gate, OnLearner};
use super::{check, convert, header};
use crate::budget::{Held, Share};
use crate::command::{
    self, Keys, KvCommand, KvRefusal, Op, Outcome, Principal, Query, Refusal, Revision, Txn,
    Unavailable,
};
use crate::coordinator::Consistency;

/// How long a request with a long answer may wait for room: as long as etcd lets one take.
const ROOM_WAIT_MAX: Duration = Duration::from_secs(7);

/// See [`pb::kv_server::Kv`].
pub(super) struct KvService(pub(super) Gate);

type Answer<T> = Result<Response<T>, Status>;

impl KvService {
    async fn propose(
        &self,
        principal: Principal,
        command: KvCommand,
    ) -> Result<(pb::ResponseHeader, Revision, command::Response), Status> {
        let outcome = self.0.coordinator.propose(principal, command.into()).await;
        self.answered(outcome.map_err(|error| error::status(&error))?)
    }

    fn answered(
        &self,
        outcome: Outcome,
    ) -> Result<(pb::ResponseHeader, Revision, command::Response), Status> {
        let Outcome { revision, result } = outcome;
        let response = result.map_err(|refusal| refused(&refusal))?;
        Ok((
            header::at(&self.0.coordinator, revision),
            revision,
            response,
        ))
    }
}

/// Counts the bytes of an answer before it is encoded. Made only where an answer may be long.
struct Answering(Option<Arc<Held>>);

impl Answering {
    fn begin<T>(request: &Request<T>) -> Self {
        let share = request.extensions().get::<Arc<Share>>();
        Self(share.map(|share| Arc::new(share.hold())))
    }

    /// Waits until there is room, holding nothing. Errors: too many requests.
    async fn begin_again(&self) -> Result<(), Unavailable> {
        if let Some(held) = &self.0 {
            held.set(0);
        }
        self.grow(0).await
    }

    /// Counts more, now or in turn. Errors: too many requests, as for an answer that this machine cannot bear.
    async fn grow(&self, bytes: usize) -> Result<(), Unavailable> {
        let Some(held) = &self.0 else { return Ok(()) };
        let in_turn = tokio::time::timeout(ROOM_WAIT_MAX, held.grow_in_turn(bytes));
        match in_turn.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Unavailable::TooManyRequests),
        }
    }

    /// The answer, with what it holds.
    fn end<T>(self, message: T) -> Response<T> {
        let mut response = Response::new(message);
        if let Some(held) = self.0 {
            response.extensions_mut().insert(held);
        }
        response
    }
}

/// The answer to a response of another kind than was asked for: a broken invariant, but no reason to stop serving.
fn mismatch(response: &command::Response) -> Status {
    tracing::error!(?response, "the engine answered another question");
    Status::internal("coord: the engine answered another question")
}

#[tonic::async_trait]
impl pb::kv_server::Kv for KvService {
    async fn range(&self, request: Request<pb::RangeRequest>) -> Answer<pb::RangeResponse> {
        // A learner's refusal of a linearizable read comes from the coordinator.
        self.0.admit(request.metadata(), OnLearner::Serves)?;
        let range = convert::range(request.get_ref())?;
        let consistency = consistency(request.get_ref().serializable);
        let mut answering = Answering(None);
        let is_long = slices::is_long(&range);
        let query = Query::Range(range);
        let principal = self.0.principal(&Credentials::of(&request)).await?;
        let outcome = if is_long {
            answering = Answering::begin(&request);
            slices::read(
                &self.0.coordinator,
                &principal,
                &query,
                consistency,
                &answering,
            )
            .await
        } else {
            self.0
                .coordinator
                .read(&principal, &query, consistency)
                .await
        };
        let (header, _, response) =
            self.answered(outcome.map_err(|error| error::status(&error))?)?;
        match response {
            command::Response::Range(found) => {
                Ok(answering.end(convert::range_response(header, found)))
            }
            other => Err(mismatch(&other)),
        }
    }

    type RangeStreamStream = stream::Chunks;

    async fn range_stream(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Answer<Self::RangeStreamStream> {
        // A learner's refusal of a linearizable read comes with the first chunk.
        self.0.admit(request.metadata(), OnLearner::Serves)?;
        convert::range(request.get_ref())?;
        stream::check(request.get_ref())?;
        let caller = Caller::of(&request);
        let chunks = stream::begin(Self(self.0.clone()), request.into_inner(), caller);
        Ok(Response::new(chunks))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Answer<pb::PutResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let put = convert::put(request.get_ref())?;
        check::request_size(request.get_ref().encoded_len(), self.0.requests)?;
        let principal = self.0.principal(&Credentials::of(&request)).await?;
        let (header, _, response) = self.propose(principal, KvCommand::Put(put)).await?;
        match response {
            command::Response::Put { prev } => {
                Ok(Response::new(convert::put_response(header, prev)))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Answer<pb::DeleteRangeResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let delete = convert::delete_range(request.get_ref())?;
        check::request_size(request.get_ref().encoded_len(), self.0.requests)?;
        let answering = if delete.prev_kv {
            Answering::begin(&request)
        } else {
            Answering(None)
        };
        let principal = self.0.principal(&Credentials::of(&request)).await?;
        let command = KvCommand::DeleteRange(delete).into();
        let outcome = slices::propose(&self.0.coordinator, principal, command, &answering).await;
        let (header, _, response) =
            self.answered(outcome.map_err(|error| error::status(&error))?)?;
        match response {
            command::Response::DeleteRange { deleted, prevs } => {
                Ok(answering.end(convert::delete_range_response(header, deleted, prevs)))
            }
            other => Err(mismatch(&other)),
        }
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Answer<pb::TxnResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let txn = convert::txn(request.get_ref(), self.0.requests)?;
        let answering = if reads_ranges(&txn) {
            Answering::begin(&request)
        } else {
            Answering(None)
        };
        let coordinator = &self.0.coordinator;
        let principal = self.0.principal(&Credentials::of(&request)).await?;
        // A compare over a range may take as long as the range is: like a write, it has its turns.
        let outcome = if txn.is_read_only() && !txn.compares_ranges() {
            let consistency = consistency(convert::is_serializable(request.get_ref()));
            let query = Query::Txn(txn);
            slices::read(coordinator, &principal, &query, consistency, &answering).await
        } else {
            let command = KvCommand::Txn(txn).into();
            slices::propose(coordinator, principal, command, &answering).await
        };
        let (header, revision, response) =
            self.answered(outcome.map_err(|error| error::status(&error))?)?;
        match response {
            command::Response::Txn {
                succeeded,
                responses,
            } => Ok(answering.end(convert::txn_response(
                header, revision, succeeded, responses,
            ))),
            other => Err(mismatch(&other)),
        }
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Answer<pb::CompactionResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        // `physical` asks to wait for the removal, which never holds anything up here and shows nowhere.
        let revision = u64::try_from(request.get_ref().revision).map_err(|_| {
            Invalid::Refused(Refusal::Kv(KvRefusal::Compacted {
                oldest: Revision(0),
            }))
        })?;
        let principal = self.0.principal(&Credentials::of(&request)).await?;
        let command = KvCommand::Compact {
            revision: Revision(revision),
        };
        let (header, _, _) = self.propose(principal, command).await?;
        Ok(Response::new(pb::CompactionResponse {
            header: Some(header),
        }))
    }
}

/// Whether a transaction may answer with any number of keys.
fn reads_ranges(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        Op::Range(range) => matches!(range.keys, Keys::Range { .. }),
        Op::DeleteRange(delete) => delete.prev_kv,
        Op::Put(_) => false,
        Op::Txn(inner) => reads_ranges(inner),
    })
}

fn consistency(serializable: bool) -> Consistency {
    if serializable {
        Consistency::Serializable
    } else {
        Consistency::Linearizable
    }
}
