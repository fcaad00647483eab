//! Responses of a watch stream as bytes. One that is too large to be held is written as its events come, which tonic cannot:
//! it writes a message as a whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use coord_proto::etcd::etcdserverpb as pb;
use http::HeaderMap;
use hyper::body::{Body, Frame};
use prost::Message;
use prost::encoding::{encoded_len_varint, key_len};
use tokio::sync::mpsc;
use tonic::Status;
use tonic::codec::{DecodeBuf, Decoder};

use super::super::convert;
use super::said::Said;
use crate::budget::Held;
use crate::command::Event;

/// Compression flag and length in front of every message.
const PREFIX_BYTES: usize = 5;
/// The largest message that gRPC's clients can take, whatever they allow: their limit is an `int`.
pub(super) const MESSAGE_BYTES_MAX: u64 = i32::MAX as u64;
/// `WatchResponse.events`.
const EVENTS_TAG: u32 = 11;

/// Bytes of an event in a response.
pub(super) fn event_bytes(event: &Event, prev_kv: bool) -> u64 {
    let bytes = convert::event(event, prev_kv).encoded_len();
    (key_len(EVENTS_TAG) + encoded_len_varint(bytes as u64) + bytes) as u64
}

/// Reads a request.
pub(super) struct Requests;

impl Decoder for Requests {
    type Item = pb::WatchRequest;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let decoded = pb::WatchRequest::decode(buf);
        decoded
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

/// Writes responses. Knows how much of one that has begun is still to come.
#[derive(Debug, Default)]
pub(super) struct Writer {
    left: u64,
}

impl Writer {
    /// Everything that is said, as bytes.
    ///
    /// Errors: a response that was begun is not as long as was said. The stream must end, its client resumes it.
    pub(super) fn write(&mut self, said: &[Said]) -> Result<Bytes, Status> {
        let messages = said.iter().map(|said| match said {
            Said::Response(response) | Said::Begins { response, .. } => {
                PREFIX_BYTES + response.encoded_len()
            }
            Said::GoesOn(response) => response.encoded_len(),
        });
        let mut out = BytesMut::with_capacity(messages.sum());
        for said in said {
            let (response, whole) = match said {
                Said::Response(response) => (response, Some(response.encoded_len() as u64)),
                Said::Begins { response, bytes } => (response, Some(*bytes)),
                Said::GoesOn(response) => (response, None),
            };
            if let Some(bytes) = whole {
                self.check(self.left == 0)?;
                let Ok(prefix) = u32::try_from(bytes) else {
                    let text = "grpc: trying to send message larger than 4 GiB";
                    return Err(Status::resource_exhausted(text));
                };
                out.put_u8(0);
                out.put_u32(prefix);
                self.left = bytes;
            }
            let bytes = response.encoded_len() as u64;
            self.check(bytes <= self.left)?;
            self.left -= bytes;
            response
                .encode(&mut out)
                .expect("the buffer grows as it is written");
        }
        Ok(out.freeze())
    }

    fn check(&self, is_right: bool) -> Result<(), Status> {
        if !is_right {
            tracing::error!(
                left = self.left,
                "a watch response is not as long as was said"
            );
            return Err(Status::internal("a watch response was cut short"));
        }
        Ok(())
    }
}

/// Bytes of responses, and what they hold; or how the stream ends.
pub(super) type Turn = Result<(Bytes, Held), Status>;

/// The body of a stream's responses, as its client takes them.
pub(super) struct Responses {
    turns: mpsc::Receiver<Turn>,
    has_ended: bool,
    /// The piece that was handed down last, until more is asked for.
    held: Option<Held>,
}

impl Responses {
    pub(super) fn new(turns: mpsc::Receiver<Turn>) -> Self {
        Self {
            turns,
            has_ended: false,
            held: None,
        }
    }
}

impl Body for Responses {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        self.held = None;
        let status = match ready!(self.turns.poll_recv(cx)) {
            Some(Ok((bytes, held))) => {
                self.held = Some(held);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Some(Err(status)) => status,
            None => Status::ok(""),
        };
        self.has_ended = true;
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(
            status
                .add_header(&mut trailers)
                .map(|()| Frame::trailers(trailers)),
        ))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}
