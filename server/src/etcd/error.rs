//! The words of a no to a client: gRPC code and text, exactly as etcd says it.
//!
//! Clients tell errors apart by their text. Source: etcd `api/v3rpc/rpctypes/error.go`.

use tonic::{Code, Status};

use crate::command::{
    AuthRefusal, KvRefusal, LeaseRefusal, LimitRefusal, MemberRefusal, Refusal, Unavailable,
};
use crate::coordinator::Error;

/// A request that is refused before it reaches the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    /// As the law would refuse it.
    Refused(Refusal),
    /// `ignore_value` with a value.
    ValueProvided,
    /// `ignore_lease` with a lease.
    LeaseProvided,
    /// More operations in a transaction than allowed.
    TooManyOps,
    /// An unknown sort order or target.
    SortOption,
    /// An unknown compare result or target.
    CompareOption,
    /// Peer URLs that are none.
    MemberUrls,
    /// `client-api-version` is there but empty.
    ClientApiVersion,
    /// The target of a downgrade is no version.
    DowngradeFormat,
    /// A downgrade to another version than the one below.
    DowngradeTarget,
}

impl From<Invalid> for Status {
    fn from(invalid: Invalid) -> Self {
        let (code, text) = match invalid {
            Invalid::Refused(refusal) => return refused(&refusal),
            Invalid::ValueProvided => (Code::InvalidArgument, "value is provided"),
            Invalid::LeaseProvided => (Code::InvalidArgument, "lease is provided"),
            Invalid::TooManyOps => (Code::InvalidArgument, "too many operations in txn request"),
            Invalid::SortOption => (Code::InvalidArgument, "invalid sort option"),
            Invalid::CompareOption => (Code::InvalidArgument, "invalid compare option"),
            Invalid::MemberUrls => (Code::InvalidArgument, "given member URLs are invalid"),
            Invalid::ClientApiVersion => (Code::InvalidArgument, "invalid client api version"),
            Invalid::DowngradeFormat => {
                let text = "wrong downgrade target version format";
                (Code::InvalidArgument, text)
            }
            Invalid::DowngradeTarget => (Code::InvalidArgument, "invalid downgrade target version"),
        };
        etcd(code, text)
    }
}

/// The answer to a call of something that is not there yet.
pub(super) fn not_yet(what: &str) -> Status {
    Status::unimplemented(format!(
        "coord: {what} is not implemented yet, see docs/compatibility.md"
    ))
}

/// The answer to a request that the engine did not serve.
pub(super) fn status(error: &Error) -> Status {
    match error {
        Error::Refused(refusal) => refused(refusal),
        Error::Unavailable(unavailable) => self::unavailable(*unavailable),
    }
}

/// A refusal on the wire.
pub(super) fn refused(refusal: &Refusal) -> Status {
    let (code, text) = match refusal {
        Refusal::Kv(refusal) => return refused_kv(refusal),
        Refusal::Lease(refusal) => match refusal {
            LeaseRefusal::NotFound(_) => (Code::NotFound, "requested lease not found"),
            LeaseRefusal::Exists(_) => (Code::FailedPrecondition, "lease already exists"),
            LeaseRefusal::TtlTooLarge => (Code::OutOfRange, "too large lease TTL"),
        },
        Refusal::Member(refusal) => refused_member(*refusal),
        Refusal::Auth(refusal) => return refused_auth(*refusal),
        Refusal::Limit(refusal) => match refusal {
            LimitRefusal::NoSpace => (Code::ResourceExhausted, "mvcc: database space exceeded"),
            LimitRefusal::RequestTooLarge => (Code::InvalidArgument, "request is too large"),
            LimitRefusal::Corrupt => (Code::DataLoss, "corrupt cluster"),
            // etcd's word for what an older member of the cluster does not know, and then which.
            LimitRefusal::Level { .. } => {
                let text = format!("etcdserver: not capable: {refusal}");
                return Status::failed_precondition(text);
            }
        },
    };
    etcd(code, text)
}

fn refused_kv(refusal: &KvRefusal) -> Status {
    let (code, text) = match refusal {
        KvRefusal::EmptyKey => (Code::InvalidArgument, "key is not provided"),
        // etcd bounds keys only by the request; its clients have no text for this.
        KvRefusal::KeyTooLong { bytes, max } => {
            let text =
                format!("etcdserver: key is too long: {bytes} bytes, at most {max} are stored");
            return Status::invalid_argument(text);
        }
        KvRefusal::KeyNotFound => (Code::InvalidArgument, "key not found"),
        KvRefusal::Compacted { .. } => (
            Code::OutOfRange,
            "mvcc: required revision has been compacted",
        ),
        KvRefusal::FutureRevision { .. } => (
            Code::OutOfRange,
            "mvcc: required revision is a future revision",
        ),
        KvRefusal::DuplicateKey => (Code::InvalidArgument, "duplicate key given in txn request"),
    };
    etcd(code, text)
}

fn refused_auth(refusal: AuthRefusal) -> Status {
    let (code, text) = match refusal {
        AuthRefusal::RootUserNotExist => (Code::FailedPrecondition, "root user does not exist"),
        AuthRefusal::RootRoleNotExist => (
            Code::FailedPrecondition,
            "root user does not have root role",
        ),
        AuthRefusal::UserExists => (Code::FailedPrecondition, "user name already exists"),
        AuthRefusal::UserEmpty => (Code::InvalidArgument, "user name is empty"),
        AuthRefusal::UserNotFound => (Code::FailedPrecondition, "user name not found"),
        AuthRefusal::RoleExists => (Code::FailedPrecondition, "role name already exists"),
        AuthRefusal::RoleNotFound => (Code::FailedPrecondition, "role name not found"),
        AuthRefusal::RoleEmpty => (Code::InvalidArgument, "role name is empty"),
        AuthRefusal::Failed => (
            Code::InvalidArgument,
            "authentication failed, invalid user ID or password",
        ),
        AuthRefusal::PermissionNotGiven => (Code::InvalidArgument, "permission not given"),
        AuthRefusal::PermissionDenied => (Code::PermissionDenied, "permission denied"),
        AuthRefusal::RoleNotGranted => {
            (Code::FailedPrecondition, "role is not granted to the user")
        }
        AuthRefusal::PermissionNotGranted => (
            Code::FailedPrecondition,
            "permission is not granted to the role",
        ),
        AuthRefusal::NotEnabled => (Code::FailedPrecondition, "authentication is not enabled"),
        AuthRefusal::InvalidToken => (Code::Unauthenticated, "invalid auth token"),
        AuthRefusal::InvalidManagement => (Code::InvalidArgument, "invalid auth management"),
        AuthRefusal::OldRevision => (Code::InvalidArgument, "revision of auth store is old"),
        // etcd has no code for these.
        AuthRefusal::NoPasswordUser | AuthRefusal::VerifyOnly => {
            return Status::unknown(format!("auth: {refusal}"));
        }
        AuthRefusal::PasswordTooLong => return Status::unknown(format!("bcrypt: {refusal}")),
    };
    etcd(code, text)
}

fn refused_member(refusal: MemberRefusal) -> (Code, &'static str) {
    match refusal {
        MemberRefusal::NotFound(_) => (Code::NotFound, "member not found"),
        MemberRefusal::Exists(_) => (Code::FailedPrecondition, "member ID already exist"),
        MemberRefusal::PeerUrlExists => (Code::FailedPrecondition, "Peer URLs already exists"),
        MemberRefusal::NotLearner(_) => (
            Code::FailedPrecondition,
            "can only promote a learner member",
        ),
        MemberRefusal::LearnerNotReady(_) => (
            Code::FailedPrecondition,
            "can only promote a learner member which is in sync with leader",
        ),
        MemberRefusal::TooManyLearners => (
            Code::FailedPrecondition,
            "too many learner members in cluster",
        ),
        MemberRefusal::NotEnoughStarted => (
            Code::FailedPrecondition,
            "re-configuration failed due to not enough started members",
        ),
        MemberRefusal::BadLeaderTransferee => (Code::FailedPrecondition, "bad leader transferee"),
        MemberRefusal::NotLeader => (Code::FailedPrecondition, "not leader"),
        // No client call is answered with this: only a starting member publishes itself.
        MemberRefusal::Wiped(_) => (Code::FailedPrecondition, "member ID already exist"),
    }
}

/// A temporary no on the wire.
pub(super) fn unavailable(unavailable: Unavailable) -> Status {
    let (code, text) = match unavailable {
        Unavailable::NoLeader => (Code::Unavailable, "no leader"),
        Unavailable::LeaderChanged => (Code::Unavailable, "leader changed"),
        Unavailable::Timeout => (Code::Unavailable, "request timed out"),
        Unavailable::TooManyRequests => (Code::ResourceExhausted, "too many requests"),
        Unavailable::Stopped => (Code::Unavailable, "server stopped"),
        Unavailable::Learner => (Code::FailedPrecondition, "rpc not supported for learner"),
        Unavailable::Unhealthy => (Code::Unavailable, "unhealthy cluster"),
    };
    etcd(code, text)
}

fn etcd(code: Code, text: &str) -> Status {
    Status::new(code, format!("etcdserver: {text}"))
}
