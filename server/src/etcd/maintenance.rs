//! The Maintenance service.

mod alarm;
mod backend;
mod crc32c;
mod downgrade;
mod gather;
mod hash;
mod snapshot;

use std::sync::Arc;

use coord_proto::etcd::etcdserverpb as pb;
use tokio::sync::{Semaphore, SemaphorePermit};
use tonic::{Request, Response, Status};

use super::error::{not_yet, refused, status, unavailable};
use super::gate::{Credentials, Gate, OnLearner};
use super::header;
use crate::cli::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use crate::command::{
    self, Alarm, AlarmCommand, AlarmKind, MemberId, Query, Revision, Unavailable,
};
use crate::coordinator::Consistency;
use crate::scratch::{Room, Sorter};
use backend::{Backend, KEY_BUCKET};
use crc32c::Crc32c;
use hash::KeysHash;
use pb::alarm_request::AlarmAction;

/// Checksums at the same time; more wait.
const HASHES_MAX: usize = 1;
/// Snapshots at the same time: each takes about twice the state on disk. More are refused.
const SNAPSHOTS_MAX: usize = 2;

/// See [`pb::maintenance_server::Maintenance`].
pub(super) struct MaintenanceService {
    gate: Gate,
    hashes: Semaphore,
    snapshots: Arc<Semaphore>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for MaintenanceService {
    /// Alarms by name, and one beside them: that of a full store, raised by a write that was refused and gone when there
    /// is room. Disarming that forgets the write.
    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Answer<pb::AlarmResponse> {
        self.gate.admit(request.metadata(), OnLearner::Refuses)?;
        let credentials = Credentials::of(&request);
        if request.get_ref().action != i32::from(AlarmAction::Get) {
            self.gate.admit_admin(&credentials).await?;
        }
        let principal = self.gate.principal(&credentials).await?;
        let coordinator = &self.gate.coordinator;
        let request = request.get_ref();
        let kind = alarm::kind(request.alarm);
        let named = kind.map(|kind| Alarm {
            kind,
            member: MemberId(request.member_id),
        });
        let command = match (AlarmAction::try_from(request.action), named) {
            (Ok(AlarmAction::Activate), Some(alarm)) => Some(AlarmCommand::Activate(alarm)),
            (Ok(AlarmAction::Deactivate), Some(alarm)) => Some(AlarmCommand::Deactivate(alarm)),
            // An action that is neither is a question, as in etcd.
            (_, _) => None,
        };
        let is_question = command.is_none();
        let outcome = match command {
            Some(command) => coordinator.propose(principal, command.into()).await,
            None => {
                let consistency = Consistency::Linearizable;
                coordinator
                    .read(&principal, &Query::Alarms, consistency)
                    .await
            }
        };
        let outcome = outcome.map_err(|error| status(&error))?;
        let mut alarms = match outcome.result.map_err(|refusal| refused(&refusal))? {
            command::Response::Alarms(alarms) => alarms,
            _ => {
                return Err(Status::internal(
                    "coord: the engine answered another question",
                ));
            }
        };
        let is_get = request.action == i32::from(AlarmAction::Get);
        if is_question && !is_get {
            alarms.clear();
        }
        if is_question && is_get {
            alarms.retain(|alarm| kind.is_none_or(|kind| alarm.kind == kind));
        }
        let is_full = kind.is_none_or(|kind| kind == AlarmKind::NoSpace);
        let full = self
            .full()
            .filter(|_| is_full && !alarms.iter().any(|alarm| self.is_own(alarm)));
        let mut alarms: Vec<_> = alarms.into_iter().map(alarm::on_the_wire).collect();
        match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => alarms.extend(full),
            Ok(AlarmAction::Deactivate) if named.is_some_and(|alarm| self.is_own(&alarm)) => {
                alarms.extend(full);
                coordinator.forget_full();
            }
            Ok(AlarmAction::Deactivate | AlarmAction::Activate) | Err(_) => {}
        }
        let header = Some(header::at(coordinator, outcome.revision));
        Ok(Response::new(pb::AlarmResponse { header, alarms }))
    }

    async fn status(&self, request: Request<pb::StatusRequest>) -> Answer<pb::StatusResponse> {
        self.gate.admit(request.metadata(), OnLearner::Serves)?;
        self.gate.admit_named(&Credentials::of(&request)).await?;
        let now = self.gate.coordinator.status();
        let mut errors = Vec::new();
        if now.raft.leader.is_none() {
            errors.push(unavailable(Unavailable::NoLeader).message().to_owned());
        }
        let alarms = now.alarms.iter().copied().map(alarm::on_the_wire);
        let full = self
            .full()
            .filter(|_| !now.alarms.iter().any(|alarm| self.is_own(alarm)));
        errors.extend(alarms.chain(full).map(alarm::text));
        Ok(Response::new(pb::StatusResponse {
            header: Some(self.header()),
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
        self.gate.admit(request.metadata(), OnLearner::Refuses)?;
        self.gate.admit_admin(&Credentials::of(&request)).await?;
        Ok(Response::new(pb::DefragmentResponse { header: None }))
    }

    /// The checksum over all that a snapshot would hold, but for what differs between members that hold the same.
    async fn hash(&self, request: Request<pb::HashRequest>) -> Answer<pb::HashResponse> {
        self.gate.admit(request.metadata(), OnLearner::Refuses)?;
        self.gate.admit_admin(&Credentials::of(&request)).await?;
        let scratch = self.scratch()?;
        let _turn = self.hash_turn().await?;
        let coordinator = &self.gate.coordinator;
        let moment = coordinator.moment().await;
        let moment = moment.map_err(|error| status(&error))?;
        let revision = moment.stored.revision();
        let alarms = self.alarms();
        let mut backend = Backend::new(&moment, &alarms, Sorter::new(scratch));
        let hash = gather::gather(coordinator, moment.stored, move |mut pages| {
            while let Some(page) = pages.next()? {
                for stored in page {
                    let place = backend::place(&stored);
                    backend.keys.push(place, &backend::bucket_value(stored))?;
                }
            }
            backend.hash()
        });
        let hash = hash.await?;
        let header = Some(header::at(coordinator, revision));
        Ok(Response::new(pb::HashResponse { header, hash }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Answer<pb::HashKvResponse> {
        self.gate.admit(request.metadata(), OnLearner::Refuses)?;
        self.gate.admit_admin(&Credentials::of(&request)).await?;
        let asked = request.get_ref().revision;
        let coordinator = &self.gate.coordinator;
        let compacted = |floor: Option<Revision>| floor.map_or(-1, header::signed);
        let answer = |newest, hash, compact_revision, hash_revision| {
            Ok(Response::new(pb::HashKvResponse {
                header: Some(header::at(coordinator, newest)),
                hash,
                compact_revision,
                hash_revision,
            }))
        };
        if asked < 0 {
            // etcd takes it for a revision before all others.
            let nothing = Crc32c::of(KEY_BUCKET.as_bytes()).value();
            let floor = compacted(coordinator.compacted());
            return answer(coordinator.revision(), nothing, floor, asked);
        }
        let scratch = self.scratch()?;
        let _turn = self.hash_turn().await?;
        let revision = u64::try_from(asked).ok().filter(|asked| *asked > 0);
        let begun = coordinator.read_stored(revision.map(Revision)).await;
        let (reading, newest) = begun.map_err(|error| status(&error))?;
        let (revision, floor) = (reading.revision(), reading.floor());
        let hash = gather::gather(coordinator, reading, move |mut pages| {
            let mut keys = KeysHash::new(floor, scratch);
            while let Some(page) = pages.next()? {
                page.into_iter().try_for_each(|stored| keys.add(stored))?;
            }
            keys.finish()
        });
        let hash = hash.await?;
        answer(newest, hash, compacted(floor), header::signed(revision))
    }

    type SnapshotStream = snapshot::Pieces;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Answer<Self::SnapshotStream> {
        self.gate.admit(request.metadata(), OnLearner::Serves)?;
        self.gate.admit_admin(&Credentials::of(&request)).await?;
        let scratch = self.scratch()?;
        let turn = self.snapshots.clone().try_acquire_owned();
        let turn = turn.map_err(|_| unavailable(Unavailable::TooManyRequests))?;
        let coordinator = self.gate.coordinator.clone();
        let moment = coordinator.moment().await;
        let moment = moment.map_err(|error| status(&error))?;
        let alarms = self.alarms();
        let pieces = snapshot::begin(coordinator, moment, &alarms, scratch, turn);
        Ok(Response::new(pieces))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Answer<pb::MoveLeaderResponse> {
        self.gate.admit(request.metadata(), OnLearner::Refuses)?;
        self.gate.admit_admin(&Credentials::of(&request)).await?;
        let to = MemberId(request.get_ref().target_id);
        self.gate
            .coordinator
            .move_leader(to)
            .await
            .map_err(|error| status(&error))?;
        Ok(Response::new(pb::MoveLeaderResponse { header: None }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Answer<pb::DowngradeResponse> {
        self.gate.admit(request.metadata(), OnLearner::Refuses)?;
        self.gate.admit_admin(&Credentials::of(&request)).await?;
        downgrade::answer(&self.gate.coordinator, request.get_ref()).await
    }
}

impl MaintenanceService {
    pub(super) fn new(gate: Gate) -> Self {
        Self {
            gate,
            hashes: Semaphore::new(HASHES_MAX),
            snapshots: Arc::new(Semaphore::new(SNAPSHOTS_MAX)),
        }
    }

    fn header(&self) -> pb::ResponseHeader {
        let coordinator = &self.gate.coordinator;
        header::at(coordinator, coordinator.revision())
    }

    /// The alarm of a full store, while it is.
    fn full(&self) -> Option<pb::AlarmMember> {
        let coordinator = &self.gate.coordinator;
        coordinator.is_full().then(|| pb::AlarmMember {
            member_id: coordinator.identity().member.0,
            alarm: pb::AlarmType::Nospace.into(),
        })
    }

    /// Whether it says that this member's store is full.
    fn is_own(&self, alarm: &Alarm) -> bool {
        let member = self.gate.coordinator.identity().member;
        *alarm
            == Alarm {
                kind: AlarmKind::NoSpace,
                member,
            }
    }

    /// All alarms, for a copy of the state.
    fn alarms(&self) -> Vec<pb::AlarmMember> {
        let raised = self.gate.coordinator.status().alarms;
        raised.into_iter().map(alarm::on_the_wire).collect()
    }

    /// Where files may be put. A simulated machine has no place for them.
    fn scratch(&self) -> Result<Room, Status> {
        let scratch = self.gate.coordinator.scratch();
        let scratch = scratch.ok_or_else(|| not_yet("a copy of a state in memory"))?;
        Ok(scratch.clone())
    }

    async fn hash_turn(&self) -> Result<SemaphorePermit<'_>, Status> {
        let turn = self.hashes.acquire().await;
        turn.map_err(|_| unavailable(Unavailable::Stopped))
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
