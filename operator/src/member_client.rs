//! Calls to members: etcd's cluster and maintenance services over `coord-proto`, a deadline on each.
//!
//! Knows addresses and messages, and nothing of Kubernetes or of what the answers mean.

use std::collections::BTreeMap;
use std::time::Duration;

use coord_proto::etcd::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberListResponse, MemberPromoteRequest,
    MemberRemoveRequest, MoveLeaderRequest, StatusRequest, StatusResponse,
    cluster_client::ClusterClient, maintenance_client::MaintenanceClient,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Reads: a member that takes longer takes no part.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Membership changes and transfers go through the log; the outcome is read again anyway.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(7);

/// The header of MemberPromote that names another learner, once for each: etcd's request has room for one.
const PROMOTE_WITH: &str = "coord-promote-with";
/// The header of MemberRemove that names another member, once for each.
const REMOVE_WITH: &str = "coord-remove-with";

/// How a member's pod is reached.
#[derive(Clone, Debug, Default)]
pub enum Route {
    /// By the pod's address: the operator runs where pods can be reached.
    #[default]
    PodAddress,
    /// By pod name: for an operator outside the cluster, through a forwarding proxy.
    Fixed(BTreeMap<String, String>),
}

impl Route {
    /// `host:port` of the pod's client port; `None` while there is none.
    pub fn address(&self, pod: &str, ip: Option<&str>) -> Option<String> {
        match self {
            // An IPv6 address needs its brackets.
            Self::PodAddress => ip.map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:2379")
                } else {
                    format!("{ip}:2379")
                }
            }),
            Self::Fixed(addresses) => addresses.get(pod).cloned(),
        }
    }
}

/// A call to a member that failed.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// It could not be reached.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// Where it should be.
        address: String,
        /// Why not.
        source: tonic::transport::Error,
    },
    /// It did not take a plain HTTP call.
    #[error("{call} at {address}: {source}")]
    Http {
        /// The call.
        call: &'static str,
        /// The member's address.
        address: String,
        /// The cause.
        source: std::io::Error,
    },
    /// It answered with an error, or not in time.
    #[error("{call} at {address}: {} ({:?})", status.message(), status.code())]
    Refused {
        /// The call.
        call: &'static str,
        /// The member's address.
        address: String,
        /// Its answer.
        status: Box<Status>,
    },
}

impl MemberError {
    /// True if the answer only says "not yet": a learner that is behind, a cluster that is not settled.
    pub fn is_not_yet(&self) -> bool {
        match self {
            Self::Unreachable { .. } => false,
            Self::Http { .. } => true,
            Self::Refused { status, .. } => {
                matches!(status.code(), Code::FailedPrecondition | Code::Unavailable)
            }
        }
    }

    /// True if the member says nothing to somebody without a user: authentication is enabled.
    pub fn asks_for_a_user(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Http { .. } => false,
            // etcd's own answer to a call without a token has the code of a wrong argument.
            Self::Refused { status, .. } => {
                matches!(
                    status.code(),
                    Code::Unauthenticated | Code::PermissionDenied
                ) || status.message().contains("user name is empty")
            }
        }
    }

    /// True if the member is not in the list (any more).
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == Code::NotFound)
    }
}

/// One member's client port.
pub struct MemberClient {
    address: String,
    channel: Channel,
}

impl MemberClient {
    /// Connects to `address` (`host:port`).
    pub async fn connect(address: &str) -> Result<Self, MemberError> {
        let unreachable = |source| MemberError::Unreachable {
            address: address.to_owned(),
            source,
        };
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unreachable)?;
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .connect()
            .await
            .map_err(unreachable)?;
        Ok(Self {
            address: address.to_owned(),
            channel,
        })
    }

    /// The member's report about itself.
    pub async fn status(&self) -> Result<StatusResponse, MemberError> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        let answer = client.status(within(READ_TIMEOUT, StatusRequest {})).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| self.refused("Status", status))
    }

    /// The member list, after a quorum has confirmed that it is the newest.
    pub async fn member_list(&self) -> Result<MemberListResponse, MemberError> {
        let mut client = ClusterClient::new(self.channel.clone());
        let answer = client
            .member_list(within(
                READ_TIMEOUT,
                MemberListRequest { linearizable: true },
            ))
            .await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| self.refused("MemberList", status))
    }

    /// Adds a learner and returns it.
    pub async fn add_learner(&self, peer_url: &str) -> Result<Option<Member>, MemberError> {
        let mut client = ClusterClient::new(self.channel.clone());
        let request = MemberAddRequest {
            peer_ur_ls: vec![peer_url.to_owned()],
            is_learner: true,
        };
        let answer = client.member_add(within(CHANGE_TIMEOUT, request)).await;
        answer
            .map(|a| a.into_inner().member)
            .map_err(|status| self.refused("MemberAdd", status))
    }

    /// Makes a learner a voter, and those `with` it in the same change.
    pub async fn promote(&self, id: u64, with: &[u64]) -> Result<(), MemberError> {
        let mut client = ClusterClient::new(self.channel.clone());
        let mut request = within(CHANGE_TIMEOUT, MemberPromoteRequest { id });
        name_others(&mut request, PROMOTE_WITH, with);
        let answer = client.member_promote(request).await;
        answer
            .map(|_| ())
            .map_err(|status| self.refused("MemberPromote", status))
    }

    /// Removes a member, and those `with` it in the same change.
    pub async fn remove(&self, id: u64, with: &[u64]) -> Result<(), MemberError> {
        let mut client = ClusterClient::new(self.channel.clone());
        let mut request = within(CHANGE_TIMEOUT, MemberRemoveRequest { id });
        name_others(&mut request, REMOVE_WITH, with);
        let answer = client.member_remove(request).await;
        answer
            .map(|_| ())
            .map_err(|status| self.refused("MemberRemove", status))
    }

    /// Moves leadership; only the leader can.
    pub async fn move_leader(&self, to: u64) -> Result<(), MemberError> {
        let mut client = MaintenanceClient::new(self.channel.clone());
        let answer = client
            .move_leader(within(CHANGE_TIMEOUT, MoveLeaderRequest { target_id: to }))
            .await;
        answer
            .map(|_| ())
            .map_err(|status| self.refused("MoveLeader", status))
    }

    fn refused(&self, call: &'static str, status: Status) -> MemberError {
        MemberError::Refused {
            call,
            address: self.address.clone(),
            status: Box::new(status),
        }
    }
}

/// The version of the program that answers at `address`; `None` if it does not say.
///
/// The version in [`MemberClient::status`] is etcd's, whose protocol it speaks.
pub async fn program_version(address: &str) -> Option<String> {
    let asked = plain_http(address, "GET", "/version", || Ok(())).await;
    let (_, body) = asked.ok()?;
    let json: serde_json::Value = serde_json::from_str(body.trim()).ok()?;
    Some(json.get("coord")?.as_str()?.to_owned())
}

/// The report of a server that does not serve.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Waiting {
    /// `not-added`, `wiped`, `foreign` or another word.
    pub reason: String,
    /// The same as a sentence.
    pub why: String,
    /// A word of this start, while the server can be told to form a cluster.
    pub start: Option<String>,
}

/// Asks a server that gave no status why it does not serve; `None` if it does not say.
pub async fn waiting(address: &str) -> Result<Option<Waiting>, std::io::Error> {
    let (code, body) = plain_http(address, "GET", "/coord/waiting", || Ok(())).await?;
    Ok((code == 200)
        .then(|| serde_json::from_str(&body).ok())
        .flatten())
}

/// Tells a waiting server to form the cluster of `token` alone. `start` is the word it gave: one that has been started
/// again since refuses. `may_send` is asked once connected, right before anything is said.
pub async fn bootstrap(
    address: &str,
    token: &str,
    start: &str,
    may_send: impl FnOnce() -> std::io::Result<()>,
) -> Result<(), std::io::Error> {
    let path = format!("/coord/bootstrap?token={token}&start={start}");
    match plain_http(address, "POST", &path, may_send).await? {
        (202, _) => Ok(()),
        (_, said) => Err(std::io::Error::other(said.trim().to_owned())),
    }
}

/// One HTTP/1.1 call without a body: the status and what was answered.
async fn plain_http(
    address: &str,
    method: &str,
    path: &str,
    may_send: impl FnOnce() -> std::io::Result<()>,
) -> Result<(u16, String), std::io::Error> {
    /// Nothing that is asked here has a longer answer.
    const ANSWER_BYTES_MAX: u64 = 64 * 1024;
    let call = async {
        let stream = tokio::net::TcpStream::connect(address);
        let mut stream = tokio::time::timeout(CONNECT_TIMEOUT, stream).await??;
        may_send()?;
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        stream
            .take(ANSWER_BYTES_MAX)
            .read_to_end(&mut answer)
            .await?;
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let code = code.ok_or_else(|| std::io::Error::other("no HTTP answer"))?;
        Ok((code, body.to_owned()))
    };
    tokio::time::timeout(READ_TIMEOUT, call).await?
}

/// Names the members `with` the one of the request, once each.
fn name_others<T>(request: &mut Request<T>, header: &'static str, with: &[u64]) {
    for id in with {
        let id = format!("{id:x}")
            .parse()
            .expect("digits are a header's value");
        request.metadata_mut().append(header, id);
    }
}

fn within<T>(timeout: Duration, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}
