//! A client of the etcd v3 API: the wire's own messages in and out, an answer or a gRPC status, never a guess.
//!
//! Requests go to one endpoint until it cannot be reached or cannot serve; then to the next. Reads are then asked again,
//! writes never: whether an unanswered write happened is unknown, and the caller must say so.
//! Streams have files of their own: [`watch`], [`lease`]. [`request`] writes requests down shortly, [`answer`] what is in answers.

pub mod answer;
pub mod lease;
pub mod request;
pub mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use coord_proto::etcd::etcdserverpb as pb;
use pb::cluster_client::ClusterClient;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

pub use lease::KeepAlive;
pub use watch::Watch;

/// Longer than a server takes to give up by itself, so that its own words are seen.
const REQUEST: Duration = Duration::from_secs(15);
/// A loopback connection that takes longer is to a frozen process.
const CONNECT: Duration = Duration::from_secs(2);
/// No limit of ours: what is too large is for the server to say.
const MESSAGE_BYTES_MAX: usize = 256 << 20;

/// The answer of a call: the server's message, or its status.
pub type Answer<T> = Result<T, Status>;

/// A client of one or more members. Clones share connections.
#[derive(Clone)]
pub struct Client {
    channels: Arc<[Channel]>,
    current: Arc<AtomicUsize>,
}

/// Defines calls as `name(request type) -> answer type: client, method, may be asked again`.
macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident($request:ty) -> $answer:ty: $client:ident, $method:ident, $again:expr;)+) => {
        $($(#[$doc])*
        pub async fn $name(&self, request: $request) -> Answer<$answer> {
            self.call($again, request, async |channel, request| {
                $client::new(channel)
                    .max_decoding_message_size(MESSAGE_BYTES_MAX)
                    .max_encoding_message_size(MESSAGE_BYTES_MAX)
                    .$method(request)
                    .await
            })
            .await
        })+
    };
}

const READ: bool = true;
const WRITE: bool = false;

impl Client {
    /// A client of these endpoints; connects at the first call.
    pub fn new(endpoints: &[String]) -> anyhow::Result<Self> {
        ensure!(!endpoints.is_empty(), "a client needs an endpoint");
        let channels = endpoints
            .iter()
            .map(|url| {
                let endpoint = Endpoint::from_shared(url.clone())
                    .with_context(|| format!("endpoint {url}"))?;
                Ok(endpoint
                    .connect_timeout(CONNECT)
                    .tcp_nodelay(true)
                    .connect_lazy())
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        Ok(Self {
            channels: channels.into(),
            current: Arc::default(),
        })
    }

    /// A client over these connections, one to each member.
    #[must_use]
    pub fn over(channels: Vec<Channel>) -> Self {
        assert!(!channels.is_empty(), "a client needs an endpoint");
        Self {
            channels: channels.into(),
            current: Arc::default(),
        }
    }

    calls! {
        /// KV.Range.
        range(pb::RangeRequest) -> pb::RangeResponse: KvClient, range, READ;
        /// KV.Put.
        put(pb::PutRequest) -> pb::PutResponse: KvClient, put, WRITE;
        /// KV.DeleteRange.
        delete(pb::DeleteRangeRequest) -> pb::DeleteRangeResponse: KvClient, delete_range, WRITE;
        /// KV.Txn.
        txn(pb::TxnRequest) -> pb::TxnResponse: KvClient, txn, WRITE;
        /// KV.Compact.
        compact_with(pb::CompactionRequest) -> pb::CompactionResponse: KvClient, compact, WRITE;
        /// Lease.LeaseGrant.
        lease_grant(pb::LeaseGrantRequest) -> pb::LeaseGrantResponse: LeaseClient, lease_grant, WRITE;
        /// Lease.LeaseRevoke.
        lease_revoke(pb::LeaseRevokeRequest) -> pb::LeaseRevokeResponse: LeaseClient, lease_revoke, WRITE;
        /// Lease.LeaseTimeToLive.
        lease_time_to_live(pb::LeaseTimeToLiveRequest) -> pb::LeaseTimeToLiveResponse: LeaseClient, lease_time_to_live, READ;
        /// Lease.LeaseLeases.
        lease_leases(pb::LeaseLeasesRequest) -> pb::LeaseLeasesResponse: LeaseClient, lease_leases, READ;
        /// Cluster.MemberAdd.
        member_add(pb::MemberAddRequest) -> pb::MemberAddResponse: ClusterClient, member_add, WRITE;
        /// Cluster.MemberRemove.
        member_remove(pb::MemberRemoveRequest) -> pb::MemberRemoveResponse: ClusterClient, member_remove, WRITE;
        /// Cluster.MemberUpdate.
        member_update(pb::MemberUpdateRequest) -> pb::MemberUpdateResponse: ClusterClient, member_update, WRITE;
        /// Cluster.MemberPromote.
        member_promote(pb::MemberPromoteRequest) -> pb::MemberPromoteResponse: ClusterClient, member_promote, WRITE;
        /// Cluster.MemberList.
        member_list(pb::MemberListRequest) -> pb::MemberListResponse: ClusterClient, member_list, READ;
        /// Maintenance.Status of the member that is asked.
        status_with(pb::StatusRequest) -> pb::StatusResponse: MaintenanceClient, status, READ;
        /// Maintenance.Defragment.
        defragment(pb::DefragmentRequest) -> pb::DefragmentResponse: MaintenanceClient, defragment, WRITE;
        /// Maintenance.MoveLeader.
        move_leader(pb::MoveLeaderRequest) -> pb::MoveLeaderResponse: MaintenanceClient, move_leader, WRITE;
        /// Maintenance.Alarm.
        alarm(pb::AlarmRequest) -> pb::AlarmResponse: MaintenanceClient, alarm, WRITE;
        /// Maintenance.Hash.
        hash(pb::HashRequest) -> pb::HashResponse: MaintenanceClient, hash, READ;
        /// Maintenance.HashKV.
        hash_kv(pb::HashKvRequest) -> pb::HashKvResponse: MaintenanceClient, hash_kv, READ;
        /// Maintenance.Downgrade.
        downgrade(pb::DowngradeRequest) -> pb::DowngradeResponse: MaintenanceClient, downgrade, WRITE;
    }

    /// Compacts up to `revision` and waits for the removal.
    pub async fn compact(&self, revision: i64) -> Answer<pb::CompactionResponse> {
        self.compact_with(pb::CompactionRequest {
            revision,
            physical: true,
        })
        .await
    }

    /// Maintenance.Status of the member that is asked.
    pub async fn status(&self) -> Answer<pb::StatusResponse> {
        self.status_with(pb::StatusRequest {}).await
    }

    /// The members, as a quorum knows them.
    pub async fn members(&self) -> Answer<Vec<pb::Member>> {
        Ok(self
            .member_list(pb::MemberListRequest { linearizable: true })
            .await?
            .members)
    }

    /// The newest revision, by a linearizable read.
    pub async fn revision(&self) -> Answer<i64> {
        let any = pb::RangeRequest {
            count_only: true,
            ..request::range("any")
        };
        Ok(self
            .range(any)
            .await?
            .header
            .map_or(0, |header| header.revision))
    }

    /// The value of a key, by a linearizable read.
    pub async fn get(&self, key: &str) -> Answer<Option<String>> {
        let found = self.range(request::range(key)).await?.kvs;
        Ok(found
            .first()
            .map(|kv| String::from_utf8_lossy(&kv.value).into_owned()))
    }

    /// Puts each pair, one revision after the other; a fresh store is at 1, so the first is at 2.
    pub async fn fill(&self, pairs: &[(&str, &str)]) -> Answer<()> {
        for (key, value) in pairs {
            self.put(request::put(key, value)).await?;
        }
        Ok(())
    }

    /// A watch stream to the current endpoint.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::open(self.channel())
    }

    /// A watch stream to the current endpoint, with one watcher.
    pub async fn watching(&self, request: pb::WatchCreateRequest) -> anyhow::Result<Watch> {
        let mut stream = self.watch();
        let created = stream.create(request).await?;
        ensure!(!created.canceled, "refused: {created:?}");
        Ok(stream)
    }

    /// A stream of renewals to the current endpoint.
    #[must_use]
    pub fn keep_alive(&self) -> KeepAlive {
        KeepAlive::open(self.channel())
    }

    /// The connection to the current endpoint, for calls that this client does not have.
    #[must_use]
    pub fn channel(&self) -> Channel {
        self.channels[self.current.load(Ordering::Relaxed) % self.channels.len()].clone()
    }

    async fn call<Q: Clone, A>(
        &self,
        may_ask_again: bool,
        request: Q,
        call: impl AsyncFn(Channel, Request<Q>) -> Answer<tonic::Response<A>>,
    ) -> Answer<A> {
        let mut asked = 1;
        loop {
            let at = self.current.load(Ordering::Relaxed);
            let channel = self.channels[at % self.channels.len()].clone();
            let answer =
                tokio::time::timeout(REQUEST, call(channel, Request::new(request.clone()))).await;
            let status = match answer {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => {
                    Status::deadline_exceeded(format!("no answer in {} s", REQUEST.as_secs()))
                }
            };
            if !cannot_serve(&status) {
                return Err(status);
            }
            // Calls that failed together move on by one endpoint only.
            let _ = self
                .current
                .compare_exchange(at, at + 1, Ordering::Relaxed, Ordering::Relaxed);
            if !may_ask_again || asked >= self.channels.len() {
                return Err(status);
            }
            asked += 1;
        }
    }
}

/// Whether another endpoint may do better. Connections that break show as Unavailable, Unknown or Cancelled.
fn cannot_serve(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded => true,
        Code::FailedPrecondition => status.message().contains("not supported for learner"),
        Code::Unknown | Code::Cancelled | Code::Internal => {
            std::error::Error::source(status).is_some()
        }
        _ => false,
    }
}
