//! The gRPC server for peers' calls: which of them may be large.

use std::convert::Infallible;
use std::task::{Context, Poll};

use coord_proto::peer::peer_server::{PeerServer, SERVICE_NAME};
use tonic::body::Body;
use tonic::codegen::{self, BoxFuture, StdError, http};

use super::{MESSAGE_BYTES_MAX, SMALL_MESSAGE_BYTES_MAX, Service};

/// Calls that carry entries or rows. All are streams, whose caller is known before a message of it is read.
const LARGE: [&str; 4] = ["Append", "Forward", "Snapshot", "Fetch"];

/// The service, with a bound on messages for each call.
#[derive(Clone)]
pub(in crate::raft) struct Server {
    large: PeerServer<Service>,
    small: PeerServer<Service>,
}

impl Server {
    pub(in crate::raft) fn new(service: Service) -> Self {
        let bounded = |service, bytes_max| {
            PeerServer::new(service)
                .max_decoding_message_size(bytes_max)
                .max_encoding_message_size(bytes_max)
        };
        Self {
            large: bounded(service.clone(), MESSAGE_BYTES_MAX),
            small: bounded(service, SMALL_MESSAGE_BYTES_MAX),
        }
    }
}

/// Whether a call to this path may carry entries or rows.
fn is_large(path: &str) -> bool {
    let method = path
        .strip_prefix('/')
        .and_then(|path| path.strip_prefix(SERVICE_NAME))
        .and_then(|method| method.strip_prefix('/'));
    method.is_some_and(|method| LARGE.contains(&method))
}

impl<B> codegen::Service<http::Request<B>> for Server
where
    B: codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        match is_large(request.uri().path()) {
            true => self.large.call(request),
            false => self.small.call(request),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_that_carry_entries_or_rows_may_be_large() {
        let path = |method: &str| format!("/{SERVICE_NAME}/{method}");
        assert!(LARGE.iter().all(|method| is_large(&path(method))));
        for small in ["Heartbeat", "Vote", "Join", "Change", "Append/"] {
            assert!(!is_large(&path(small)), "{small}");
        }
        assert!(!is_large("Append") && !is_large("/Append"));
    }
}
