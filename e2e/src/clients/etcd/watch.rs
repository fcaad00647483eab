//! A watch stream: requests go out as given, responses come in as sent.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::mvccpb::Event;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

/// An event that takes longer on a busy machine is lost.
const PATIENCE: Duration = Duration::from_secs(20);

/// One watch stream, which carries any number of watchers. Dropping it ends it.
pub struct Watch {
    /// Gone when the client has said all.
    requests: Option<mpsc::UnboundedSender<pb::WatchRequest>>,
    responses: Responses,
    /// Read past while waiting for the answer to a create request.
    passed: VecDeque<pb::WatchResponse>,
}

/// A server may answer the call itself only with its first message.
#[expect(clippy::large_enum_variant, reason = "one per stream of a test")]
enum Responses {
    Opening(JoinHandle<Result<Response<Streaming<pb::WatchResponse>>, Status>>),
    Open(Streaming<pb::WatchResponse>),
}

impl Watch {
    pub(super) fn open(channel: Channel) -> Self {
        let (requests, receiver) = mpsc::unbounded_channel();
        let opening = tokio::spawn(async move {
            WatchClient::new(channel)
                .max_decoding_message_size(super::MESSAGE_BYTES_MAX)
                .watch(UnboundedReceiverStream::new(receiver))
                .await
        });
        Self {
            requests: Some(requests),
            responses: Responses::Opening(opening),
            passed: VecDeque::new(),
        }
    }

    /// Sends a request.
    pub fn send(&self, request: RequestUnion) {
        if let Some(requests) = &self.requests {
            // Fails once the stream has ended, which the next response tells better.
            let _ = requests.send(pb::WatchRequest {
                request_union: Some(request),
            });
        }
    }

    /// Closes the client's side: it asks for nothing more, and goes on listening.
    pub fn close_requests(&mut self) {
        self.requests = None;
    }

    /// Creates a watcher and returns the answer to it. Events of others that come before are kept for later.
    pub async fn create(&mut self, request: pb::WatchCreateRequest) -> Result<pb::WatchResponse> {
        self.send(RequestUnion::CreateRequest(request));
        let mut earlier = VecDeque::new();
        let answer = loop {
            let response = self.next().await?;
            if response.created {
                break response;
            }
            earlier.push_back(response);
        };
        earlier.append(&mut self.passed);
        self.passed = earlier;
        Ok(answer)
    }

    /// Asks to cancel a watcher.
    pub fn cancel(&self, watch_id: i64) {
        self.send(RequestUnion::CancelRequest(pb::WatchCancelRequest {
            watch_id,
        }));
    }

    /// Asks for progress.
    pub fn request_progress(&self) {
        self.send(RequestUnion::ProgressRequest(pb::WatchProgressRequest {}));
    }

    /// The next response. Errors: none came in time, or the stream ended.
    pub async fn next(&mut self) -> Result<pb::WatchResponse> {
        self.within(PATIENCE).await?.context("no response in time")
    }

    /// The next response that comes within `limit`.
    pub async fn within(&mut self, limit: Duration) -> Result<Option<pb::WatchResponse>> {
        match tokio::time::timeout(limit, self.receive()).await {
            Ok(response) => response.map(Some),
            Err(_) => Ok(None),
        }
    }

    /// The next `count` events, of whichever watcher.
    pub async fn events(&mut self, count: usize) -> Result<Vec<Event>> {
        let events = self.events_at_least(count).await?;
        ensure!(
            events.len() == count,
            "{} events where {count} were expected: {events:?}",
            events.len()
        );
        Ok(events)
    }

    /// The events of whole responses until there are `count` or more.
    pub async fn events_at_least(&mut self, count: usize) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while events.len() < count {
            let response = self
                .next()
                .await
                .with_context(|| format!("after {} of {count} events", events.len()))?;
            if response.canceled {
                bail!("the watch was cancelled: {response:?}");
            }
            events.extend(response.events);
        }
        Ok(events)
    }

    async fn receive(&mut self) -> Result<pb::WatchResponse> {
        if let Some(response) = self.passed.pop_front() {
            return Ok(response);
        }
        if let Responses::Opening(opening) = &mut self.responses {
            let opened = opening.await.context("the call's task died")??;
            self.responses = Responses::Open(opened.into_inner());
        }
        match &mut self.responses {
            Responses::Open(stream) => Ok(stream
                .message()
                .await?
                .context("the server ended the stream")?),
            Responses::Opening(_) => unreachable!("opened above"),
        }
    }
}
