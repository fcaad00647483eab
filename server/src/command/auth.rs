//! Users, roles and permissions: changes to them, and reasons for refusing.

mod codec;

use bytes::Bytes;
use thiserror::Error;

use super::Keys;

/// The user, and the role, that may do everything.
pub const ROOT: &str = "root";

/// The access that a permission grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// To read.
    Read,
    /// To write.
    Write,
    /// Both.
    ReadWrite,
}

/// A role's right to keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// To do what.
    pub access: Access,
    /// With which keys.
    pub keys: Keys,
}

/// All users and roles with their permissions, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthTables {
    /// Whether users must say who they are.
    pub is_enabled: bool,
    /// The auth revision, from 1.
    pub revision: u64,
    /// The users, by name.
    pub users: Vec<AuthUser>,
    /// The roles, by name, each with its permissions.
    pub roles: Vec<(String, Vec<Permission>)>,
}

/// A user of [`AuthTables`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthUser {
    /// Its name.
    pub name: String,
    /// The bcrypt hash of its password; `None` if it can't have one.
    pub password: Option<Bytes>,
    /// Names of its roles, ascending.
    pub roles: Vec<String>,
}

/// A change to authentication. Passwords were hashed before proposing: no password is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthCommand {
    /// From now on every client must say who it is.
    Enable,
    /// From now on none must.
    Disable,
    /// Gives a user, whose password was checked, a token that every member knows.
    Authenticate {
        /// The user.
        name: String,
        /// Random letters chosen before proposing; the log index makes a token of them. Empty if tokens are signed
        /// instead: then nobody needs to know them.
        token: String,
    },
    /// Makes a user.
    UserAdd {
        /// Its name.
        name: String,
        /// The hash of its password; `None` if it can't have one.
        password: Option<Bytes>,
    },
    /// Removes a user.
    UserDelete {
        /// Its name.
        name: String,
    },
    /// Gives a user another password.
    UserChangePassword {
        /// Its name.
        name: String,
        /// The hash; empty matches no password.
        password: Bytes,
    },
    /// Gives a role to a user.
    UserGrantRole {
        /// The user's name.
        name: String,
        /// The role.
        role: String,
    },
    /// Takes a role from a user.
    UserRevokeRole {
        /// The user's name.
        name: String,
        /// The role.
        role: String,
    },
    /// Makes a role.
    RoleAdd {
        /// Its name.
        role: String,
    },
    /// Removes a role, from users too.
    RoleDelete {
        /// Its name.
        role: String,
    },
    /// Gives a permission to a role; one for the same keys is replaced.
    RoleGrantPermission {
        /// The role.
        role: String,
        /// The permission.
        permission: Permission,
    },
    /// Takes a permission from a role.
    RoleRevokePermission {
        /// The role.
        role: String,
        /// The permission's keys, exactly as they were granted.
        keys: Keys,
    },
}

/// A question about authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthQuery {
    /// Whether it is on.
    Status,
    /// The roles of a user.
    User(String),
    /// All users.
    Users,
    /// The permissions of a role.
    Role(String),
    /// All roles.
    Roles,
}

/// The answer to a question about authentication, or to a change of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthResponse {
    /// To [`AuthQuery::Status`].
    Status {
        /// Whether it is on.
        enabled: bool,
        /// Counts changes to users and roles.
        revision: u64,
    },
    /// Names, of users or roles, in order.
    Names(Vec<String>),
    /// A role's permissions by key.
    Permissions(Vec<Permission>),
    /// To [`AuthCommand::Authenticate`].
    Authenticated {
        /// The token; empty if tokens are signed.
        token: String,
        /// The auth revision it was given at.
        revision: u64,
    },
}

/// Why authentication refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AuthRefusal {
    /// It can't be turned on without a user `root`.
    #[error("root user does not exist")]
    RootUserNotExist,
    /// It can't be turned on before that user has the role `root`.
    #[error("root user does not have root role")]
    RootRoleNotExist,
    /// There is such a user.
    #[error("user name already exists")]
    UserExists,
    /// Nobody is named.
    #[error("user name is empty")]
    UserEmpty,
    /// There is no such user.
    #[error("user name not found")]
    UserNotFound,
    /// There is such a role.
    #[error("role name already exists")]
    RoleExists,
    /// There is no such role.
    #[error("role name not found")]
    RoleNotFound,
    /// No role is named.
    #[error("role name is empty")]
    RoleEmpty,
    /// No such user, or another password.
    #[error("authentication failed, invalid user ID or password")]
    Failed,
    /// The user has no password, and one was given.
    #[error("authentication failed, password was given for no password user")]
    NoPasswordUser,
    /// A grant without a permission.
    #[error("permission not given")]
    PermissionNotGiven,
    /// It is not permitted.
    #[error("permission denied")]
    PermissionDenied,
    /// The user does not have the role.
    #[error("role is not granted to the user")]
    RoleNotGranted,
    /// The role does not have the permission.
    #[error("permission is not granted to the role")]
    PermissionNotGranted,
    /// It is not on.
    #[error("authentication is not enabled")]
    NotEnabled,
    /// The token means nobody, or no longer.
    #[error("invalid auth token")]
    InvalidToken,
    /// Nobody could make it good again: root without its role, or a range without keys.
    #[error("invalid auth management")]
    InvalidManagement,
    /// Users or roles have changed since the principal was checked.
    #[error("revision of auth store is old")]
    OldRevision,
    /// Tokens are signed, and this member has only the key to check them.
    #[error("token signing attempted with verify-only key")]
    VerifyOnly,
    /// bcrypt takes no more.
    #[error("password length exceeds 72 bytes")]
    PasswordTooLong,
}

/// A change to the tokens that members hold in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenChange {
    /// It was given to a user.
    Given {
        /// The token.
        token: String,
        /// The user.
        user: String,
    },
    /// None of this user's means anything any more.
    UserEnded(String),
    /// None means anything any more.
    AllEnded,
}
