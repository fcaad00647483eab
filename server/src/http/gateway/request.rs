//! From JSON to the messages of a call, in the frames that gRPC would have brought them in.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor};
use tonic::Status;

use super::Place;
use crate::budget::{Held, Share};
use crate::http::bodies::Begun;
use crate::http::prefix::PREFIX_BYTES;
use crate::http::words::{Words, too_large};

/// As JSON a message takes more: bytes a third, small numbers and names several times their size.
const JSON_FACTOR: usize = 2;
/// The mark before the name of a header that is meant for the call.
const FOR_CALLS: &str = "grpc-metadata-";
/// Headers with this beginning are gRPC's own.
const RESERVED: &str = "grpc-";

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where the messages of a call come from.
pub enum Source {
    /// From gRPC, as they are.
    Grpc(Incoming),
    /// From the gateway.
    Json(Box<Requests<Incoming>>),
}

impl Body for Source {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Grpc(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
            Self::Json(body) => Pin::new(body.as_mut()).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Grpc(body) => body.is_end_stream(),
            Self::Json(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Grpc(body) => body.size_hint(),
            Self::Json(_) => SizeHint::default(),
        }
    }
}

/// The headers of a call, of those of its request: who asks, and what is marked for the call.
pub(in crate::http) fn metadata(headers: &HeaderMap) -> HeaderMap {
    let mut metadata = HeaderMap::new();
    for (name, value) in headers {
        if name == header::AUTHORIZATION {
            metadata.append(name, value.clone());
        }
        let marked = name.as_str().strip_prefix(FOR_CALLS);
        if let Some(name) = marked.filter(|name| !name.starts_with(RESERVED))
            && let Ok(name) = HeaderName::from_bytes(name.as_bytes())
        {
            metadata.append(name, value.clone());
        }
    }
    metadata.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    metadata
}

/// The messages in `body`, of at most `bytes_max` each.
pub(in crate::http) fn requests(
    body: Incoming,
    place: &Place,
    bytes_max: usize,
    share: &Arc<Share>,
    words: &'static Words,
) -> Source {
    Source::Json(Box::new(Requests::new(
        body, place, bytes_max, share, words,
    )))
}

/// Messages that come as JSON, one after the other.
pub struct Requests<B> {
    body: B,
    kind: MessageDescriptor,
    is_stream: bool,
    json_bytes_max: usize,
    words: &'static Words,
    /// Received bytes of the value that is to be read next, counted.
    text: BytesMut,
    seen: Seen,
    held: Held,
    /// When it must be there.
    begun: Begun,
    has_ended: bool,
}

impl<B> Requests<B> {
    fn new(
        body: B,
        place: &Place,
        bytes_max: usize,
        share: &Arc<Share>,
        words: &'static Words,
    ) -> Self {
        Self {
            body,
            kind: place.request.clone(),
            is_stream: place.method.client_streaming,
            json_bytes_max: bytes_max * JSON_FACTOR,
            words,
            text: BytesMut::new(),
            seen: Seen::default(),
            held: share.hold_request(),
            begun: Begun::default(),
            has_ended: false,
        }
    }

    /// The next message, if its JSON is all there.
    fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(end) = self.seen.end_of_value(&self.text)? else {
            return Ok(None);
        };
        let value = self.text.split_to(end);
        self.seen = Seen::default();
        self.begun.clear();
        self.has_ended = !self.is_stream;
        let framed = framed(&self.kind, &value)?;
        self.held.set(self.text.len());
        Ok(Some(framed))
    }

    fn take(&mut self, data: &[u8]) -> Result<(), Status> {
        if self.text.len() + data.len() > self.json_bytes_max {
            return Err(too_large(self.text.len() + data.len(), self.json_bytes_max));
        }
        let full = |_| (self.words.too_many)();
        self.held.grow(data.len()).map_err(full)?;
        self.text.extend_from_slice(data);
        Ok(())
    }

    /// Nothing more comes. A call of one message that brings none brings an empty one.
    fn end(&mut self) -> Result<Option<Bytes>, Status> {
        self.has_ended = true;
        if self.seen.has_begun() {
            return Err(Status::invalid_argument("unexpected EOF"));
        }
        let empty = Bytes::from_static(&[0; PREFIX_BYTES]);
        Ok((!self.is_stream).then_some(empty))
    }

    /// Ends the body with an error. A stream ends without one at the first message that cannot be read, as in grpc-gateway.
    fn ended(&mut self, status: Status) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.has_ended = true;
        self.held.set(0);
        self.text = BytesMut::new();
        let is_unread = status.code() == tonic::Code::InvalidArgument;
        match self.is_stream && is_unread {
            true => Poll::Ready(None),
            false => Poll::Ready(Some(Err(status.into()))),
        }
    }
}

impl<B> Body for Requests<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        loop {
            if self.has_ended {
                return Poll::Ready(None);
            }
            match self.next() {
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Ok(None) => {}
                Err(status) => return self.ended(status),
            }
            let Poll::Ready(polled) = Pin::new(&mut self.body).poll_frame(cx) else {
                // A call of one message is timed as a whole.
                if !self.is_stream || !self.seen.has_begun() {
                    return Poll::Pending;
                }
                ready!(self.begun.poll_late(cx));
                let late = (self.words.late)();
                return self.ended(late);
            };
            let taken = match polled.transpose().map_err(Into::<BoxError>::into)? {
                Some(frame) => match frame.into_data() {
                    Ok(data) => self.take(&data).map(|()| None),
                    // Trailers of a request mean nothing.
                    Err(_) => Ok(None),
                },
                None => self.end(),
            };
            match taken {
                Ok(None) => {}
                Ok(Some(message)) => return Poll::Ready(Some(Ok(Frame::data(message)))),
                Err(status) => return self.ended(status),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}

/// A message in the frame that gRPC would have brought it in.
fn framed(kind: &MessageDescriptor, json: &[u8]) -> Result<Bytes, Status> {
    // As etcd: what is not known is not looked at.
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut text = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize_with_options(kind.clone(), &mut text, &options)
        .map_err(|error| Status::invalid_argument(format!("proto: {error}")))?;
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX_BYTES + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    message
        .encode(&mut frame)
        .expect("the buffer has room for the message");
    Ok(frame.freeze())
}

/// The scan of a value so far: each byte is looked at once, however the value is cut.
#[derive(Debug, Default)]
struct Seen {
    bytes: usize,
    depth: usize,
    in_string: bool,
    is_escaped: bool,
}

impl Seen {
    fn has_begun(&self) -> bool {
        self.depth > 0
    }

    /// Where the value ends that `text` begins with, if it is all there.
    ///
    /// Errors: messages are objects, and what begins is none.
    fn end_of_value(&mut self, text: &[u8]) -> Result<Option<usize>, Status> {
        for byte in &text[self.bytes..] {
            self.bytes += 1;
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.in_string => self.is_escaped = true,
                b'"' if self.depth > 0 => self.in_string = !self.in_string,
                _ if self.in_string => {}
                b'{' => self.depth += 1,
                b'[' if self.depth > 0 => self.depth += 1,
                b'}' | b']' if self.depth > 0 => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(Some(self.bytes));
                    }
                }
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ if self.depth > 0 => {}
                other => {
                    let text = format!(
                        "proto: syntax error: unexpected token {}",
                        char::from(*other)
                    );
                    return Err(Status::invalid_argument(text));
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Duration;

    use futures::stream;
    use http_body_util::{BodyExt, StreamBody};

    use super::super::{Found, find};
    use super::*;
    use crate::budget::Budget;

    const BYTES_MAX: usize = 1000;
    const WORDS: &Words = &Words {
        too_many: || Status::resource_exhausted("too many"),
        late: || Status::unavailable("late"),
    };
    /// `{"key":"Zm9v"}` as gRPC brings it.
    const FOO: &[u8] = &[0, 0, 0, 0, 5, 10, 3, b'f', b'o', b'o'];

    fn place(path: &str) -> Place {
        let Found::Place(place) = find(&http::Method::POST, path) else {
            panic!("no {path}")
        };
        place
    }

    async fn read(path: &str, parts: &[&[u8]]) -> Result<Vec<Bytes>, Status> {
        let parts: Vec<_> = parts
            .iter()
            .map(|part| Ok::<_, Infallible>(Frame::data(Bytes::copy_from_slice(part))))
            .collect();
        let body = StreamBody::new(stream::iter(parts));
        let budget = Budget::default();
        let mut requests = Requests::new(body, &place(path), BYTES_MAX, &budget.share(), WORDS);
        let mut messages = Vec::new();
        while let Some(frame) = requests.frame().await {
            let frame = frame.map_err(|error| *error.downcast::<Status>().unwrap())?;
            messages.push(frame.into_data().unwrap());
        }
        drop(requests);
        assert_eq!(budget.held_bytes(), 0);
        Ok(messages)
    }

    #[tokio::test]
    async fn one_message_is_read_however_it_was_cut_and_what_follows_is_not() {
        let json = br#" {"key":"Zm9v","nope":["}\"",{}]} {"key":"YQ=="}"#;
        for cut in 0..=json.len() {
            let (one, two) = json.split_at(cut);
            let messages = read("/v3/kv/range", &[one, two]).await.unwrap();
            assert_eq!(messages, [FOO], "cut at {cut}");
        }
        let empty = read("/v3/kv/range", &[]).await.unwrap();
        assert_eq!(empty, [vec![0; 5]]);
    }

    #[tokio::test]
    async fn a_stream_is_read_until_something_is_no_message() {
        let json = br#"{"ID":"7"}{"ID":7} {}nonsense{"ID":7}"#;
        let messages = read("/v3/lease/keepalive", &[json]).await.unwrap();
        let seven = Bytes::from_static(&[0, 0, 0, 0, 2, 8, 7]);
        assert_eq!(
            messages,
            [seven.clone(), seven, Bytes::from_static(&[0; 5])]
        );
        assert!(read("/v3/watch", &[]).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn what_is_no_message_is_an_invalid_argument() {
        for json in [
            "{\"key\":",
            "{\"key\":5}",
            "{\"key\":\"!!\"}",
            "{\"limit\":\"x\"}",
            "{\"key\":\"\",]",
            "[]",
            "null",
            "}",
        ] {
            let status = read("/v3/kv/range", &[json.as_bytes()]).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{json}");
        }
        let deep = "{\"success\":[{\"requestTxn\":".repeat(1000);
        let text = format!("{deep}{{}}{}", "}]}".repeat(1000));
        let long = " ".repeat(BYTES_MAX * JSON_FACTOR + 1);
        for json in [text, long] {
            let status = read("/v3/kv/txn", &[json.as_bytes()]).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        }
    }

    #[test]
    fn a_message_that_is_too_deep_is_refused() {
        let deep = "{\"success\":[{\"requestTxn\":".repeat(100_000);
        let refused = framed(&place("/v3/kv/txn").request, deep.as_bytes()).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_of_a_stream_that_does_not_come_whole_is_given_up() {
        let begun = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"{")))]);
        let body = StreamBody::new(futures::StreamExt::chain(begun, stream::pending()));
        let share = Budget::default().share();
        let mut requests = Requests::new(body, &place("/v3/watch"), BYTES_MAX, &share, WORDS);
        let hour = tokio::time::timeout(Duration::from_secs(3600), requests.frame());
        let error = hour.await.unwrap().unwrap().unwrap_err();
        assert_eq!(error.downcast::<Status>().unwrap().message(), "late");
    }

    #[test]
    fn a_call_hears_who_asks_and_what_is_marked_for_it() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "abc"),
            ("grpc-metadata-hasleader", "true"),
            ("grpc-metadata-grpc-encoding", "gzip"),
            ("grpc-encoding", "gzip"),
            ("token", "not so"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let metadata = metadata(&headers);
        assert_eq!(metadata["authorization"], "abc");
        assert_eq!(metadata["hasleader"], "true");
        assert_eq!(metadata.len(), 3);
    }
}
