//! The leader's side of log replication and heartbeats.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use coord_proto::peer as wire;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendError, StreamAppendResult};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::line::Line;
use super::whole::is_whole;
use super::{convert, sideband};
use crate::clock::Moment;
use crate::command::{LeaderKey, MemberId};
use crate::metrics::PeerTraffic;
use crate::raft::agreement::Agreement;
use crate::raft::remembered::Remembered;
use crate::raft::sideband::Outbox;
use crate::raft::types::TypeConfig;
use crate::state;
use crate::wal::Wal;

type Append = AppendEntriesRequest<TypeConfig>;
type Answer = Result<StreamAppendResult<TypeConfig>, Status>;

/// Requests that may be under way to one peer, and their bytes. openraft sets no bound itself.
const REQUESTS_MAX: usize = 64;
const BYTES_MAX: usize = 8 << 20;
/// One large entry may be more, and takes its time on the wire and on the peer's disk: bytes a second of a poor link.
const LARGE_BYTES_A_SECOND: usize = 4 << 20;

/// The requests under way on one call.
struct Window {
    sent: VecDeque<usize>,
    bytes: usize,
    /// The last answer, or the first request after all were answered.
    waits_since: Moment,
    /// The sender, when it waits for room.
    sender: Option<Waker>,
    /// A request had a gap, and nothing was sent from it on.
    has_gap: bool,
    /// The leadership that sends.
    leadership: Option<LeaderKey>,
}

impl Window {
    fn new() -> Self {
        Self {
            sent: VecDeque::new(),
            bytes: 0,
            waits_since: Moment::now(),
            sender: None,
            has_gap: false,
            leadership: None,
        }
    }

    fn push(&mut self, bytes: usize) {
        if self.sent.is_empty() {
            self.waits_since = Moment::now();
        }
        self.sent.push_back(bytes);
        self.bytes += bytes;
    }

    /// How much longer the peer may be silent, if it may for `patience` at what is usually under way.
    fn left_of(&self, patience: Duration) -> Duration {
        if self.sent.is_empty() {
            return patience;
        }
        let more = self.bytes.saturating_sub(BYTES_MAX) / LARGE_BYTES_A_SECOND;
        let patience = patience + Duration::from_secs(more as u64);
        patience.saturating_sub(Moment::now().since(self.waits_since))
    }
}

/// The requests of one call: numbered, encoded, and held back while too much is unanswered.
struct Sending<S> {
    input: S,
    window: Arc<Mutex<Window>>,
    number: u64,
    /// Asked only for the level that entries are written for.
    state: state::Handle,
    counted: PeerTraffic,
}

impl<S: Stream<Item = Append> + Unpin> Stream for Sending<S> {
    type Item = wire::AppendRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        {
            let mut window = self
                .window
                .lock()
                .expect("nothing panics while it holds the lock");
            if window.sent.len() >= REQUESTS_MAX || window.bytes >= BYTES_MAX {
                window.sender = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let Some(request) = std::task::ready!(self.input.poll_next_unpin(cx)) else {
            return Poll::Ready(None);
        };
        if !is_whole(&request) {
            self.window
                .lock()
                .expect("nothing panics while it holds the lock")
                .has_gap = true;
            return Poll::Ready(None);
        }
        self.number += 1;
        let message = convert::append(request, self.number, self.state.feature_level());
        self.counted.sent_bytes.inc_by(message.encoded_len() as u64);
        let bytes = message
            .entries
            .iter()
            .map(|entry| entry.payload.len())
            .sum();
        let mut window = self
            .window
            .lock()
            .expect("nothing panics while it holds the lock");
        let vote = message.vote.as_ref();
        window.leadership = vote.map(|vote| (vote.term, MemberId(vote.leader)));
        window.push(bytes);
        drop(window);
        Poll::Ready(Some(message))
    }
}

/// Streams requests to a peer as long as `input` has some, and answers in their order.
///
/// Errors, as an item that ends the answers: a peer that stays silent for `patience` although something is unanswered; after
/// the answers to all before it, a request that is not whole, so that openraft decides anew what the peer needs.
pub(super) async fn stream<'s, S>(
    line: &'s Line,
    input: S,
    patience: Duration,
    remembered: Remembered,
) -> Result<BoxStream<'s, Answer>, Status>
where
    S: Stream<Item = Append> + Send + Unpin + 'static,
{
    let window = Arc::new(Mutex::new(Window::new()));
    let sending = Sending {
        input,
        window: window.clone(),
        number: 0,
        state: line.members.clone(),
        counted: line.counted.clone(),
    };
    let request = line.request(sending);
    let response = line.client()?.append(request).await?;
    let (to, counted) = (line.to, &line.counted);
    let answers = (response.into_inner(), window);
    let answers = futures::stream::unfold(Some(answers), move |state| {
        let remembered = remembered.clone();
        async move {
            let (mut incoming, window) = state?;
            let answer = next_answer(&mut incoming, &window, patience, counted).await?;
            let answer = match leadership(&window) {
                Some(leadership) => noted(&remembered, to, leadership, answer),
                None => answer,
            };
            let goes_on = matches!(answer, Ok(Ok(_)));
            Some((answer, goes_on.then_some((incoming, window))))
        }
    });
    Ok(answers.boxed())
}

/// Notes what a member acknowledged, and withholds from openraft that it lacks something that it had acknowledged: openraft
/// would take its word that a member forgets nothing, and break.
fn noted(remembered: &Remembered, to: MemberId, leadership: LeaderKey, answer: Answer) -> Answer {
    match &answer {
        Ok(Ok(Some(matched))) => {
            remembered.acknowledged(to, leadership, matched.index);
            answer
        }
        Ok(Err(StreamAppendError::Conflict(at)))
            if remembered.has_acknowledged(to, leadership, at.index) =>
        {
            Err(Status::data_loss(format!(
                "it no longer has entry {}, which it has acknowledged: its disk was put back from an older copy; remove it \
                 from the cluster, add it again and start it with an empty one",
                at.index
            )))
        }
        Ok(_) | Err(_) => answer,
    }
}

fn leadership(window: &Mutex<Window>) -> Option<LeaderKey> {
    window
        .lock()
        .expect("nothing panics while it holds the lock")
        .leadership
}

async fn next_answer(
    incoming: &mut Streaming<wire::AppendResponse>,
    window: &Mutex<Window>,
    patience: Duration,
    counted: &PeerTraffic,
) -> Option<Answer> {
    let mut wait = patience;
    let message = loop {
        match tokio::time::timeout(wait, incoming.message()).await {
            Ok(message) => break message,
            Err(_) => {
                let window = window
                    .lock()
                    .expect("nothing panics while it holds the lock");
                wait = window.left_of(patience);
                if wait.is_zero() {
                    return Some(Err(Status::deadline_exceeded("the peer does not answer")));
                }
            }
        }
    };
    match message {
        Ok(Some(message)) => {
            counted.received_bytes.inc_by(message.encoded_len() as u64);
            let mut window = window
                .lock()
                .expect("nothing panics while it holds the lock");
            if let Some(bytes) = window.sent.pop_front() {
                window.bytes -= bytes;
            }
            window.waits_since = Moment::now();
            if let Some(sender) = window.sender.take() {
                sender.wake();
            }
            drop(window);
            Some(convert::read_appended(message))
        }
        Ok(None) => {
            let window = window
                .lock()
                .expect("nothing panics while it holds the lock");
            let gap = || Err(Status::unavailable("entries that it needs are gone"));
            window.has_gap.then(gap)
        }
        Err(status) => Some(Err(status)),
    }
}

/// The bytes that heartbeats bring beside themselves, and the facts learnt from their answers.
#[derive(Clone, Copy)]
pub(super) struct Beside<'a> {
    pub(super) outbox: &'a Outbox,
    pub(super) agreement: &'a Agreement,
    pub(super) remembered: &'a Remembered,
    pub(super) wal: &'a Wal,
}

/// In the header of a refusal: the member has applied what is not in this leader's log, and ends.
pub(super) const REFUSES: &str = "coord-refuses";

/// A call for heartbeats that stays open: openraft sends each of them, and each read round, as a stream of its own, and
/// a call for each would cost more than the heartbeat.
#[derive(Default)]
pub(super) struct Heartbeats {
    open: Option<Open>,
    number: u64,
    /// Since when nothing was answered.
    silent_since: Option<Moment>,
}

struct Open {
    requests: mpsc::Sender<wire::AppendRequest>,
    answers: Streaming<wire::AppendResponse>,
}

impl Heartbeats {
    /// One request, one answer. May be dropped half-way: the late answer is skipped by its number.
    ///
    /// Carries what other rooms have to say to the peer, and what was applied here. A call that brought no answer for
    /// `patience` is given up: its connection may be dead without a word.
    pub(super) async fn ask(
        &mut self,
        line: &Line,
        request: Append,
        beside: Beside<'_>,
        has_quorum: bool,
        patience: Duration,
    ) -> Answer {
        let silent_since = *self.silent_since.get_or_insert_with(Moment::now);
        if Moment::now().since(silent_since) >= patience {
            self.open = None;
            self.silent_since = None;
            line.failed(&Status::deadline_exceeded("the peer answers no heartbeat"));
        }
        let result = self.exchange(line, request, beside, has_quorum).await;
        if result.is_err() {
            self.open = None;
        }
        self.silent_since = None;
        result
    }

    async fn exchange(
        &mut self,
        line: &Line,
        request: Append,
        beside: Beside<'_>,
        has_quorum: bool,
    ) -> Answer {
        let Beside {
            outbox,
            agreement,
            remembered,
            wal,
        } = beside;
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                // One is under way at a time, a late one may still be ahead of it.
                let (requests, outgoing) = mpsc::channel(4);
                let call = line.request(ReceiverStream::new(outgoing));
                let answers = line.client()?.heartbeat(call).await?.into_inner();
                self.open.insert(Open { requests, answers })
            }
        };
        self.number += 1;
        let mut message = convert::append(request, self.number, line.members.feature_level());
        message.without_quorum = !has_quorum;
        let leadership = convert::leadership(&message)?;
        let carried = outbox.carried(leadership, line.to);
        message.sideband = carried.as_ref().map(sideband::carried);
        message.applied = agreement.newest().map(convert::applied_hash);
        message.durable = wal.durable_end();
        let closed = || Status::unavailable("the peer closed the call");
        line.counted.sent_bytes.inc_by(message.encoded_len() as u64);
        let began = Moment::now();
        open.requests.send(message).await.map_err(|_| closed())?;
        loop {
            let answer = open.answers.message().await.inspect_err(|status| {
                if status.metadata().contains_key(REFUSES) {
                    agreement.refuses(leadership, line.to);
                }
            });
            let mut answer = answer?.ok_or_else(closed)?;
            let bytes = answer.encoded_len() as u64;
            line.counted.received_bytes.inc_by(bytes);
            if answer.number == self.number {
                let took = Moment::now().since(began);
                let round_trips = &line.counted.round_trip_seconds;
                round_trips.observe(took.as_secs_f64());
                if let (Some(carried), Some(said)) = (carried, answer.sideband.take()) {
                    outbox.answered(leadership, line.to, &carried, said.body);
                }
                if let Some(theirs) = &answer.applied {
                    agreement.differs(leadership, line.to, convert::read_applied_hash(theirs));
                }
                let answer = convert::read_appended(answer);
                return noted(remembered, line.to, leadership, answer);
            }
        }
    }
}

#[cfg(test)]
mod tests;
