//! The Cluster service: who belongs to the cluster.

use coord_proto::etcd::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use super::error::status;
use super::gate::{Gate, OnLearner};
use super::{check, header};
use crate::command::{Member, MemberId};

/// See [`pb::cluster_server::Cluster`].
pub(super) struct ClusterService(pub(super) Gate);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl pb::cluster_server::Cluster for ClusterService {
    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Answer<pb::MemberAddResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let pb::MemberAddRequest {
            peer_ur_ls,
            is_learner,
        } = request.into_inner();
        let peer_urls = check::peer_urls(&peer_ur_ls)?;
        let added = self.0.coordinator.member_add(peer_urls, is_learner).await;
        let (added, members) = added.map_err(|error| status(&error))?;
        let header = self.header();
        Ok(Response::new(pb::MemberAddResponse {
            header,
            member: Some(member(added)),
            members: all(members),
        }))
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Answer<pb::MemberRemoveResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let members = self
            .0
            .coordinator
            .member_remove(MemberId(request.get_ref().id))
            .await;
        let members = all(members.map_err(|error| status(&error))?);
        Ok(Response::new(pb::MemberRemoveResponse {
            header: self.header(),
            members,
        }))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Answer<pb::MemberUpdateResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let pb::MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let peer_urls = check::peer_urls(&peer_ur_ls)?;
        let members = self
            .0
            .coordinator
            .member_update(MemberId(id), peer_urls)
            .await;
        let members = all(members.map_err(|error| status(&error))?);
        Ok(Response::new(pb::MemberUpdateResponse {
            header: self.header(),
            members,
        }))
    }

    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Answer<pb::MemberListResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let members = self
            .0
            .coordinator
            .members(request.get_ref().linearizable)
            .await;
        let members = all(members.map_err(|error| status(&error))?);
        Ok(Response::new(pb::MemberListResponse {
            header: self.header(),
            members,
        }))
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Answer<pb::MemberPromoteResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let members = self
            .0
            .coordinator
            .member_promote(MemberId(request.get_ref().id))
            .await;
        let members = all(members.map_err(|error| status(&error))?);
        Ok(Response::new(pb::MemberPromoteResponse {
            header: self.header(),
            members,
        }))
    }
}

impl ClusterService {
    /// Replies about the cluster say nothing of the store.
    #[expect(
        clippy::unnecessary_wraps,
        reason = "a header field is optional on the wire"
    )]
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(header::without_revision(&self.0.coordinator))
    }
}

fn all(members: Vec<Member>) -> Vec<pb::Member> {
    members.into_iter().map(member).collect()
}

fn member(member: Member) -> pb::Member {
    let Member {
        id,
        name,
        peer_urls,
        client_urls,
        is_learner,
    } = member;
    pb::Member {
        id: id.0,
        name,
        peer_ur_ls: peer_urls,
        client_ur_ls: client_urls,
        is_learner,
    }
}
