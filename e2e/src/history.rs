//! The clients' record: each call with its request, when it began and ended, and its outcome.
//!
//! The checkers of [`check`](crate::check) judge histories; this room only writes them down. A call whose answer never
//! came is *unknown*: it may have happened, at any time after it began, or never. Values are unique among the writes of
//! a history, so that a read says which write it saw.

pub mod wire;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb::KeyValue;
use pb::compare::{CompareResult, TargetUnion};
use pb::response_op::Response;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tonic::Status;

use crate::clients::etcd::Client;
use crate::clients::etcd::request::{compare, delete, op, put, range, txn};

/// The time after which a client gives an answer up: about as long as programs wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// The request of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Read one key.
    Get {
        /// The key.
        key: String,
        /// Whether it may be stale.
        is_serializable: bool,
    },
    /// Write one key.
    Put {
        /// The key.
        key: String,
        /// The value, which no other write of the history has.
        value: String,
    },
    /// Delete one key.
    Delete {
        /// The key.
        key: String,
    },
    /// Write one key if its last change was at `expected`, else read it.
    Swap {
        /// The key.
        key: String,
        /// The mod revision that it must have; 0 is a key that does not exist.
        expected: i64,
        /// The value, which no other write of the history has.
        value: String,
    },
}

impl Request {
    /// The key it is about.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Get { key, .. }
            | Self::Put { key, .. }
            | Self::Delete { key }
            | Self::Swap { key, .. } => key,
        }
    }
}

/// A key as it was read.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Version {
    /// Its value.
    pub value: String,
    /// When it was created.
    pub create_revision: i64,
    /// When it was last changed.
    pub mod_revision: i64,
    /// How often it was written since it was created.
    pub version: i64,
}

impl From<&KeyValue> for Version {
    fn from(kv: &KeyValue) -> Self {
        Self {
            value: String::from_utf8_lossy(&kv.value).into_owned(),
            create_revision: kv.create_revision,
            mod_revision: kv.mod_revision,
            version: kv.version,
        }
    }
}

/// The content of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To a get: the key, if it exists.
    Found(Option<Version>),
    /// To a put.
    Put,
    /// To a delete: whether there was something to delete.
    Deleted(bool),
    /// To a swap that wrote.
    Swapped,
    /// To a swap that did not: the key, if it exists.
    NotSwapped(Option<Version>),
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It may have happened.
    Unknown,
    /// It happened.
    Done {
        /// The revision in the answer's header: of the change, or the newest one at a read.
        revision: i64,
        /// The rest of the answer.
        reply: Reply,
    },
}

/// One call. Times count from the start of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// The client that made it; a client makes one call at a time.
    pub client: usize,
    /// When it was sent.
    pub began: Duration,
    /// When its answer was there. Means nothing for an unknown outcome; [`Duration::MAX`] if that it happened was learnt
    /// otherwise, so that nobody knows when.
    pub ended: Duration,
    /// Its request.
    pub request: Request,
    /// Its outcome.
    pub outcome: Outcome,
}

/// Calls of several clients, in no order. Clones share them.
#[derive(Clone)]
pub struct History {
    start: Instant,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            calls: Arc::default(),
        }
    }
}

impl History {
    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// The calls recorded so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// A client whose calls are recorded. Give each its own `number`.
    #[must_use]
    pub fn recorder(&self, number: usize, client: Client) -> Recorder {
        Recorder {
            history: self.clone(),
            number,
            client,
        }
    }

    /// Another history, empty, whose times count from the same start.
    #[must_use]
    pub fn beside(&self) -> Self {
        Self {
            start: self.start,
            calls: Arc::default(),
        }
    }

    /// Writes down a write under a lease that was sent at `began`; an answer says at which revision it was done.
    pub fn held(&self, client: usize, began: Duration, write: Request, revision: Option<i64>) {
        let done = |revision| Outcome::Done {
            revision,
            reply: Reply::Put,
        };
        self.add(Call {
            client,
            began,
            ended: self.now(),
            request: write,
            outcome: revision.map_or(Outcome::Unknown, done),
        });
    }

    /// Writes down what a read that was sent at `began` found.
    pub fn found(&self, client: usize, began: Duration, key: &str, answer: &pb::RangeResponse) {
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        let found = answer.kvs.first().map(Version::from);
        self.add(Call {
            client,
            began,
            ended: self.now(),
            request: Request::Get {
                key: key.to_owned(),
                is_serializable: false,
            },
            outcome: Outcome::Done {
                revision,
                reply: Reply::Found(found),
            },
        });
    }

    fn add(&self, call: Call) {
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(call);
    }
}

/// A client that writes down what it does. It makes one call at a time.
pub struct Recorder {
    history: History,
    number: usize,
    client: Client,
}

impl Recorder {
    /// Makes a call and records it; returns the answer's revision with it. `Err` is the status behind an unknown outcome.
    ///
    /// A read without an answer is not recorded: it tells nothing.
    pub async fn call(&mut self, request: Request) -> Result<(i64, Reply), Status> {
        let began = self.history.now();
        let answer = tokio::time::timeout(PATIENCE, ask(&self.client, &request)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("given up")));
        let ended = self.history.now();
        let outcome = match &answer {
            Ok((revision, reply)) => Outcome::Done {
                revision: *revision,
                reply: reply.clone(),
            },
            Err(_) => Outcome::Unknown,
        };
        let is_void = matches!(
            (&request, &outcome),
            (Request::Get { .. }, Outcome::Unknown)
        );
        if !is_void {
            self.history.add(Call {
                client: self.number,
                began,
                ended,
                request,
                outcome,
            });
        }
        answer
    }
}

async fn ask(client: &Client, request: &Request) -> Result<(i64, Reply), Status> {
    let (header, reply) = match request {
        Request::Get {
            key,
            is_serializable,
        } => {
            let request = pb::RangeRequest {
                serializable: *is_serializable,
                ..range(key)
            };
            let answer = client.range(request).await?;
            (
                answer.header,
                Reply::Found(answer.kvs.first().map(Version::from)),
            )
        }
        Request::Put { key, value } => (client.put(put(key, value)).await?.header, Reply::Put),
        Request::Delete { key } => {
            let answer = client.delete(delete(key)).await?;
            (answer.header, Reply::Deleted(answer.deleted > 0))
        }
        Request::Swap {
            key,
            expected,
            value,
        } => {
            let unchanged = compare(
                key,
                CompareResult::Equal,
                TargetUnion::ModRevision(*expected),
            );
            let answer = client
                .txn(txn([unchanged], [op(put(key, value))], [op(range(key))]))
                .await?;
            let reply = if answer.succeeded {
                Reply::Swapped
            } else {
                Reply::NotSwapped(ranged(&answer))
            };
            (answer.header, reply)
        }
    };
    let revision = header
        .map(|header| header.revision)
        .ok_or_else(|| Status::internal("an answer without header"))?;
    Ok((revision, reply))
}

fn ranged(answer: &pb::TxnResponse) -> Option<Version> {
    match answer.responses.first()?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first().map(Version::from),
        Response::ResponsePut(_) | Response::ResponseDeleteRange(_) | Response::ResponseTxn(_) => {
            None
        }
    }
}
