//! The services as clients reach them: around each call stands what records it. Calls that services make of each other go
//! past this, so that a call is recorded once, as its client made it.

use std::sync::Arc;

use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::v3electionpb;
use coord_proto::etcd::v3lockpb;
use tonic::{Request, Response, Status, Streaming};

use super::record::{Asks, Followed, Recorder, Renewals};
use super::slow::Watched;
use crate::config::Slow;
use crate::steps;

/// The watcher around each call. Cheap to clone.
#[derive(Clone)]
pub(super) struct Observer {
    recorder: Option<Recorder>,
    slow: Slow,
}

impl Observer {
    /// Records calls, if there is a recorder, and tells of those that are slow.
    pub(super) fn new(recorder: Option<Recorder>, slow: Slow) -> Self {
        Self { recorder, slow }
    }

    /// A service whose calls it stands around.
    pub(super) fn around<S>(&self, service: Arc<S>) -> Observed<S> {
        let observer = self.clone();
        Observed { service, observer }
    }

    /// The recorder of watchers, which are not calls of their own.
    pub(super) fn recorder(&self) -> Option<&Recorder> {
        self.recorder.as_ref()
    }

    /// A call with one answer.
    pub(super) async fn unary<M, A, F>(
        &self,
        method: &'static str,
        request: Request<M>,
        call: impl FnOnce(Request<M>) -> F,
    ) -> Result<Response<A>, Status>
    where
        M: Asks,
        A: 'static,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let watched = Watched::begin(self.slow, method, &request);
        let recorded = self.recorded(method, request, call);
        let (answered, steps) = steps::timed(recorded).await;
        watched.ended(&answered, &steps);
        answered
    }

    async fn recorded<M, A, F>(
        &self,
        method: &'static str,
        mut request: Request<M>,
        call: impl FnOnce(Request<M>) -> F,
    ) -> Result<Response<A>, Status>
    where
        M: Asks,
        A: 'static,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let recorder = self.recorder.as_ref();
        let Some(recorder) = recorder.filter(|recorder| recorder.wants(request.get_ref())) else {
            return call(request).await;
        };
        let kept = request.get_ref().kept();
        let recording = recorder.begin(method, &mut request, kept);
        let answered = call(request).await;
        recording.end(&answered);
        answered
    }

    /// A call whose answer is a stream, and which asks for `message`.
    async fn stream<M, T, S, F>(
        &self,
        method: &'static str,
        mut request: Request<T>,
        message: impl FnOnce(&T) -> M,
        call: impl FnOnce(Request<T>) -> F,
    ) -> Result<Response<Followed<S>>, Status>
    where
        M: Asks,
        F: Future<Output = Result<Response<S>, Status>>,
    {
        let message = message(request.get_ref());
        let recorder = self.recorder.as_ref();
        let Some(recorder) = recorder.filter(|recorder| recorder.wants(&message)) else {
            let answered = call(request).await?;
            return Ok(answered.map(Followed::unrecorded));
        };
        let recording = recorder.begin(method, &mut request, message);
        recording.follow(call(request).await)
    }
}

/// A service, and what stands around its calls.
pub(super) struct Observed<S> {
    service: Arc<S>,
    observer: Observer,
}

/// A service: its calls with one answer, and those whose answer is a stream, each with what it asks for.
macro_rules! observed {
    ($package:literal, $service:path {
        $($name:ident $method:literal ($request:ty) -> $answer:ty;)*
    } streams {
        $($item:ident = $stream_name:ident $stream_method:literal ($stream_request:ty) $message:expr;)*
    }) => {
        #[tonic::async_trait]
        impl<S: $service> $service for Observed<S>
        where
            $(S::$item: Unpin,)*
        {
            $(async fn $name(&self, request: Request<$request>) -> Result<Response<$answer>, Status> {
                let method = concat!("/", $package, "/", $method);
                let call = |request| self.service.$name(request);
                self.observer.unary(method, request, call).await
            })*

            $(
                type $item = Followed<S::$item>;

                async fn $stream_name(
                    &self,
                    request: Request<$stream_request>,
                ) -> Result<Response<Self::$item>, Status> {
                    let method = concat!("/", $package, "/", $stream_method);
                    let call = |request| self.service.$stream_name(request);
                    self.observer.stream(method, request, $message, call).await
                }
            )*
        }
    };
}

observed!("etcdserverpb.KV", pb::kv_server::Kv {
    range "Range" (pb::RangeRequest) -> pb::RangeResponse;
    put "Put" (pb::PutRequest) -> pb::PutResponse;
    delete_range "DeleteRange" (pb::DeleteRangeRequest) -> pb::DeleteRangeResponse;
    txn "Txn" (pb::TxnRequest) -> pb::TxnResponse;
    compact "Compact" (pb::CompactionRequest) -> pb::CompactionResponse;
} streams {
    RangeStreamStream = range_stream "RangeStream" (pb::RangeRequest) Asks::kept;
});

observed!("etcdserverpb.Lease", pb::lease_server::Lease {
    lease_grant "LeaseGrant" (pb::LeaseGrantRequest) -> pb::LeaseGrantResponse;
    lease_revoke "LeaseRevoke" (pb::LeaseRevokeRequest) -> pb::LeaseRevokeResponse;
    lease_time_to_live "LeaseTimeToLive" (pb::LeaseTimeToLiveRequest) -> pb::LeaseTimeToLiveResponse;
    lease_leases "LeaseLeases" (pb::LeaseLeasesRequest) -> pb::LeaseLeasesResponse;
} streams {
    LeaseKeepAliveStream = lease_keep_alive "LeaseKeepAlive" (Streaming<pb::LeaseKeepAliveRequest>) |_| Renewals;
});

observed!("etcdserverpb.Cluster", pb::cluster_server::Cluster {
    member_add "MemberAdd" (pb::MemberAddRequest) -> pb::MemberAddResponse;
    member_remove "MemberRemove" (pb::MemberRemoveRequest) -> pb::MemberRemoveResponse;
    member_update "MemberUpdate" (pb::MemberUpdateRequest) -> pb::MemberUpdateResponse;
    member_list "MemberList" (pb::MemberListRequest) -> pb::MemberListResponse;
    member_promote "MemberPromote" (pb::MemberPromoteRequest) -> pb::MemberPromoteResponse;
} streams {});

observed!("etcdserverpb.Maintenance", pb::maintenance_server::Maintenance {
    alarm "Alarm" (pb::AlarmRequest) -> pb::AlarmResponse;
    status "Status" (pb::StatusRequest) -> pb::StatusResponse;
    defragment "Defragment" (pb::DefragmentRequest) -> pb::DefragmentResponse;
    hash "Hash" (pb::HashRequest) -> pb::HashResponse;
    hash_kv "HashKV" (pb::HashKvRequest) -> pb::HashKvResponse;
    move_leader "MoveLeader" (pb::MoveLeaderRequest) -> pb::MoveLeaderResponse;
    downgrade "Downgrade" (pb::DowngradeRequest) -> pb::DowngradeResponse;
} streams {
    SnapshotStream = snapshot "Snapshot" (pb::SnapshotRequest) Asks::kept;
});

observed!("etcdserverpb.Auth", pb::auth_server::Auth {
    auth_enable "AuthEnable" (pb::AuthEnableRequest) -> pb::AuthEnableResponse;
    auth_disable "AuthDisable" (pb::AuthDisableRequest) -> pb::AuthDisableResponse;
    auth_status "AuthStatus" (pb::AuthStatusRequest) -> pb::AuthStatusResponse;
    authenticate "Authenticate" (pb::AuthenticateRequest) -> pb::AuthenticateResponse;
    user_add "UserAdd" (pb::AuthUserAddRequest) -> pb::AuthUserAddResponse;
    user_get "UserGet" (pb::AuthUserGetRequest) -> pb::AuthUserGetResponse;
    user_list "UserList" (pb::AuthUserListRequest) -> pb::AuthUserListResponse;
    user_delete "UserDelete" (pb::AuthUserDeleteRequest) -> pb::AuthUserDeleteResponse;
    user_change_password "UserChangePassword" (pb::AuthUserChangePasswordRequest) -> pb::AuthUserChangePasswordResponse;
    user_grant_role "UserGrantRole" (pb::AuthUserGrantRoleRequest) -> pb::AuthUserGrantRoleResponse;
    user_revoke_role "UserRevokeRole" (pb::AuthUserRevokeRoleRequest) -> pb::AuthUserRevokeRoleResponse;
    role_add "RoleAdd" (pb::AuthRoleAddRequest) -> pb::AuthRoleAddResponse;
    role_get "RoleGet" (pb::AuthRoleGetRequest) -> pb::AuthRoleGetResponse;
    role_list "RoleList" (pb::AuthRoleListRequest) -> pb::AuthRoleListResponse;
    role_delete "RoleDelete" (pb::AuthRoleDeleteRequest) -> pb::AuthRoleDeleteResponse;
    role_grant_permission "RoleGrantPermission" (pb::AuthRoleGrantPermissionRequest)
        -> pb::AuthRoleGrantPermissionResponse;
    role_revoke_permission "RoleRevokePermission" (pb::AuthRoleRevokePermissionRequest)
        -> pb::AuthRoleRevokePermissionResponse;
} streams {});

observed!("v3lockpb.Lock", v3lockpb::lock_server::Lock {
    lock "Lock" (v3lockpb::LockRequest) -> v3lockpb::LockResponse;
    unlock "Unlock" (v3lockpb::UnlockRequest) -> v3lockpb::UnlockResponse;
} streams {});

observed!("v3electionpb.Election", v3electionpb::election_server::Election {
    campaign "Campaign" (v3electionpb::CampaignRequest) -> v3electionpb::CampaignResponse;
    proclaim "Proclaim" (v3electionpb::ProclaimRequest) -> v3electionpb::ProclaimResponse;
    leader "Leader" (v3electionpb::LeaderRequest) -> v3electionpb::LeaderResponse;
    resign "Resign" (v3electionpb::ResignRequest) -> v3electionpb::ResignResponse;
} streams {
    ObserveStream = observe "Observe" (v3electionpb::LeaderRequest) Asks::kept;
});
