//! Checks before any call: the metadata that etcd's clients send, and whether a learner serves it.

use std::sync::Arc;

use http::Extensions;
use tokio::sync::watch;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status};

use super::asker::Asker;
use super::error::{self, Invalid};
use crate::command::{Principal, Unavailable};
use crate::config::Requests;
use crate::coordinator::Coordinator;
use crate::http::ClientCertificate;

/// etcd ends a stream that requires a leader after this many election timeouts without one.
const LEADERLESS_ELECTIONS: u32 = 3;

/// Whether a learner may answer a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnLearner {
    /// It has all that is needed.
    Serves,
    /// Only voters answer.
    Refuses,
}

/// The part of a call that says who asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Credentials {
    token: Option<String>,
    /// Told the user, where somebody wants to know.
    asker: Option<Asker>,
    /// The common name of the certificate that the connection was opened with, where that counts as a user.
    common_name: Option<String>,
}

impl Credentials {
    /// Those of a request.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        let certificate = certificate(request.extensions());
        let credentials = Self::new(request.metadata(), certificate.map(AsRef::as_ref));
        Self {
            asker: request.extensions().get().cloned(),
            ..credentials
        }
    }

    /// The same, and `asker` is told the user.
    pub(super) fn with_asker(self, asker: Asker) -> Self {
        let asker = Some(asker);
        Self { asker, ..self }
    }

    /// The one that is told the user.
    pub(super) fn asker(&self) -> Option<&Asker> {
        self.asker.as_ref()
    }

    /// The token that was sent.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The common name of the certificate that counts as a user, where it does.
    pub(super) fn common_name(&self) -> Option<&str> {
        self.common_name.as_deref()
    }

    /// Those in a call's metadata, and the certificate of its connection. etcd's clients send `token`, its gateway's
    /// `authorization`.
    pub(super) fn new(metadata: &MetadataMap, certificate: Option<&ClientCertificate>) -> Self {
        let token = metadata.get("token").or(metadata.get("authorization"));
        let token = token.map(|token| {
            let token = token.to_str().unwrap_or_default();
            token.strip_prefix("Bearer ").unwrap_or(token).to_owned()
        });
        // A certificate need not name anybody.
        let common_name = certificate.map(ClientCertificate::common_name);
        Self {
            token,
            asker: None,
            common_name: common_name
                .filter(|name| !name.is_empty())
                .map(str::to_owned),
        }
    }
}

/// The certificate that a connection was opened with.
pub(super) fn certificate(extensions: &Extensions) -> Option<&Arc<ClientCertificate>> {
    extensions.get()
}

/// The caller, for the calls that are made on its behalf.
#[derive(Clone)]
pub(super) struct Caller {
    metadata: MetadataMap,
    certificate: Option<Arc<ClientCertificate>>,
    asker: Option<Asker>,
}

impl Caller {
    /// The caller of this request.
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        Self {
            metadata: request.metadata().clone(),
            certificate: certificate(request.extensions()).cloned(),
            asker: request.extensions().get().cloned(),
        }
    }

    /// The headers that it sent.
    pub(super) fn metadata(&self) -> &MetadataMap {
        &self.metadata
    }

    /// A request as if the caller had made it.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        if let Some(certificate) = &self.certificate {
            request.extensions_mut().insert(certificate.clone());
        }
        if let Some(asker) = &self.asker {
            request.extensions_mut().insert(asker.clone());
        }
        request
    }
}

/// The parts that every service of the door holds.
#[derive(Clone)]
pub(super) struct Gate {
    pub(super) coordinator: Arc<Coordinator>,
    /// Bounds on clients' requests.
    pub(super) requests: Requests,
    /// Turns true when streams must end.
    closing: watch::Receiver<bool>,
}

impl Gate {
    pub(super) fn new(
        coordinator: Arc<Coordinator>,
        requests: Requests,
        closing: watch::Receiver<bool>,
    ) -> Self {
        Self {
            coordinator,
            requests,
            closing,
        }
    }

    /// Lets a call in, or says why not.
    pub(super) fn admit(&self, metadata: &MetadataMap, learner: OnLearner) -> Result<(), Status> {
        self.admit_stream(metadata, learner)?;
        // As etcd, which does not look at it where requests are a stream.
        if metadata
            .get("client-api-version")
            .is_some_and(|version| version.is_empty())
        {
            return Err(Invalid::ClientApiVersion.into());
        }
        Ok(())
    }

    /// Lets a stream of requests in, or says why not.
    pub(super) fn admit_stream(
        &self,
        metadata: &MetadataMap,
        learner: OnLearner,
    ) -> Result<(), Status> {
        if learner == OnLearner::Refuses && self.coordinator.is_learner() {
            return Err(error::unavailable(Unavailable::Learner));
        }
        if requires_leader(metadata) && self.coordinator.leadership().borrow().leader.is_none() {
            return Err(error::unavailable(Unavailable::NoLeader));
        }
        Ok(())
    }

    /// The principal of a call. etcd checks what the request says before this.
    ///
    /// Errors: a token that means nobody.
    pub(super) async fn principal(&self, credentials: &Credentials) -> Result<Principal, Status> {
        let Credentials {
            token,
            asker,
            common_name,
        } = credentials;
        let common_name = common_name
            .as_deref()
            .filter(|_| self.requests.common_names_are_users);
        let principal = self.coordinator.principal(token.as_deref(), common_name);
        let principal = principal.await.map_err(|error| error::status(&error))?;
        if let (Some(asker), Principal::User { name, .. }) = (asker, &principal) {
            asker.is(name);
        }
        Ok(principal)
    }

    /// Lets in who may do what only root may.
    pub(super) async fn admit_admin(&self, credentials: &Credentials) -> Result<(), Status> {
        let principal = self.principal(credentials).await?;
        let may = self.coordinator.is_admin(&principal);
        may.map_err(|error| error::status(&error))
    }

    /// Lets in who says who it is, if it must.
    pub(super) async fn admit_named(&self, credentials: &Credentials) -> Result<(), Status> {
        let principal = self.principal(credentials).await?;
        let may = self.coordinator.is_named(&principal);
        may.map_err(|error| error::status(&error))
    }

    /// Resolves when a stream must end, with what its client is told.
    pub(super) fn end_of_stream(
        &self,
        metadata: &MetadataMap,
    ) -> impl Future<Output = Status> + Send + 'static {
        let requires_leader = requires_leader(metadata);
        let mut leadership = self.coordinator.leadership();
        let patience = self.coordinator.election_timeout() * LEADERLESS_ELECTIONS;
        let mut closing = self.closing.clone();
        async move {
            let closed = async {
                // An error means that the node is gone, which ends streams as well.
                let _ = closing.wait_for(|closing| *closing).await;
            };
            // Resolves once there was no leader for long without a break.
            let leaderless = async {
                while leadership
                    .wait_for(|now| now.leader.is_none())
                    .await
                    .is_ok()
                {
                    let elected = leadership.wait_for(|now| now.leader.is_some());
                    if !matches!(tokio::time::timeout(patience, elected).await, Ok(Ok(_))) {
                        break;
                    }
                }
            };
            tokio::select! {
                () = closed => error::unavailable(Unavailable::Stopped),
                () = leaderless, if requires_leader => error::unavailable(Unavailable::NoLeader),
            }
        }
    }
}

fn requires_leader(metadata: &MetadataMap) -> bool {
    metadata
        .get("hasleader")
        .is_some_and(|value| value == "true")
}
