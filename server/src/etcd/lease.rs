//! The Lease service.

mod renewals;

use std::sync::Arc;

use coord_proto::etcd::etcdserverpb as pb;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::error::{self, refused};
use super::gate::{Credentials, Gate, OnLearner};
use super::header;
use crate::budget::{Budget, Share};
use crate::command::{
    self, LeaseCommand, LeaseId, LeaseRefusal, Principal, Query, Refusal, TTL_SECONDS_MAX,
};
use crate::coordinator::{Consistency, Error};

/// Ids drawn for one grant; drawing a taken one twice in 63 bits does not happen.
const DRAWS_MAX: usize = 3;

/// See [`pb::lease_server::Lease`].
pub(super) struct LeaseService(pub(super) Gate);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl pb::lease_server::Lease for LeaseService {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Answer<pb::LeaseGrantResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let &pb::LeaseGrantRequest { ttl, id } = request.get_ref();
        if ttl > TTL_SECONDS_MAX {
            self.0.admit_named(&Credentials::of(&request)).await?;
            return Err(refused(&Refusal::Lease(LeaseRefusal::TtlTooLarge)));
        }
        let ttl_seconds = ttl.max(self.ttl_seconds_min());
        let principal = self.0.principal(&Credentials::of(&request)).await?;
        let mut draws = 0;
        loop {
            draws += 1;
            let chosen = if id == 0 { drawn_id() } else { LeaseId(id) };
            let command = LeaseCommand::Grant {
                id: chosen,
                ttl_seconds,
            };
            let outcome = self
                .0
                .coordinator
                .propose(principal.clone(), command.into())
                .await
                .map_err(|error| error::status(&error))?;
            match outcome.result {
                Ok(command::Response::LeaseGrant { id, ttl_seconds }) => {
                    return Ok(Response::new(pb::LeaseGrantResponse {
                        header: Some(header::at(&self.0.coordinator, outcome.revision)),
                        id: id.0,
                        ttl: ttl_seconds,
                        error: String::new(),
                    }));
                }
                Err(Refusal::Lease(LeaseRefusal::Exists(_))) if id == 0 && draws < DRAWS_MAX => {}
                Err(refusal) => return Err(refused(&refusal)),
                Ok(_) => {
                    return Err(Status::internal(
                        "coord: the engine answered another question",
                    ));
                }
            }
        }
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Answer<pb::LeaseRevokeResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let principal = self.0.principal(&Credentials::of(&request)).await?;
        let command = LeaseCommand::Revoke {
            id: LeaseId(request.get_ref().id),
        };
        let outcome = self
            .0
            .coordinator
            .propose(principal, command.into())
            .await
            .map_err(|error| error::status(&error))?;
        outcome.result.map_err(|refusal| refused(&refusal))?;
        let header = Some(header::at(&self.0.coordinator, outcome.revision));
        Ok(Response::new(pb::LeaseRevokeResponse { header }))
    }

    type LeaseKeepAliveStream = ReceiverStream<Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Answer<Self::LeaseKeepAliveStream> {
        self.0
            .admit_stream(request.metadata(), OnLearner::Refuses)?;
        let end = self.0.end_of_stream(request.metadata());
        let share = request.extensions().get::<Arc<Share>>().cloned();
        let share = share.unwrap_or_else(|| Budget::default().share());
        let credentials = Credentials::of(&request);
        let stream =
            renewals::Stream::new(self.0.clone(), credentials, request.into_inner(), share);
        Ok(Response::new(ReceiverStream::new(stream.serve(end))))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Answer<pb::LeaseTimeToLiveResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let &pb::LeaseTimeToLiveRequest { id, keys } = request.get_ref();
        let principal = self.0.principal(&Credentials::of(&request)).await?;
        let (revision, reply) = self
            .time_to_live(&principal, LeaseId(id), keys)
            .await
            .map_err(|error| error::status(&error))?;
        let header = Some(header::at(&self.0.coordinator, revision));
        Ok(Response::new(pb::LeaseTimeToLiveResponse {
            header,
            ..reply
        }))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Answer<pb::LeaseLeasesResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let principal = self.0.principal(&Credentials::of(&request)).await?;
        let read = self
            .0
            .coordinator
            .read(&principal, &Query::Leases, Consistency::Linearizable)
            .await;
        let outcome = read.map_err(|error| error::status(&error))?;
        let command::Response::Leases(ids) = outcome.result.map_err(|refusal| refused(&refusal))?
        else {
            return Err(Status::internal(
                "coord: the engine answered another question",
            ));
        };
        let leases = ids
            .into_iter()
            .map(|id| pb::LeaseStatus { id: id.0 })
            .collect();
        let header = Some(header::at(&self.0.coordinator, outcome.revision));
        Ok(Response::new(pb::LeaseLeasesResponse { header, leases }))
    }
}

impl LeaseService {
    /// As etcd: one and a half election timeouts, in whole seconds, so that a change of leader outlives no lease.
    fn ttl_seconds_min(&self) -> i64 {
        let millis = self.0.coordinator.election_timeout().as_millis() * 3;
        i64::try_from(millis.div_ceil(2000)).unwrap_or(i64::MAX)
    }

    async fn time_to_live(
        &self,
        principal: &Principal,
        id: LeaseId,
        keys: bool,
    ) -> Result<(command::Revision, pb::LeaseTimeToLiveResponse), Error> {
        let coordinator = &self.0.coordinator;
        coordinator.is_named(principal)?;
        let unknown = pb::LeaseTimeToLiveResponse {
            id: id.0,
            ttl: -1,
            ..Default::default()
        };
        let ttl = coordinator.remaining(id).await?;
        if ttl < 0 {
            return Ok((coordinator.revision(), unknown));
        }
        let outcome = coordinator
            .read(
                principal,
                &Query::Lease { id, keys },
                Consistency::Linearizable,
            )
            .await?;
        let reply = match outcome.result? {
            command::Response::Lease(Some(found)) => pb::LeaseTimeToLiveResponse {
                ttl,
                granted_ttl: found.lease.ttl_seconds,
                keys: found.keys,
                ..unknown
            },
            // It ended between the two questions.
            _ => unknown,
        };
        Ok((outcome.revision, reply))
    }
}

/// Positive, as etcd's are: other languages print and parse them.
fn drawn_id() -> LeaseId {
    LeaseId((rand::random::<i64>() & i64::MAX).max(1))
}
