//! gRPC's reflection: which services there are and what their messages hold, for programs such as grpcurl that were built
//! without the definitions. It tells what is published anyway, so nobody has to say who asks.

use std::convert::Infallible;

use http::Response;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Service;
use tonic_reflection::server::{Builder, Error};

use super::check::STREAM_REQUEST_BYTES_MAX;
use crate::http::GrpcRequest;

/// `grpc.reflection.v1.ServerReflection`.
pub(super) async fn v1(request: GrpcRequest) -> Result<Response<Body>, Infallible> {
    // Made for each call: who asks is a person, and its tables are larger than an idle member should be.
    match builder().build_v1() {
        Ok(service) => {
            let mut service = service.max_decoding_message_size(STREAM_REQUEST_BYTES_MAX);
            service.call(request).await
        }
        Err(error) => Ok(unreadable(&error)),
    }
}

/// `grpc.reflection.v1alpha.ServerReflection`: the same by an older name.
pub(super) async fn v1alpha(request: GrpcRequest) -> Result<Response<Body>, Infallible> {
    match builder().build_v1alpha() {
        Ok(service) => {
            let mut service = service.max_decoding_message_size(STREAM_REQUEST_BYTES_MAX);
            service.call(request).await
        }
        Err(error) => Ok(unreadable(&error)),
    }
}

fn builder() -> Builder<'static> {
    Builder::configure().register_encoded_file_descriptor_set(coord_proto::DESCRIPTORS)
}

fn unreadable(error: &Error) -> Response<Body> {
    Status::internal(format!("the definitions cannot be read: {error}")).into_http()
}
