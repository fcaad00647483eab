//! The KV service: range, put, delete, transaction, compaction.

mod pages;

use coord_proto::etcd::etcdserverpb as pb;
use futures::stream::Empty;
use prost::Message;
use tonic::{Request, Response, Status};

use super::error::{self, Invalid, refused};
use super::gate::{Gate, OnLearner};
use super::{check, convert, header};
use crate::command::{self, Command, Outcome, Query, Refusal, Revision};
use crate::coordinator::Consistency;

/// See [`pb::kv_server::Kv`].
pub(super) struct KvService(pub(super) Gate);

type Answer<T> = Result<Response<T>, Status>;

impl KvService {
    async fn propose(
        &self,
        command: Command,
    ) -> Result<(pb::ResponseHeader, Revision, command::Response), Status> {
        let outcome = self.0.coordinator.propose(command).await;
        self.answered(outcome.map_err(|error| error::status(&error))?)
    }

    async fn read(
        &self,
        query: &Query,
        consistency: Consistency,
    ) -> Result<(pb::ResponseHeader, Revision, command::Response), Status> {
        let outcome = self.0.coordinator.read(query, consistency).await;
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
        let request = request.get_ref();
        let range = convert::range(request)?;
        let outcome = pages::read(
            &self.0.coordinator,
            range,
            consistency(request.serializable),
        )
        .await;
        let (header, _, response) =
            self.answered(outcome.map_err(|error| error::status(&error))?)?;
        match response {
            command::Response::Range(found) => {
                Ok(Response::new(convert::range_response(header, found)))
            }
            other => Err(mismatch(&other)),
        }
    }

    type RangeStreamStream = Empty<Result<pb::RangeStreamResponse, Status>>;

    async fn range_stream(&self, _: Request<pb::RangeRequest>) -> Answer<Self::RangeStreamStream> {
        Err(error::not_yet("KV.RangeStream"))
    }

    async fn put(&self, request: Request<pb::PutRequest>) -> Answer<pb::PutResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let request = request.get_ref();
        let put = convert::put(request)?;
        check::request_size(request.encoded_len())?;
        let (header, _, response) = self.propose(Command::Put(put)).await?;
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
        let request = request.get_ref();
        let delete = convert::delete_range(request)?;
        check::request_size(request.encoded_len())?;
        let (header, _, response) = self.propose(Command::DeleteRange(delete)).await?;
        match response {
            command::Response::DeleteRange { deleted, prevs } => Ok(Response::new(
                convert::delete_range_response(header, deleted, prevs),
            )),
            other => Err(mismatch(&other)),
        }
    }

    async fn txn(&self, request: Request<pb::TxnRequest>) -> Answer<pb::TxnResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let request = request.get_ref();
        let txn = convert::txn(request)?;
        let (header, revision, response) = if txn.is_read_only() {
            let consistency = consistency(convert::is_serializable(request));
            self.read(&Query::Txn(txn), consistency).await?
        } else {
            self.propose(Command::Txn(txn)).await?
        };
        match response {
            command::Response::Txn {
                succeeded,
                responses,
            } => Ok(Response::new(convert::txn_response(
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
            Invalid::Refused(Refusal::Compacted {
                oldest: Revision(0),
            })
        })?;
        let (header, _, _) = self
            .propose(Command::Compact {
                revision: Revision(revision),
            })
            .await?;
        Ok(Response::new(pb::CompactionResponse {
            header: Some(header),
        }))
    }
}

fn consistency(serializable: bool) -> Consistency {
    if serializable {
        Consistency::Serializable
    } else {
        Consistency::Linearizable
    }
}
