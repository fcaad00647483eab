//! The one ordered stream from a member to the leader: proposals, read rounds, questions of other rooms.
//!
//! Nothing leaves before the leader has taken the call. HTTP/2 carries a request's body before the answer to it begins, so
//! without this a batch could be in the leader's log although the caller never heard of the call again, and be proposed a
//! second time:
//!
//! ```text
//! F ── batch ──▶ L            L appends it, a quorum has it, the client is answered
//! F ◀─ lost ──── L            the way back is cut before the answer begins
//! F: "never taken" ── batch ──▶ L    a second entry, over a write in between
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use coord_proto::peer as wire;
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;

use super::line::{Line, Peers, Purpose};
use super::{convert, sideband};
use crate::command::{LeaderKey, MemberId, Unavailable};
use crate::failpoints::{self, Bug};
use crate::raft::sideband::Kind;
use wire::forward_request::Ask;
use wire::forward_response::Answer;

/// Why something that was forwarded will not be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::raft) enum Lost {
    /// No byte of it left, or the leader refused it: nothing of it was done.
    Undone(Unavailable),
    /// Nobody knows what became of it.
    Unknown,
}

impl From<Lost> for Unavailable {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Undone(why) => why,
            Lost::Unknown => Self::LeaderChanged,
        }
    }
}

type Reply = oneshot::Sender<Result<Answer, Lost>>;

#[derive(Default)]
struct Waiting {
    replies: HashMap<u64, Reply>,
    /// Whether the leader has taken the call. Set before anything leaves.
    connected: bool,
    closed: bool,
}

/// One stream, for one leadership.
struct Open {
    key: LeaderKey,
    requests: mpsc::UnboundedSender<wire::ForwardRequest>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Inner {
    open: Option<Open>,
    number: u64,
}

/// Speaks to the leader of the moment. Clones share the stream. The requests under way are bounded by their askers:
/// two batches of proposals, one read round, one round of renewals.
#[derive(Clone)]
pub(in crate::raft) struct LeaderLink {
    peers: Peers,
    /// Peer URLs of a member.
    urls: Arc<dyn Fn(MemberId) -> Vec<String> + Send + Sync>,
    inner: Arc<Mutex<Inner>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex
        .lock()
        .expect("nothing panics while it holds the lock")
}

impl LeaderLink {
    pub(in crate::raft) fn new(
        peers: Peers,
        urls: Arc<dyn Fn(MemberId) -> Vec<String> + Send + Sync>,
    ) -> Self {
        Self {
            peers,
            urls,
            inner: Arc::default(),
        }
    }

    /// Sends an encoded batch. Resolves only if it is lost.
    pub(in crate::raft) fn propose(
        &self,
        key: LeaderKey,
        envelope: Bytes,
    ) -> impl Future<Output = Lost> + Send + 'static {
        let (term, leader) = (key.0, key.1.0);
        let reply = self.ask(
            key,
            Ask::Proposals(wire::Proposals {
                term,
                leader,
                envelope,
            }),
        );
        async move {
            match reply.await {
                Ok(Err(lost)) => lost,
                Ok(Ok(_)) | Err(_) => Lost::Unknown,
            }
        }
    }

    /// Asks the leader for a read round.
    pub(in crate::raft) async fn read_index(&self, key: LeaderKey) -> Result<u64, Unavailable> {
        match self.answer(key, Ask::ReadIndex(wire::ReadIndex {})).await? {
            Answer::ReadIndex(index) => Ok(index),
            _ => Err(Unavailable::Timeout),
        }
    }

    /// Asks the room of this kind on the leader.
    pub(in crate::raft) async fn sideband(
        &self,
        key: LeaderKey,
        kind: Kind,
        body: Bytes,
    ) -> Result<Bytes, Unavailable> {
        let ask = Ask::Sideband(sideband::bytes(kind, body));
        match self.answer(key, ask).await? {
            Answer::Sideband(said) => Ok(said.body),
            _ => Err(Unavailable::Timeout),
        }
    }

    async fn answer(&self, key: LeaderKey, ask: Ask) -> Result<Answer, Unavailable> {
        let reply = self.ask(key, ask).await;
        Ok(reply.map_err(|_| Unavailable::LeaderChanged)??)
    }

    fn ask(&self, key: LeaderKey, ask: Ask) -> oneshot::Receiver<Result<Answer, Lost>> {
        let (reply, answer) = oneshot::channel();
        let mut inner = lock(&self.inner);
        inner.number += 1;
        let number = inner.number;
        let is_open = |open: &Open| open.key == key && !lock(&open.waiting).closed;
        if !inner.open.as_ref().is_some_and(is_open) {
            inner.open = Some(self.open(key));
        }
        let open = inner.open.as_ref().expect("it was just opened");
        let mut waiting = lock(&open.waiting);
        if waiting.closed {
            // It closed between the two looks; nothing was sent.
            let _ = reply.send(Err(Lost::Undone(Unavailable::LeaderChanged)));
            return answer;
        }
        // Batches that were taken are never answered: forget those whose sender has.
        waiting.replies.retain(|_, reply| !reply.is_closed());
        waiting.replies.insert(number, reply);
        // Cannot fail while it is not closed.
        let _ = open.requests.send(wire::ForwardRequest {
            number,
            ask: Some(ask),
        });
        answer
    }

    /// Opens a stream and starts the task that reads its answers; the task ends with the stream, and the stream when a
    /// newer one takes its place.
    fn open(&self, key: LeaderKey) -> Open {
        let (requests, outgoing) = mpsc::unbounded_channel();
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let line = self.peers.line(key.1, &(self.urls)(key.1), Purpose::Log);
        let shared = waiting.clone();
        tokio::spawn(async move {
            let ended = run(&line, outgoing, &shared).await;
            if let Err(status) = &ended {
                tracing::debug!(leader = %line.to, %status, "the stream to the leader ended");
                line.failed(status);
            }
            let mut waiting = lock(&shared);
            waiting.closed = true;
            let lost = match waiting.connected {
                true => Lost::Unknown,
                false => Lost::Undone(Unavailable::NoLeader),
            };
            for (_, reply) in waiting.replies.drain() {
                // The asker may have gone.
                let _ = reply.send(Err(lost));
            }
        });
        Open {
            key,
            requests,
            waiting,
        }
    }
}

async fn run(
    line: &Line,
    outgoing: mpsc::UnboundedReceiver<wire::ForwardRequest>,
    waiting: &Mutex<Waiting>,
) -> Result<(), Status> {
    let (taken, is_taken) = oneshot::channel();
    let counted = line.counted.clone();
    let outgoing = held_back(outgoing, is_taken)
        .inspect(move |ask| counted.sent_bytes.inc_by(ask.encoded_len() as u64));
    let call = line.request(outgoing);
    let mut answers = line.client()?.forward(call).await?.into_inner();
    // In this order: a batch that has left is never again called undone.
    lock(waiting).connected = true;
    // The call may have ended already; then nothing leaves.
    let _ = taken.send(());
    while let Some(response) = answers.message().await? {
        let reply = lock(waiting).replies.remove(&response.number);
        let (Some(reply), Some(answer)) = (reply, response.answer) else {
            continue;
        };
        let answer = match answer {
            Answer::Refused(why) => {
                let why = wire::Unavailable::try_from(why).unwrap_or(wire::Unavailable::Unknown);
                Err(Lost::Undone(convert::read_unavailable(why)))
            }
            answer => Ok(answer),
        };
        // The asker may have gone.
        let _ = reply.send(answer);
    }
    Ok(())
}

/// The messages, none before the word that the call is taken, and none at all if that never comes.
fn held_back(
    outgoing: mpsc::UnboundedReceiver<wire::ForwardRequest>,
    is_taken: oneshot::Receiver<()>,
) -> impl Stream<Item = wire::ForwardRequest> + Send + 'static {
    let messages = UnboundedReceiverStream::new(outgoing);
    if failpoints::has(Bug::ForwardedTwice) {
        return messages.left_stream();
    }
    let opened = is_taken.map(move |taken| match taken {
        Ok(()) => messages.left_stream(),
        Err(_) => futures::stream::empty().right_stream(),
    });
    opened.flatten_stream().right_stream()
}

#[cfg(test)]
mod tests;
