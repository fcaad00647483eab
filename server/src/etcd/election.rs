//! The Election service: the owner of the oldest key under a name leads, and the key's value is its proclamation.

use std::sync::Arc;

use bytes::Bytes;
use coord_proto::etcd::v3electionpb as pb;
use coord_proto::etcd::{etcdserverpb, mvccpb};
use etcdserverpb::request_op::Request as Op;
use pb::LeaderKey;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::gate::{Caller, Gate, OnLearner};
use super::kv::KvService;
use super::lease::LeaseService;
use super::queue::{self, Place, Queue};

/// Proclamations that wait for an observer.
const WAITING_MAX: usize = 4;

/// See [`pb::election_server::Election`].
pub(super) struct ElectionService {
    pub(super) gate: Gate,
    pub(super) kv: Arc<KvService>,
    pub(super) lease: Arc<LeaseService>,
}

type Answer<T> = Result<Response<T>, Status>;
type Told = mpsc::Sender<Result<pb::LeaderResponse, Status>>;

#[tonic::async_trait]
impl pb::election_server::Election for ElectionService {
    /// Returns when the caller leads. One that goes away before gives its place up.
    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Answer<pb::CampaignResponse> {
        let queue = self.queue(&request)?;
        let pb::CampaignRequest { name, lease, value } = request.into_inner();
        let lease = queue.lease(lease).await?;
        let prefix = queue::prefix(&name);
        let taken = queue.take(&prefix, lease, value.clone()).await?;
        let place = taken.place;
        let leaving = queue.leaving(&place);
        if taken.before.is_some_and(|before| before.value != value) {
            proclaim(&queue, &place, lease, value).await?;
        }
        queue.first(&prefix, &place).await?;
        leaving.stay();
        let leader = LeaderKey {
            name,
            key: place.key,
            rev: place.created,
            lease,
        };
        Ok(Response::new(pb::CampaignResponse {
            header: taken.header,
            leader: Some(leader),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Answer<pb::ProclaimResponse> {
        let queue = self.queue(&request)?;
        let pb::ProclaimRequest { leader, value } = request.into_inner();
        let leader = known(leader)?;
        let lease = queue.lease(leader.lease).await?;
        let header = proclaim(&queue, &place(leader), lease, value).await?;
        Ok(Response::new(pb::ProclaimResponse { header }))
    }

    async fn leader(&self, request: Request<pb::LeaderRequest>) -> Answer<pb::LeaderResponse> {
        let queue = self.queue(&request)?;
        let prefix = queue::prefix(&request.get_ref().name);
        let (header, kv) = queue.holder(&prefix).await?;
        if kv.is_none() {
            return Err(queue::unknown("election: no leader"));
        }
        Ok(Response::new(pb::LeaderResponse { header, kv }))
    }

    type ObserveStream = ReceiverStream<Result<pb::LeaderResponse, Status>>;

    async fn observe(&self, request: Request<pb::LeaderRequest>) -> Answer<Self::ObserveStream> {
        let queue = self.queue(&request)?;
        let end = self.gate.end_of_stream(request.metadata());
        let prefix = queue::prefix(&request.get_ref().name);
        let (told, stream) = mpsc::channel(WAITING_MAX);
        tokio::spawn(async move {
            let why = tokio::select! {
                why = observe(&queue, &prefix, &told) => why,
                why = end => Some(why),
                () = told.closed() => None,
            };
            if let Some(why) = why {
                // Nobody listens any more: then nobody need be told.
                let _ = told.send(Err(why)).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn resign(&self, request: Request<pb::ResignRequest>) -> Answer<pb::ResignResponse> {
        let queue = self.queue(&request)?;
        let leader = known(request.into_inner().leader)?;
        let header = queue.leave(&place(leader)).await?;
        Ok(Response::new(pb::ResignResponse { header }))
    }
}

impl ElectionService {
    fn queue<T>(&self, request: &Request<T>) -> Result<Queue, Status> {
        self.gate.admit(request.metadata(), OnLearner::Refuses)?;
        let (kv, lease) = (self.kv.clone(), self.lease.clone());
        let caller = Caller::of(request);
        Ok(Queue::new(self.gate.clone(), kv, lease, caller))
    }
}

async fn proclaim(
    queue: &Queue,
    place: &Place,
    lease: i64,
    value: Bytes,
) -> Result<Option<etcdserverpb::ResponseHeader>, Status> {
    let put = etcdserverpb::PutRequest {
        key: place.key.clone(),
        value,
        lease,
        ..Default::default()
    };
    match queue.if_held(place, Op::RequestPut(put)).await? {
        (header, true) => Ok(header),
        (_, false) => Err(queue::unknown("election: not leader")),
    }
}

/// Tells every proclamation of every leader, until the observer is gone or something cannot be read.
async fn observe(queue: &Queue, prefix: &[u8], told: &Told) -> Option<Status> {
    loop {
        match reign(queue, prefix, told).await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(status) => return Some(status),
        }
    }
}

/// Waits for a leader and tells what it proclaims until it is gone; of several values in a moment the last. Answers whether
/// the observer is still there.
async fn reign(queue: &Queue, prefix: &[u8], told: &Told) -> Result<bool, Status> {
    let mut all = queue.watch_all(prefix);
    let leader = loop {
        if let (_, Some(leader)) = queue.holder(prefix).await? {
            break leader;
        }
        all.rung().await;
    };
    drop(all);
    let (key, created) = (leader.key, leader.create_revision);
    // Watched before it is read again: nothing is lost between the two.
    let mut bell = queue.watch(&key, true);
    let mut seen = 0;
    loop {
        let (header, now) = queue.get(&key).await?;
        let Some(now) = now.filter(|now| now.create_revision == created) else {
            return Ok(true);
        };
        if now.mod_revision > seen {
            seen = now.mod_revision;
            if !tell(told, header, now).await {
                return Ok(false);
            }
        }
        bell.rung().await;
    }
}

async fn tell(
    told: &Told,
    header: Option<etcdserverpb::ResponseHeader>,
    kv: mvccpb::KeyValue,
) -> bool {
    let kv = Some(kv);
    told.send(Ok(pb::LeaderResponse { header, kv }))
        .await
        .is_ok()
}

fn known(leader: Option<LeaderKey>) -> Result<LeaderKey, Status> {
    leader.ok_or_else(|| queue::unknown("\"leader\" field must be provided"))
}

fn place(leader: LeaderKey) -> Place {
    Place {
        key: leader.key,
        created: leader.rev,
    }
}
