//! The Maintenance service.

use coord_proto::etcd::etcdserverpb as pb;
use futures::stream::Empty;
use tonic::{Request, Response, Status};

use super::error::{not_yet, status, unavailable};
use super::gate::{Gate, OnLearner};
use super::header;
use crate::cli::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use crate::command::{MemberId, Unavailable};

/// See [`pb::maintenance_server::Maintenance`].
pub(super) struct MaintenanceService(pub(super) Gate);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for MaintenanceService {
    /// There is one alarm, of a full store, raised by a write that was refused and gone when there is room. Disarming it
    /// forgets that write; raising one is not served.
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Answer<pb::AlarmResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let request = request.get_ref();
        let is_asked = matches!(
            request.alarm(),
            pb::AlarmType::None | pb::AlarmType::Nospace
        );
        let alarms = Vec::from_iter(self.full().filter(|_| is_asked));
        match request.action() {
            pb::alarm_request::AlarmAction::Get => {}
            pb::alarm_request::AlarmAction::Deactivate => {
                if !alarms.is_empty() {
                    self.0.coordinator.forget_full();
                }
            }
            pb::alarm_request::AlarmAction::Activate => return Err(not_yet("raising alarms")),
        }
        let header = Some(header::at(
            &self.0.coordinator,
            self.0.coordinator.revision(),
        ));
        Ok(Response::new(pb::AlarmResponse { header, alarms }))
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> Answer<pb::StatusResponse> {
        self.0.admit(request.metadata(), OnLearner::Serves)?;
        let now = self.0.coordinator.status();
        let mut errors = Vec::new();
        if now.raft.leader.is_none() {
            errors.push(unavailable(Unavailable::NoLeader).message().to_owned());
        }
        if now.is_full {
            let member = self.0.coordinator.identity().member.0;
            errors.push(format!("memberID:{member} alarm:NOSPACE "));
        }
        Ok(Response::new(pb::StatusResponse {
            header: Some(header::at(
                &self.0.coordinator,
                self.0.coordinator.revision(),
            )),
            version: ETCD_VERSION.to_owned(),
            db_size: signed(now.disk_bytes),
            leader: now.raft.leader.map_or(0, |leader| leader.0),
            raft_index: now.raft.committed_index,
            raft_term: now.raft.term,
            raft_applied_index: now.raft.applied_index,
            errors,
            db_size_in_use: signed(now.logical_bytes),
            is_learner: now.raft.is_learner,
            storage_version: ETCD_CLUSTER_VERSION.to_owned(),
            db_size_quota: now.quota_bytes.map_or(0, signed),
            downgrade_info: Some(pb::DowngradeInfo {
                enabled: false,
                target_version: String::new(),
            }),
        }))
    }

    /// Succeeds at once: space is given back all the time, and no member stops for it.
    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Answer<pb::DefragmentResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    async fn hash(&self, _: Request<pb::HashRequest>) -> Answer<pb::HashResponse> {
        Err(not_yet("Maintenance.Hash"))
    }

    async fn hash_kv(&self, _: Request<pb::HashKvRequest>) -> Answer<pb::HashKvResponse> {
        Err(not_yet("Maintenance.HashKV"))
    }

    type SnapshotStream = Empty<Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(&self, _: Request<pb::SnapshotRequest>) -> Answer<Self::SnapshotStream> {
        Err(not_yet("Maintenance.Snapshot"))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Answer<pb::MoveLeaderResponse> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        let to = MemberId(request.get_ref().target_id);
        self.0
            .coordinator
            .move_leader(to)
            .await
            .map_err(|error| status(&error))?;
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(&self, _: Request<pb::DowngradeRequest>) -> Answer<pb::DowngradeResponse> {
        Err(not_yet("Maintenance.Downgrade"))
    }
}

impl MaintenanceService {
    /// The alarm of a full store, while it is.
    fn full(&self) -> Option<pb::AlarmMember> {
        let coordinator = &self.0.coordinator;
        coordinator.is_full().then(|| pb::AlarmMember {
            member_id: coordinator.identity().member.0,
            alarm: pb::AlarmType::Nospace.into(),
        })
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
