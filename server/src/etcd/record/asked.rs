//! Operations that are not about keys, or name them in a way of their own. Passwords are not even kept.

use coord_proto::etcd::{authpb, etcdserverpb as pb, v3electionpb, v3lockpb};

use super::Asks;
use super::kv::set;
use crate::audit::{Fact, Kind, Operation, Span};

/// Renewals on one stream: it is recorded as one.
#[derive(Clone, Copy)]
pub(in crate::etcd) struct Renewals;

/// Requests that say nothing but their name.
macro_rules! plain {
    ($($request:ty => $kind:ident, $name:literal;)*) => {$(
        impl Asks for $request {
            fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
                each(Operation::new(Kind::$kind, $name));
            }

            fn kept(&self) -> Self {
                *self
            }
        }
    )*};
}

plain! {
    Renewals => Lease, "lease_keep_alive";
    pb::LeaseLeasesRequest => Lease, "lease_leases";
    pb::MemberListRequest => Cluster, "member_list";
    pb::StatusRequest => Maintenance, "status";
    pb::DefragmentRequest => Maintenance, "defragment";
    pb::HashRequest => Maintenance, "hash";
    pb::HashKvRequest => Maintenance, "hash_kv";
    pb::SnapshotRequest => Maintenance, "snapshot";
    pb::AuthEnableRequest => Auth, "auth_enable";
    pb::AuthDisableRequest => Auth, "auth_disable";
    pb::AuthStatusRequest => Auth, "auth_status";
    pb::AuthUserListRequest => Auth, "user_list";
    pb::AuthRoleListRequest => Auth, "role_list";
}

/// Requests with details, each with what is kept of it.
macro_rules! detailed {
    ($($request:ty => $kind:ident, $name:literal, |$this:ident| [$($facts:tt)*], $kept:expr;)*) => {$(
        impl Asks for $request {
            fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
                let $this = self;
                let facts = [$($facts)*];
                each(Operation { facts: &facts, ..Operation::new(Kind::$kind, $name) });
            }

            fn kept(&self) -> Self {
                let $this = self;
                $kept
            }
        }
    )*};
}

detailed! {
    pb::LeaseGrantRequest => Lease, "lease_grant", |it| [("ttl", Fact::Number(it.ttl))], *it;
    pb::LeaseRevokeRequest => Lease, "lease_revoke", |it| [("lease", lease(it.id))], *it;
    pb::LeaseTimeToLiveRequest => Lease, "lease_time_to_live", |it| [("lease", lease(it.id))], *it;
    pb::MemberAddRequest => Cluster, "member_add", |it| [
        ("peer_urls", Fact::Texts(&it.peer_ur_ls)), ("is_learner", Fact::Is(it.is_learner)),
    ], it.clone();
    pb::MemberRemoveRequest => Cluster, "member_remove", |it| [("id", Fact::Id(it.id))], *it;
    pb::MemberUpdateRequest => Cluster, "member_update", |it| [
        ("id", Fact::Id(it.id)), ("peer_urls", Fact::Texts(&it.peer_ur_ls)),
    ], it.clone();
    pb::MemberPromoteRequest => Cluster, "member_promote", |it| [("id", Fact::Id(it.id))], *it;
    pb::AlarmRequest => Maintenance, "alarm", |it| [
        ("action", Fact::Text(it.action().as_str_name())),
        ("id", Fact::Id(it.member_id)),
        ("alarm", Fact::Text(it.alarm().as_str_name())),
    ], *it;
    pb::MoveLeaderRequest => Maintenance, "move_leader", |it| [("id", Fact::Id(it.target_id))], *it;
    pb::DowngradeRequest => Maintenance, "downgrade", |it| [
        ("action", Fact::Text(it.action().as_str_name())), ("version", Fact::Text(&it.version)),
    ], it.clone();
    pb::AuthenticateRequest => Auth, "authenticate", |it| [("name", Fact::Text(&it.name))], Self {
        name: it.name.clone(),
        password: String::new(),
    };
    pb::AuthUserAddRequest => Auth, "user_add", |it| [("name", Fact::Text(&it.name))], Self {
        name: it.name.clone(),
        ..Self::default()
    };
    pb::AuthUserChangePasswordRequest => Auth, "user_change_password", |it| [
        ("name", Fact::Text(&it.name)),
    ], Self {
        name: it.name.clone(),
        ..Self::default()
    };
    pb::AuthUserGetRequest => Auth, "user_get", |it| [("name", Fact::Text(&it.name))], it.clone();
    pb::AuthUserDeleteRequest => Auth, "user_delete", |it| [("name", Fact::Text(&it.name))], it.clone();
    pb::AuthUserGrantRoleRequest => Auth, "user_grant_role", |it| [
        ("name", Fact::Text(&it.user)), ("role", Fact::Text(&it.role)),
    ], it.clone();
    pb::AuthUserRevokeRoleRequest => Auth, "user_revoke_role", |it| [
        ("name", Fact::Text(&it.name)), ("role", Fact::Text(&it.role)),
    ], it.clone();
    pb::AuthRoleAddRequest => Auth, "role_add", |it| [("role", Fact::Text(&it.name))], it.clone();
    pb::AuthRoleGetRequest => Auth, "role_get", |it| [("role", Fact::Text(&it.role))], it.clone();
    pb::AuthRoleDeleteRequest => Auth, "role_delete", |it| [("role", Fact::Text(&it.role))], it.clone();
    pb::AuthRoleRevokePermissionRequest => Auth, "role_revoke_permission", |it| [
        ("role", Fact::Text(&it.role)),
        ("key", Fact::Key(&it.key)),
        ("range_end", Fact::Key(&it.range_end)),
    ], it.clone();
}

fn lease<'a>(id: i64) -> Fact<'a> {
    Fact::Id(id.cast_unsigned())
}

impl Asks for pb::AuthRoleGrantPermissionRequest {
    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        let none = authpb::Permission::default();
        let permission = self.perm.as_ref().unwrap_or(&none);
        let facts = [
            ("role", Fact::Text(&self.name)),
            ("access", Fact::Text(permission.perm_type().as_str_name())),
            ("key", Fact::Key(&permission.key)),
            ("range_end", Fact::Key(&permission.range_end)),
        ];
        let given = if self.perm.is_some() { 4 } else { 1 };
        each(Operation {
            facts: &facts[..given],
            ..Operation::new(Kind::Auth, "role_grant_permission")
        });
    }

    fn kept(&self) -> Self {
        self.clone()
    }
}

/// Locks and elections are about the keys below a name.
fn named(
    name: &[u8],
    operation: &'static str,
    facts: &[(&'static str, Fact<'_>)],
    each: &mut dyn FnMut(Operation<'_>),
) {
    let (key, range_end) = ([name, b"/"].concat(), [name, b"0"].concat());
    each(Operation {
        keys: Some(Span {
            key: &key,
            range_end: &range_end,
        }),
        facts,
        ..Operation::new(Kind::Lock, operation)
    });
}

fn of_key(key: &[u8], operation: &'static str, each: &mut dyn FnMut(Operation<'_>)) {
    each(Operation {
        keys: Some(Span {
            key,
            range_end: b"",
        }),
        ..Operation::new(Kind::Lock, operation)
    });
}

fn leader_key(leader: Option<&v3electionpb::LeaderKey>) -> &[u8] {
    leader.map_or(&[], |leader| &leader.key)
}

impl Asks for v3lockpb::LockRequest {
    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        let facts = [("lease", lease(self.lease))];
        named(&self.name, "lock", set(&facts, self.lease != 0), each);
    }

    fn kept(&self) -> Self {
        self.clone()
    }
}

impl Asks for v3lockpb::UnlockRequest {
    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        of_key(&self.key, "unlock", each);
    }

    fn kept(&self) -> Self {
        self.clone()
    }
}

impl Asks for v3electionpb::CampaignRequest {
    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        let facts = [("lease", lease(self.lease))];
        named(&self.name, "campaign", set(&facts, self.lease != 0), each);
    }

    fn kept(&self) -> Self {
        Self {
            name: self.name.clone(),
            lease: self.lease,
            ..Self::default()
        }
    }
}

impl Asks for v3electionpb::ProclaimRequest {
    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        of_key(leader_key(self.leader.as_ref()), "proclaim", each);
    }

    fn kept(&self) -> Self {
        Self {
            leader: self.leader.clone(),
            ..Self::default()
        }
    }
}

/// It stands for two calls: to ask for the leader, and to go on being told.
impl Asks for v3electionpb::LeaderRequest {
    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        named(&self.name, "leader", &[], each);
    }

    fn kept(&self) -> Self {
        self.clone()
    }
}

impl Asks for v3electionpb::ResignRequest {
    fn operations(&self, each: &mut dyn FnMut(Operation<'_>)) {
        of_key(leader_key(self.leader.as_ref()), "resign", each);
    }

    fn kept(&self) -> Self {
        self.clone()
    }
}
