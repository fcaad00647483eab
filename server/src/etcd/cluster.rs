//! The Cluster service: the list of members and its changes.

use coord_proto::etcd::etcdserverpb as pb;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::error::status;
use super::gate::{Credentials, Gate, OnLearner};
use super::{check, header};
use crate::command::{Member, MemberId};

/// The header of MemberPromote that names another learner, once for each.
const PROMOTE_WITH: &str = "coord-promote-with";
/// The header of MemberRemove that names another member, once for each.
const REMOVE_WITH: &str = "coord-remove-with";

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
        let credentials = Credentials::of(&request);
        let pb::MemberAddRequest {
            peer_ur_ls,
            is_learner,
        } = request.into_inner();
        let peer_urls = check::peer_urls(&peer_ur_ls)?;
        self.0.admit_admin(&credentials).await?;
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
        self.0.admit_admin(&Credentials::of(&request)).await?;
        let with = others(request.metadata(), REMOVE_WITH)?;
        let members = self
            .0
            .coordinator
            .member_remove(MemberId(request.get_ref().id), with)
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
        let credentials = Credentials::of(&request);
        let pb::MemberUpdateRequest { id, peer_ur_ls } = request.into_inner();
        let peer_urls = check::peer_urls(&peer_ur_ls)?;
        self.0.admit_admin(&credentials).await?;
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
        self.0.admit_named(&Credentials::of(&request)).await?;
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
        self.0.admit_admin(&Credentials::of(&request)).await?;
        let with = others(request.metadata(), PROMOTE_WITH)?;
        let members = self
            .0
            .coordinator
            .member_promote(MemberId(request.get_ref().id), with)
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

/// Members that change together with the one that the request names: etcd's requests have room for one, and between one
/// voter and three there must be no moment with two.
fn others(metadata: &MetadataMap, header: &'static str) -> Result<Vec<MemberId>, Status> {
    let ids = metadata.get_all(header).iter().map(|id| {
        let id = id.to_str().ok()?;
        u64::from_str_radix(id, 16).ok().map(MemberId)
    });
    ids.collect::<Option<_>>()
        .ok_or_else(|| Status::invalid_argument(format!("{header}: a member id in hexadecimal")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_that_change_together_are_named_by_id_in_headers() {
        let mut metadata = MetadataMap::new();
        assert_eq!(others(&metadata, PROMOTE_WITH).unwrap(), []);
        metadata.append(PROMOTE_WITH, "a5".parse().unwrap());
        metadata.append(PROMOTE_WITH, "ffffffffffffffff".parse().unwrap());
        let named = others(&metadata, PROMOTE_WITH).unwrap();
        assert_eq!(named, [MemberId(0xa5), MemberId(u64::MAX)]);
        assert_eq!(others(&metadata, REMOVE_WITH).unwrap(), []);
        metadata.append(REMOVE_WITH, "m3".parse().unwrap());
        let refused = others(&metadata, REMOVE_WITH).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        assert!(refused.message().starts_with(REMOVE_WITH), "{refused}");
    }
}
