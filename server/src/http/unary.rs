//! Calls of one message each way, without the layers that streams need.
//!
//! tonic boxes each body, codec and future of a call and gives both directions a buffer of 8 KiB. For the few calls that
//! clients make by the ten thousand a second that is a good part of what they cost. Here a request is decoded out of the
//! frame it arrived in, and the answer encoded once into a buffer of its size. Errors are tonic's own, so that clients
//! cannot tell which way a call went; anything unusual (an encoding, another call) goes tonic's way.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, header::CONTENT_TYPE};
use http_body_util::{BodyExt, Either};
use hyper::body::{Body, Frame};
use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataMap;

use super::prefix::PREFIX_BYTES as PREFIX;
use super::words::too_large;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// An answer, or tonic's body of an error.
pub(super) type Reply = Either<Answer, tonic::body::Body>;

/// Whether the request's message is as it is, and so can be read here.
pub(super) fn is_plain<B>(request: &Request<B>) -> bool {
    let encoding = request.headers().get("grpc-encoding");
    encoding.is_none_or(|encoding| encoding == "identity")
}

/// Reads the one message of a request, of at most `bytes_max`, and answers with what `handle` makes of it.
pub(super) async fn answer<B, M, A, F>(
    request: Request<B>,
    bytes_max: usize,
    handle: impl FnOnce(tonic::Request<M>) -> F,
) -> Response<Reply>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    M: Message + Default,
    A: Message,
    F: Future<Output = Result<tonic::Response<A>, Status>>,
{
    let (parts, body) = request.into_parts();
    let answered = async {
        let message = M::decode(received(body, bytes_max).await?)
            .map_err(|error| Status::internal(error.to_string()))?;
        let metadata = MetadataMap::from_headers(parts.headers);
        let request = tonic::Request::from_parts(metadata, parts.extensions, message);
        let (_, message, extensions) = handle(request).await?.into_parts();
        Ok((framed(&message)?, extensions))
    };
    let answered: Result<_, Status> = answered.await;
    match answered {
        Ok((message, extensions)) => {
            let mut response = Response::new(Either::Left(Answer {
                message: Some(message),
                has_ended: false,
            }));
            *response.extensions_mut() = extensions;
            let kind = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(CONTENT_TYPE, kind);
            response
        }
        Err(status) => status.into_http().map(Either::Right),
    }
}

/// The message of a body, without its prefix. A small one shares the buffer that the connection was read into.
async fn received<B>(mut body: B, bytes_max: usize) -> Result<Bytes, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let Some(first) = next_part(&mut body).await? else {
        return Err(Status::internal("Missing request message."));
    };
    if body.is_end_stream() {
        return unframed(first, bytes_max);
    }
    let mut parts = BytesMut::from(first);
    announced(&parts, bytes_max)?;
    while let Some(part) = next_part(&mut body).await? {
        parts.extend_from_slice(&part);
        announced(&parts, bytes_max)?;
        if parts.len() > PREFIX + bytes_max {
            return Err(too_large(parts.len() - PREFIX, bytes_max));
        }
    }
    unframed(parts.freeze(), bytes_max)
}

/// Refuses a message when it is announced, not when it has come.
fn announced(parts: &[u8], bytes_max: usize) -> Result<(), Status> {
    let Some([_, length @ ..]) = parts.first_chunk::<PREFIX>() else {
        return Ok(());
    };
    let length = u32::from_be_bytes(*length) as usize;
    if length > bytes_max {
        return Err(too_large(length, bytes_max));
    }
    Ok(())
}

async fn next_part<B>(body: &mut B) -> Result<Option<Bytes>, Status>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        // Trailers of a request mean nothing.
        if let Ok(data) = frame.into_data() {
            return Ok(Some(data));
        }
    }
    Ok(None)
}

fn unframed(mut bytes: Bytes, bytes_max: usize) -> Result<Bytes, Status> {
    let cut_short = || Status::internal("Unexpected EOF decoding stream.");
    if bytes.len() < PREFIX {
        return Err(cut_short());
    }
    match bytes.get_u8() {
        0 => {}
        1 => {
            return Err(Status::internal(
                "protocol error: received message with compressed-flag but no grpc-encoding was specified",
            ));
        }
        flag => {
            return Err(Status::internal(format!(
                "protocol error: received message with invalid compression flag: {flag} (valid flags are 0 and 1), \
                 while sending request"
            )));
        }
    }
    let length = bytes.get_u32() as usize;
    if length > bytes_max {
        return Err(too_large(length, bytes_max));
    }
    if length > bytes.len() {
        return Err(cut_short());
    }
    bytes.truncate(length);
    Ok(bytes)
}

fn framed(message: &impl Message) -> Result<Bytes, Status> {
    let length = message.encoded_len();
    let prefix = u32::try_from(length).map_err(|_| {
        Status::resource_exhausted("grpc: trying to send message larger than 4 GiB")
    })?;
    let mut out = BytesMut::with_capacity(PREFIX + length);
    out.put_u8(0);
    out.put_u32(prefix);
    message
        .encode(&mut out)
        .expect("the buffer has room for the message");
    Ok(out.freeze())
}

/// One message, then the status that says all is well.
pub struct Answer {
    message: Option<Bytes>,
    has_ended: bool,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(message) = self.message.take() {
            return Poll::Ready(Some(Ok(Frame::data(message))));
        }
        if std::mem::replace(&mut self.has_ended, true) {
            return Poll::Ready(None);
        }
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http_body_util::StreamBody;

    use super::*;

    const BYTES_MAX: usize = 2 * 1024 * 1024;

    /// Sends `bytes` as parts cut at `cut`, and answers what a handler that gives the text back says to it.
    async fn echoed(bytes: &[u8], cut: usize) -> Result<String, Status> {
        let parts = [&bytes[..cut], &bytes[cut..]].map(Bytes::copy_from_slice);
        let frames = parts.map(|part| Ok::<_, Infallible>(Frame::data(part)));
        let request = Request::new(StreamBody::new(stream::iter(frames)));
        let echo = |request: tonic::Request<String>| async {
            Ok(tonic::Response::new(request.into_inner()))
        };
        let response = answer(request, BYTES_MAX, echo).await;
        if let Some(status) = Status::from_header_map(response.headers()) {
            return Err(status);
        }
        let whole = response.into_body().collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()["grpc-status"], "0");
        let message = unframed(whole.to_bytes(), BYTES_MAX)?;
        Ok(String::decode(message).unwrap())
    }

    #[tokio::test]
    async fn a_message_is_read_however_it_was_cut() {
        let wire = framed(&"some text".to_owned()).unwrap();
        for cut in 0..=wire.len() {
            assert_eq!(
                echoed(&wire, cut).await.unwrap(),
                "some text",
                "cut at {cut}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_no_message_is_refused_as_tonic_does() {
        let code = async |bytes: &[u8]| echoed(bytes, 0).await.unwrap_err();
        let cut_short = "Unexpected EOF decoding stream.";
        assert_eq!(code(b"\0\0\0").await.message(), cut_short);
        assert_eq!(code(b"\0\0\0\0\x05abc").await.message(), cut_short);
        assert!(
            code(b"\x01\0\0\0\0")
                .await
                .message()
                .contains("compressed-flag")
        );
        assert!(code(b"\x07\0\0\0\0").await.message().contains("flag: 7"));
        assert_eq!(
            code(b"\0\0\0\0\x01\xff").await.code(),
            tonic::Code::Internal
        );
        let empty = Request::new(http_body_util::Empty::<Bytes>::new());
        let never = |_: tonic::Request<String>| async { Ok(tonic::Response::new(String::new())) };
        let refused = answer(empty, BYTES_MAX, never).await;
        let refused = Status::from_header_map(refused.headers()).unwrap();
        assert_eq!(refused.message(), "Missing request message.");
    }

    #[tokio::test]
    async fn what_is_too_large_is_refused_however_it_says_so() {
        let largest = "x".repeat(BYTES_MAX - 5);
        let wire = framed(&largest).unwrap();
        assert!(echoed(&wire, 10).await.is_ok());
        let larger = framed(&(largest + "xx")).unwrap();
        for cut in [0, 10, larger.len()] {
            let status = echoed(&larger, cut).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::ResourceExhausted);
            assert_eq!(
                status.message(),
                format!(
                    "grpc: received message larger than max ({} vs. 2097152)",
                    larger.len() - PREFIX
                )
            );
        }
        let claimed = [b"\0\xff\xff\xff\xff".as_slice(), b"x"].concat();
        assert_eq!(
            echoed(&claimed, 2).await.unwrap_err().code(),
            tonic::Code::ResourceExhausted
        );
    }
}
