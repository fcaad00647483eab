use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use prost::Message;

use super::CallError;
use super::error::check_status;
use super::frame::{self, Inbox};

/// The client's half of a stream. The stream is reset when both halves are dropped.
pub struct Outgoing(SendStream<Bytes>);

impl Outgoing {
    pub(super) fn new(stream: SendStream<Bytes>) -> Self {
        Self(stream)
    }

    /// Sends one message; it is buffered when the window is full.
    pub fn send(&mut self, message: &impl Message) -> Result<(), CallError> {
        Ok(self.0.send_data(frame::encode(message), false)?)
    }
}

/// The server's half of a stream.
pub struct Incoming {
    state: State,
    inbox: Inbox,
}

enum State {
    /// No headers yet.
    Opening(ResponseFuture),
    /// Messages are coming.
    Open(RecvStream),
}

impl Incoming {
    pub(super) fn new(response: ResponseFuture) -> Self {
        Self {
            state: State::Opening(response),
            inbox: Inbox::default(),
        }
    }

    /// The next message as bytes; `None` after the last one.
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(message) = self.inbox.pop()? {
                return Ok(Some(message));
            }
            let body = match &mut self.state {
                State::Open(body) => body,
                State::Opening(response) => {
                    let (parts, body) = response.await?.into_parts();
                    check_status(&parts.headers)?;
                    self.state = State::Open(body);
                    continue;
                }
            };
            match body.data().await {
                Some(bytes) => {
                    let bytes = bytes?;
                    body.flow_control().release_capacity(bytes.len())?;
                    self.inbox.push(&bytes);
                }
                None => {
                    if let Some(trailers) = body.trailers().await? {
                        check_status(&trailers)?;
                    }
                    return Ok(None);
                }
            }
        }
    }

    /// The next message decoded; the end of the stream is an error.
    pub async fn expect<M: Message + Default>(&mut self) -> Result<M, CallError> {
        let bytes = self
            .next()
            .await?
            .ok_or(CallError::Malformed("the stream ended"))?;
        M::decode(bytes).map_err(|_| CallError::Malformed("not protobuf"))
    }
}
