//! The leader's side of log replication and heartbeats.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use coord_proto::peer as wire;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use openraft::raft::{AppendEntriesRequest, StreamAppendResult};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::line::Line;
use super::{convert, leases};
use crate::raft::leases::Carried;
use crate::raft::types::TypeConfig;

type Append = AppendEntriesRequest<TypeConfig>;
type Answer = Result<StreamAppendResult<TypeConfig>, Status>;

/// Requests that may be under way to one peer, and their bytes. openraft sets no bound itself.
const REQUESTS_MAX: usize = 64;
const BYTES_MAX: usize = 8 << 20;

/// What is under way on one call.
#[derive(Default)]
struct Window {
    sent: VecDeque<usize>,
    bytes: usize,
    /// The sender, when it waits for room.
    sender: Option<Waker>,
}

/// The requests of one call: numbered, encoded, and held back while too much is unanswered.
struct Sending<S> {
    input: S,
    window: Arc<Mutex<Window>>,
    number: u64,
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
        self.number += 1;
        let message = convert::append(request, self.number);
        let bytes = message
            .entries
            .iter()
            .map(|entry| entry.payload.len())
            .sum();
        let mut window = self
            .window
            .lock()
            .expect("nothing panics while it holds the lock");
        window.sent.push_back(bytes);
        window.bytes += bytes;
        drop(window);
        Poll::Ready(Some(message))
    }
}

/// Streams requests to a peer as long as `input` has some, and answers in their order.
///
/// Errors, as an item that ends the answers: a peer that stays silent for `patience` although something is unanswered.
pub(super) async fn stream<'s, S>(
    line: &'s Line,
    input: S,
    patience: Duration,
) -> Result<BoxStream<'s, Answer>, Status>
where
    S: Stream<Item = Append> + Send + Unpin + 'static,
{
    let window = Arc::new(Mutex::new(Window::default()));
    let sending = Sending {
        input,
        window: window.clone(),
        number: 0,
    };
    let request = line.request(sending);
    let response = line.client()?.append(request).await?;
    let answers = (response.into_inner(), window);
    let answers = futures::stream::unfold(Some(answers), move |state| async move {
        let (mut incoming, window) = state?;
        let answer = next_answer(&mut incoming, &window, patience).await?;
        let goes_on = matches!(answer, Ok(Ok(_)));
        Some((answer, goes_on.then_some((incoming, window))))
    });
    Ok(answers.boxed())
}

async fn next_answer(
    incoming: &mut Streaming<wire::AppendResponse>,
    window: &Mutex<Window>,
    patience: Duration,
) -> Option<Answer> {
    let message = loop {
        match tokio::time::timeout(patience, incoming.message()).await {
            Ok(message) => break message,
            Err(_) => {
                let window = window
                    .lock()
                    .expect("nothing panics while it holds the lock");
                if !window.sent.is_empty() {
                    return Some(Err(Status::deadline_exceeded("the peer does not answer")));
                }
            }
        }
    };
    match message {
        Ok(Some(message)) => {
            let mut window = window
                .lock()
                .expect("nothing panics while it holds the lock");
            if let Some(bytes) = window.sent.pop_front() {
                window.bytes -= bytes;
            }
            if let Some(sender) = window.sender.take() {
                sender.wake();
            }
            drop(window);
            Some(convert::read_appended(message))
        }
        Ok(None) => None,
        Err(status) => Some(Err(status)),
    }
}

/// A call for heartbeats that stays open: openraft sends each of them, and each read round, as a stream of its own, and
/// a call for each would cost more than the heartbeat.
#[derive(Default)]
pub(super) struct Heartbeats {
    open: Option<Open>,
    number: u64,
}

struct Open {
    requests: mpsc::Sender<wire::AppendRequest>,
    answers: Streaming<wire::AppendResponse>,
}

impl Heartbeats {
    /// One request, one answer. May be dropped half-way: the late answer is skipped by its number.
    ///
    /// Carries what there is to tell the peer about leases.
    pub(super) async fn ask(&mut self, line: &Line, request: Append, carried: &Carried) -> Answer {
        let result = self.exchange(line, request, carried).await;
        if result.is_err() {
            self.open = None;
        }
        result
    }

    async fn exchange(&mut self, line: &Line, request: Append, carried: &Carried) -> Answer {
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
        let mut message = convert::append(request, self.number);
        let leadership = leases::leadership(&message)?;
        let teller = carried.get();
        let news = teller.as_ref().map(|it| it.news(leadership, line.to));
        message.news = news.flatten().map(leases::news);
        let closed = || Status::unavailable("the peer closed the call");
        open.requests.send(message).await.map_err(|_| closed())?;
        loop {
            let answer = open.answers.message().await?.ok_or_else(closed)?;
            if answer.number == self.number {
                if let (Some(teller), Some(receipt)) = (teller, answer.receipt) {
                    teller.receipt(leadership, line.to, leases::read_receipt(receipt));
                }
                return convert::read_appended(answer);
            }
        }
    }
}
