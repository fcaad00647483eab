//! How a connection to a peer is made: by tonic itself, or through a simulated network.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};

use crate::network::{self, Network, Simulated, Stream};

/// A channel that connects at its first call, and again after a failure.
pub(super) fn lazily(network: &Network, endpoint: &Endpoint) -> Channel {
    match network {
        Network::Sockets => endpoint.connect_lazy(),
        Network::Simulated(network) => {
            endpoint.connect_with_connector_lazy(Through(network.clone()))
        }
    }
}

/// Makes a gRPC client's connections through a simulated network; URLs name `IP:port`.
#[derive(Clone)]
pub struct Through(pub Arc<dyn Simulated>);

impl Service<Uri> for Through {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let network = self.0.clone();
        Box::pin(async move {
            let authority = to.authority().map_or("", http::uri::Authority::as_str);
            Ok(TokioIo::new(network::connect(network, authority).await?))
        })
    }
}
