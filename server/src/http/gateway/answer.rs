//! From a call's answer to JSON, while it is sent.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, SizeHint};
use tonic::{Code, Status};

use super::Place;
use super::json::{Stopped, Writer};
use crate::budget::Held;
use crate::http::prefix::PREFIX_BYTES;
use crate::http::unary;
use crate::metrics::CountedBody;

/// Bytes written at a time: about a millisecond of work.
const PIECE_BYTES: usize = 64 * 1024;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// grpc-gateway shows the headers of the call, of which this is the only one.
const CALL_TYPE: (HeaderName, HeaderValue) = (
    HeaderName::from_static("grpc-metadata-content-type"),
    HeaderValue::from_static("application/grpc"),
);

type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body that an answer is read from.
type Called = CountedBody<unary::Reply>;
/// An error as JSON.
pub(in crate::http) type JsonError = Response<Full<Bytes>>;

/// A call's answer as JSON: of a call of one message that message, of a stream a line for each.
///
/// Resolves when the first message is there: only then is it known that the call has not failed. `held` counts what waits
/// to be written.
pub(in crate::http) async fn answered(
    response: Response<Called>,
    place: Place,
    held: Arc<Held>,
) -> Response<Either<Answers, Full<Bytes>>> {
    let is_stream = place.method.server_streaming;
    let refused = |status: Status| failed(&status, is_stream).map(Either::Right);
    if let Some(status) = Status::from_header_map(response.headers()) {
        return refused(status);
    }
    let mut answers = Answers {
        body: response.into_body(),
        place,
        input: Bytes::new(),
        writer: None,
        out: BytesMut::new(),
        held,
        is_read: false,
        has_ended: false,
    };
    // Of a stream the first message; of one message all, as it is there as a whole, and what follows says that all is well.
    while !answers.is_read && (!is_stream || answers.input.is_empty()) {
        let frame = answers.body.frame().await;
        if let Err(status) = answers.take(frame) {
            return refused(status);
        }
    }
    let is_silent = answers.input.is_empty();
    if is_silent && !is_stream {
        return refused(Status::internal("the call has no answer"));
    }
    answers.write();
    let mut response = Response::new(Either::Left(answers));
    if !is_silent {
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, JSON);
        headers.insert(CALL_TYPE.0, CALL_TYPE.1);
    }
    response
}

/// The answer to a request that becomes no call.
pub(in crate::http) fn answered_at_once(status: &Status) -> JsonError {
    failed(status, false)
}

fn failed(status: &Status, is_stream: bool) -> JsonError {
    let mut response = Response::new(Full::new(error(status, is_stream)));
    *response.status_mut() = http_status(status.code());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, JSON);
    if status.code() == Code::Unauthenticated
        && let Ok(why) = HeaderValue::from_str(status.message())
    {
        headers.insert(header::WWW_AUTHENTICATE, why);
    }
    response
}

fn error(status: &Status, is_stream: bool) -> Bytes {
    let error =
        serde_json::json!({ "code": i32::from(status.code()), "message": status.message() });
    let text = match is_stream {
        true => format!("{}\n", serde_json::json!({ "error": error })),
        false => error.to_string(),
    };
    text.into()
}

/// The failure that a call's last frame tells of, if it is one.
fn failure(frame: &Frame<Bytes>) -> Option<Status> {
    let status = Status::from_header_map(frame.trailers_ref()?)?;
    (status.code() != Code::Ok).then_some(status)
}

/// Source: grpc-gateway, `HTTPStatusFromCode`.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        // No word of HTTP's; 499 is what proxies use.
        Code::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            StatusCode::BAD_REQUEST
        }
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unknown | Code::Internal | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The body of an answer.
pub struct Answers {
    body: Called,
    place: Place,
    /// Received bytes that no writer has yet.
    input: Bytes,
    writer: Option<Writer>,
    out: BytesMut,
    held: Arc<Held>,
    /// The call has nothing more to say.
    is_read: bool,
    /// Nor is there anything left to be sent.
    has_ended: bool,
}

impl Answers {
    /// Takes a part of what the call says.
    ///
    /// Errors: the call failed.
    fn take<E: Into<BoxError>>(
        &mut self,
        frame: Option<Result<Frame<Bytes>, E>>,
    ) -> Result<(), Status> {
        let Some(frame) = frame else {
            self.is_read = true;
            return Ok(());
        };
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        if let Some(status) = failure(&frame) {
            return Err(status);
        }
        match frame.into_data() {
            Ok(data) => self.feed(data),
            Err(_) => self.is_read = true,
        }
        Ok(())
    }

    fn feed(&mut self, data: Bytes) {
        self.input = match self.input.is_empty() {
            true => data,
            false => [&self.input[..], &data].concat().into(),
        };
        let unwritten = self.writer.as_ref().map_or(0, Writer::unwritten_bytes);
        self.held.set(self.input.len() + unwritten);
    }

    /// Writes a piece, as far as the messages are there.
    fn write(&mut self) {
        let is_full = loop {
            let Some(writer) = &mut self.writer else {
                if self.input.len() < PREFIX_BYTES {
                    break false;
                }
                // Answers are never compressed.
                self.input.advance(1);
                let bytes = self.input.get_u32() as usize;
                self.writer = Some(Writer::new(self.place.response.clone(), bytes));
                self.around("{\"result\":");
                continue;
            };
            writer.feed(&mut self.input);
            match writer.write(&mut self.out, PIECE_BYTES) {
                Ok(Stopped::Full) => break true,
                Ok(Stopped::Starved) => break false,
                Ok(Stopped::Done) => {
                    self.writer = None;
                    self.around("}\n");
                }
                Err(status) => {
                    tracing::error!(%status, method = self.place.method.path, "an answer cannot be written as JSON");
                    self.fail(&status);
                    return;
                }
            }
        };
        if !is_full && self.input.is_empty() && self.writer.is_none() {
            self.held.set(0);
        }
    }

    /// Writes the text around each message of a stream.
    fn around(&mut self, text: &str) {
        if self.place.method.server_streaming {
            self.out.extend_from_slice(text.as_bytes());
        }
    }

    fn fail(&mut self, status: &Status) {
        self.is_read = true;
        self.input = Bytes::new();
        self.writer = None;
        self.out.extend_from_slice(&error(status, true));
    }

    /// Whether all that came is written.
    fn is_written(&self) -> bool {
        self.input.is_empty() && self.writer.is_none()
    }
}

impl Body for Answers {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        loop {
            this.write();
            if !this.out.is_empty() {
                this.has_ended = this.is_read && this.is_written();
                let piece = this.out.split().freeze();
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if this.is_read {
                this.has_ended = true;
                return Poll::Ready(None);
            }
            let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
            if let Err(status) = this.take(frame) {
                this.fail(&status);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }

    /// A small answer is written at once, and so has a length.
    fn size_hint(&self) -> SizeHint {
        match self.is_read && self.is_written() {
            true => SizeHint::with_exact(self.out.len() as u64),
            false => SizeHint::default(),
        }
    }
}
