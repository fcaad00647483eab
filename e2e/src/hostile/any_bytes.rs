//! gRPC calls whose requests are any bytes, by a well-behaved client.

use bytes::{Buf, BufMut, Bytes};
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// Calls `path` with one request of these bytes; the answer as it came.
pub async fn call(
    channel: Channel,
    path: &str,
    request: impl Into<Bytes>,
) -> Result<Bytes, Status> {
    call_with(channel, path, Request::new(request.into())).await
}

/// As [`call`], with headers.
pub async fn call_with(
    channel: Channel,
    path: &str,
    request: Request<Bytes>,
) -> Result<Bytes, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::try_from(path)
        .map_err(|error| Status::internal(format!("{path}: {error}")))?;
    Ok(grpc.unary(request, path, AnyBytes).await?.into_inner())
}

/// Bytes as they are.
#[derive(Clone, Copy, Debug, Default)]
pub struct AnyBytes;

impl Codec for AnyBytes {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for AnyBytes {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for AnyBytes {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
