//! The Lock service: the owner of the oldest key under a name holds the lock.

use std::sync::Arc;

use bytes::Bytes;
use coord_proto::etcd::v3lockpb as pb;
use tonic::{Request, Response, Status};

use super::gate::{Caller, Gate, OnLearner};
use super::kv::KvService;
use super::lease::LeaseService;
use super::queue::{self, Queue};

/// See [`pb::lock_server::Lock`].
pub(super) struct LockService {
    pub(super) gate: Gate,
    pub(super) kv: Arc<KvService>,
    pub(super) lease: Arc<LeaseService>,
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl pb::lock_server::Lock for LockService {
    /// Returns when the lock is held, at once if this lease holds it already. A caller that goes away gives its place up.
    async fn lock(&self, request: Request<pb::LockRequest>) -> Answer<pb::LockResponse> {
        let queue = self.queue(&request)?;
        let pb::LockRequest { name, lease } = request.into_inner();
        let lease = queue.lease(lease).await?;
        let prefix = queue::prefix(&name);
        let taken = queue.take(&prefix, lease, Bytes::new()).await?;
        let leaving = queue.leaving(&taken.place);
        let (_, holder) = queue.holder(&prefix).await?;
        let key = taken.place.key.clone();
        let is_first = holder.is_none_or(|holder| holder.create_revision == taken.place.created);
        let header = if is_first {
            taken.header
        } else {
            queue.first(&prefix, &taken.place).await?;
            // Its lease may have ended meanwhile, and with it the key.
            let (header, own) = queue.get(&key).await?;
            if own.is_none() {
                return Err(queue::unknown("mutex: session is expired"));
            }
            header
        };
        leaving.stay();
        Ok(Response::new(pb::LockResponse { header, key }))
    }

    async fn unlock(&self, request: Request<pb::UnlockRequest>) -> Answer<pb::UnlockResponse> {
        let queue = self.queue(&request)?;
        let header = queue.delete(request.into_inner().key).await?;
        Ok(Response::new(pb::UnlockResponse { header }))
    }
}

impl LockService {
    fn queue<T>(&self, request: &Request<T>) -> Result<Queue, Status> {
        self.gate.admit(request.metadata(), OnLearner::Refuses)?;
        let (kv, lease) = (self.kv.clone(), self.lease.clone());
        let caller = Caller::of(request);
        Ok(Queue::new(self.gate.clone(), kv, lease, caller))
    }
}
