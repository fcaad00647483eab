//! The audit log's knowledge of a call: by whom, from where, its operations, and how it ended.
//!
//! [`asked`] and [`kv`] say what each request asks for, [`answered`] what its answer adds. Recording begins before a call
//! is let in, so that a refusal is recorded too, and a call that its client gives up is recorded as canceled: the change
//! may have been made.

mod answered;
mod asked;
mod kv;
mod stream;
mod watch;

use std::any::Any;
use std::sync::Arc;

use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::asker::Asker;
use super::gate::Credentials;
use super::slow::shown::Shown;
use crate::audit::{Entry, Fact, Log, Operation};
use crate::coordinator::Coordinator;
use crate::http::{ClientCertificate, Remote};

pub(super) use asked::Renewals;
pub(super) use stream::Followed;
pub(super) use watch::Watchers;

/// A request, as far as the audit log may know it.
pub(super) trait Asks: Send + 'static {
    /// Hands over each of its operations.
    fn operations(&self, each: &mut dyn FnMut(Operation<'_>));
    /// The request for the log, should it take too long; etcd shows few.
    fn shown(&self) -> Option<Shown> {
        None
    }
    /// A copy until its call ends, without what must not be known.
    fn kept(&self) -> Self;
}

/// Records calls. Cheap to clone.
#[derive(Clone)]
pub(super) struct Recorder {
    log: Log,
    coordinator: Arc<Coordinator>,
    common_names_are_users: bool,
}

impl Recorder {
    pub(super) fn new(
        log: Log,
        coordinator: Arc<Coordinator>,
        common_names_are_users: bool,
    ) -> Self {
        Self {
            log,
            coordinator,
            common_names_are_users,
        }
    }

    /// Whether a call that asks for this is recorded.
    pub(super) fn wants(&self, message: &impl Asks) -> bool {
        let mut is_taken = false;
        message.operations(&mut |operation| is_taken |= self.log.takes(&operation));
        is_taken
    }

    /// Begins to record a call.
    pub(super) fn begin<M: Asks, T>(
        &self,
        method: &'static str,
        request: &mut Request<T>,
        message: M,
    ) -> Recording<M> {
        request.extensions_mut().insert(Asker::default());
        let credentials = Credentials::of(request);
        let remote = request.extensions().get::<Remote>().cloned();
        Recording {
            call: self.call(method, credentials, remote),
            message,
            stream: None,
            has_ended: false,
        }
    }

    /// Begins to record the watchers of a stream.
    pub(super) fn watchers(
        &self,
        method: &'static str,
        credentials: Credentials,
        remote: Option<Remote>,
    ) -> Watchers {
        Watchers::new(self.call(method, credentials, remote))
    }

    fn call(&self, method: &'static str, credentials: Credentials, remote: Option<Remote>) -> Call {
        Call {
            recorder: self.clone(),
            method,
            remote: remote.unwrap_or_default(),
            credentials,
        }
    }
}

/// How a call ended: the name of its code, and the words of a refusal.
type Outcome<'a> = (&'static str, &'a str);

const FINE: Outcome<'static> = ("OK", "");
const CANCELED: Outcome<'static> = ("Canceled", "");

fn refused(status: &Status) -> Outcome<'_> {
    (code_name(status.code()), status.message())
}

/// The part of a call that is the same whatever it asks for.
struct Call {
    recorder: Recorder,
    method: &'static str,
    remote: Remote,
    credentials: Credentials,
}

impl Call {
    /// The user whom it was made as; else the one whom it would have been made as, had it come that far.
    fn user(&self) -> Option<String> {
        let Self {
            recorder,
            credentials,
            ..
        } = self;
        if let Some(name) = credentials.asker().and_then(Asker::name) {
            return Some(name.to_owned());
        }
        let common_name = credentials.common_name();
        let common_name = common_name.filter(|_| recorder.common_names_are_users);
        recorder
            .coordinator
            .user_of(credentials.token(), common_name)
    }

    fn record(
        &self,
        message: &impl Asks,
        stream: Option<&'static str>,
        outcome: Outcome<'_>,
        facts: &[(&'static str, Fact<'_>)],
    ) {
        let user = self.user();
        let certificate = self.remote.certificate.as_deref();
        let common_name = certificate.map(ClientCertificate::common_name);
        let (code, words) = outcome;
        let entry = Entry {
            remote: self.remote.address,
            user: user.as_deref(),
            common_name: common_name.filter(|name| !name.is_empty()),
            method: self.method,
            stream,
            code,
            message: words,
            facts,
        };
        let log = &self.recorder.log;
        log.record(&entry, |each| message.operations(each));
    }
}

/// A call that is being recorded: as canceled, if it is dropped before it ends.
pub(super) struct Recording<M: Asks> {
    call: Call,
    message: M,
    /// Set once its answer, which is a stream, has begun.
    stream: Option<&'static str>,
    has_ended: bool,
}

impl<M: Asks> Recording<M> {
    /// Records how it ended.
    pub(super) fn end<A: Any>(mut self, answered: &Result<Response<A>, Status>) {
        match answered {
            Ok(answer) => answered::facts(answer.get_ref(), |facts| self.ended(FINE, facts)),
            Err(status) => self.ended(refused(status), &[]),
        }
    }

    /// Records that its answer began, and later how that ended.
    pub(super) fn follow<S>(
        mut self,
        answered: Result<Response<S>, Status>,
    ) -> Result<Response<Followed<S>>, Status> {
        let how = answered.as_ref().map_or_else(refused, |_| FINE);
        let opened = Some("opened");
        self.call.record(&self.message, opened, how, &[]);
        self.has_ended = answered.is_err();
        self.stream = Some("ended");
        answered.map(|answer| answer.map(|stream| Followed::new(stream, self)))
    }

    fn ended(&mut self, outcome: Outcome<'_>, facts: &[(&'static str, Fact<'_>)]) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.call.record(&self.message, self.stream, outcome, facts);
        }
    }
}

impl<M: Asks> Drop for Recording<M> {
    fn drop(&mut self) {
        self.ended(CANCELED, &[]);
    }
}

/// The credentials of a stream whose calls are recorded.
pub(super) fn recorded(
    metadata: &MetadataMap,
    certificate: Option<&ClientCertificate>,
) -> Credentials {
    Credentials::new(metadata, certificate).with_asker(Asker::default())
}

/// As Go's packages and etcd's metrics spell it.
fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}
