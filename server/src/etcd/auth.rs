//! The Auth service: users, roles, and tokens for passwords.

use bytes::Bytes;
use coord_proto::etcd::authpb;
use coord_proto::etcd::etcdserverpb as pb;
use tonic::{Request, Response, Status};

use super::convert;
use super::error::{self, refused};
use super::gate::{Credentials, Gate, OnLearner};
use super::header;
use crate::command::{
    self, Access, AuthCommand, AuthQuery, AuthRefusal, AuthResponse, Keys, Permission, Query,
    Refusal,
};
use crate::coordinator::Consistency;

/// See [`pb::auth_server::Auth`].
pub(super) struct AuthService(pub(super) Gate);

type Answer<T> = Result<Response<T>, Status>;

impl AuthService {
    /// Changes users or roles, as the caller's principal; answers the header.
    async fn change(
        &self,
        credentials: &Credentials,
        command: AuthCommand,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        let principal = self.0.principal(credentials).await?;
        let outcome = self.0.coordinator.propose(principal, command.into()).await;
        let outcome = outcome.map_err(|error| error::status(&error))?;
        outcome.result.map_err(|refusal| refused(&refusal))?;
        Ok(Some(header::at(&self.0.coordinator, outcome.revision)))
    }

    /// Asks about users or roles, as the caller's principal.
    async fn ask(
        &self,
        credentials: &Credentials,
        query: AuthQuery,
    ) -> Result<(Option<pb::ResponseHeader>, AuthResponse), Status> {
        let principal = self.0.principal(credentials).await?;
        let query = Query::Auth(query);
        let read = self
            .0
            .coordinator
            .read(&principal, &query, Consistency::Linearizable)
            .await;
        let outcome = read.map_err(|error| error::status(&error))?;
        let header = Some(header::at(&self.0.coordinator, outcome.revision));
        match outcome.result.map_err(|refusal| refused(&refusal))? {
            command::Response::Auth(response) => Ok((header, response)),
            _ => Err(mismatch()),
        }
    }

    async fn names(
        &self,
        credentials: &Credentials,
        query: AuthQuery,
    ) -> Result<(Option<pb::ResponseHeader>, Vec<String>), Status> {
        match self.ask(credentials, query).await? {
            (header, AuthResponse::Names(names)) => Ok((header, names)),
            _ => Err(mismatch()),
        }
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<Credentials, Status> {
        self.0.admit(request.metadata(), OnLearner::Refuses)?;
        Ok(Credentials::of(request))
    }

    async fn hash(&self, password: String) -> Result<Bytes, Status> {
        let hash = self.0.coordinator.password_hash(password).await;
        hash.map_err(|error| error::status(&error))
    }
}

fn mismatch() -> Status {
    Status::internal("coord: the engine answered another question")
}

#[tonic::async_trait]
impl pb::auth_server::Auth for AuthService {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Answer<pb::AuthEnableResponse> {
        let credentials = self.admit(&request)?;
        let header = self.change(&credentials, AuthCommand::Enable).await?;
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Answer<pb::AuthDisableResponse> {
        let credentials = self.admit(&request)?;
        let header = self.change(&credentials, AuthCommand::Disable).await?;
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Answer<pb::AuthStatusResponse> {
        let credentials = self.admit(&request)?;
        match self.ask(&credentials, AuthQuery::Status).await? {
            (header, AuthResponse::Status { enabled, revision }) => {
                Ok(Response::new(pb::AuthStatusResponse {
                    header,
                    enabled,
                    auth_revision: revision,
                }))
            }
            _ => Err(mismatch()),
        }
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Answer<pb::AuthenticateResponse> {
        // The metadata does not matter: a client whose token has ended asks for another one with it.
        self.admit(&request)?;
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let given = self.0.coordinator.authenticate(name, password).await;
        let (revision, token) = given.map_err(|error| error::status(&error))?;
        let header = Some(header::at(&self.0.coordinator, revision));
        Ok(Response::new(pb::AuthenticateResponse { header, token }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Answer<pb::AuthUserAddResponse> {
        let credentials = self.admit(&request)?;
        // Hashing is dear: only for those whose change will be taken.
        self.0.admit_admin(&credentials).await?;
        let pb::AuthUserAddRequest {
            name,
            password,
            options,
            hashed_password: _,
        } = request.into_inner();
        let password = match options.is_some_and(|options| options.no_password) {
            true => None,
            // An empty password is one, as in etcd.
            false => Some(self.hash(password).await?),
        };
        let command = AuthCommand::UserAdd { name, password };
        let header = self.change(&credentials, command).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Answer<pb::AuthUserGetResponse> {
        let credentials = self.admit(&request)?;
        let query = AuthQuery::User(request.into_inner().name);
        let (header, roles) = self.names(&credentials, query).await?;
        Ok(Response::new(pb::AuthUserGetResponse { header, roles }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Answer<pb::AuthUserListResponse> {
        let credentials = self.admit(&request)?;
        let (header, users) = self.names(&credentials, AuthQuery::Users).await?;
        Ok(Response::new(pb::AuthUserListResponse { header, users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Answer<pb::AuthUserDeleteResponse> {
        let credentials = self.admit(&request)?;
        let name = request.into_inner().name;
        let header = self
            .change(&credentials, AuthCommand::UserDelete { name })
            .await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Answer<pb::AuthUserChangePasswordResponse> {
        let credentials = self.admit(&request)?;
        self.0.admit_admin(&credentials).await?;
        let pb::AuthUserChangePasswordRequest {
            name,
            password,
            hashed_password: _,
        } = request.into_inner();
        let password = match password.as_str() {
            // As in etcd: from now on no password is right.
            "" => Bytes::new(),
            _ => self.hash(password).await?,
        };
        let command = AuthCommand::UserChangePassword { name, password };
        let header = self.change(&credentials, command).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Answer<pb::AuthUserGrantRoleResponse> {
        let credentials = self.admit(&request)?;
        let pb::AuthUserGrantRoleRequest { user: name, role } = request.into_inner();
        let command = AuthCommand::UserGrantRole { name, role };
        let header = self.change(&credentials, command).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Answer<pb::AuthUserRevokeRoleResponse> {
        let credentials = self.admit(&request)?;
        let pb::AuthUserRevokeRoleRequest { name, role } = request.into_inner();
        let command = AuthCommand::UserRevokeRole { name, role };
        let header = self.change(&credentials, command).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Answer<pb::AuthRoleAddResponse> {
        let credentials = self.admit(&request)?;
        let role = request.into_inner().name;
        let header = self
            .change(&credentials, AuthCommand::RoleAdd { role })
            .await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Answer<pb::AuthRoleGetResponse> {
        let credentials = self.admit(&request)?;
        let query = AuthQuery::Role(request.into_inner().role);
        match self.ask(&credentials, query).await? {
            (header, AuthResponse::Permissions(permissions)) => {
                let perm = permissions.into_iter().map(shown).collect();
                Ok(Response::new(pb::AuthRoleGetResponse { header, perm }))
            }
            _ => Err(mismatch()),
        }
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Answer<pb::AuthRoleListResponse> {
        let credentials = self.admit(&request)?;
        let (header, roles) = self.names(&credentials, AuthQuery::Roles).await?;
        Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Answer<pb::AuthRoleDeleteResponse> {
        let credentials = self.admit(&request)?;
        let role = request.into_inner().role;
        let header = self
            .change(&credentials, AuthCommand::RoleDelete { role })
            .await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Answer<pb::AuthRoleGrantPermissionResponse> {
        let credentials = self.admit(&request)?;
        let pb::AuthRoleGrantPermissionRequest { name: role, perm } = request.into_inner();
        let Some(perm) = perm else {
            self.0.admit_admin(&credentials).await?;
            return Err(no(AuthRefusal::PermissionNotGiven));
        };
        let Some(permission) = granted(&perm) else {
            self.0.admit_admin(&credentials).await?;
            return Err(no(AuthRefusal::InvalidManagement));
        };
        let command = AuthCommand::RoleGrantPermission { role, permission };
        let header = self.change(&credentials, command).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse {
            header,
        }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Answer<pb::AuthRoleRevokePermissionResponse> {
        let credentials = self.admit(&request)?;
        let pb::AuthRoleRevokePermissionRequest {
            role,
            key,
            range_end,
        } = request.into_inner();
        let keys = convert::keys(&key, &range_end);
        let command = AuthCommand::RoleRevokePermission { role, keys };
        let header = self.change(&credentials, command).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse {
            header,
        }))
    }
}

fn no(refusal: AuthRefusal) -> Status {
    refused(&Refusal::Auth(refusal))
}

/// A permission to grant; `None` if it is of a kind that nobody knows.
pub(super) fn granted(perm: &authpb::Permission) -> Option<Permission> {
    let access = match authpb::permission::Type::try_from(perm.perm_type).ok()? {
        authpb::permission::Type::Read => Access::Read,
        authpb::permission::Type::Write => Access::Write,
        authpb::permission::Type::Readwrite => Access::ReadWrite,
    };
    Some(Permission {
        access,
        keys: convert::keys(&perm.key, &perm.range_end),
    })
}

/// A permission as etcd writes it.
pub(super) fn shown(permission: Permission) -> authpb::Permission {
    let Permission { access, keys } = permission;
    let perm_type = match access {
        Access::Read => authpb::permission::Type::Read,
        Access::Write => authpb::permission::Type::Write,
        Access::ReadWrite => authpb::permission::Type::Readwrite,
    };
    let (key, range_end) = match keys {
        Keys::One(key) => (key, Bytes::new()),
        Keys::Range { start, end } => (start, end.unwrap_or(Bytes::from_static(&[0]))),
    };
    authpb::Permission {
        perm_type: perm_type.into(),
        key,
        range_end,
    }
}
