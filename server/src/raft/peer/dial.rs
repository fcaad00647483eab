//! How a connection to a peer is made: by tonic itself, over TLS, or through a simulated network.

use std::io;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};

use crate::network::{self, Network, SimulatedNetwork, Stream};
use crate::tls;

/// A channel that connects at its first call, and again after a failure.
pub(super) fn lazily(network: &Network, endpoint: &Endpoint, is_tls: bool) -> Channel {
    match network {
        Network::Secured(client) if is_tls => {
            endpoint.connect_with_connector_lazy(OverTls(Some(client.clone())))
        }
        Network::Sockets if is_tls => endpoint.connect_with_connector_lazy(OverTls(None)),
        Network::Sockets | Network::Secured(_) => endpoint.connect_lazy(),
        Network::Simulated(network) => {
            endpoint.connect_with_connector_lazy(Through(network.clone()))
        }
    }
}

/// Makes connections over TLS, if this member was given what that needs.
#[derive(Clone)]
struct OverTls(Option<tls::Client>);

impl Service<Uri> for OverTls {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            let client = client.ok_or_else(|| {
                let why = "a peer has an https:// URL, and this member has no --peer-cert-file and no \
                           --peer-trusted-ca-file";
                io::Error::new(io::ErrorKind::Unsupported, why)
            })?;
            let (host, port) = (to.host().unwrap_or_default(), to.port_u16().unwrap_or(443));
            let connected = network::connect_secured(&client, host, port).await;
            let connected = connected.inspect_err(|error| {
                if error.kind() == io::ErrorKind::InvalidData {
                    tracing::warn!(peer = %to, %error, "the TLS handshake with a peer failed");
                }
            });
            Ok(TokioIo::new(connected?))
        })
    }
}

/// Makes a gRPC client's connections through a simulated network; URLs name `IP:port`.
#[derive(Clone)]
pub struct Through(pub SimulatedNetwork);

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
