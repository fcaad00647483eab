//! A network that lives in this process, for simulations of many members.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

/// A network in this process.
pub type SimulatedNetwork = Arc<dyn Simulated>;
/// A port of it.
pub type SimulatedPort = Arc<dyn Port>;
/// A connection over it.
pub type SimulatedStream = Box<dyn Duplex>;

/// A network in this process, as seen from one of its hosts. Addresses are `IP:port`; nothing is looked up.
pub trait Simulated: Send + Sync {
    /// Opens a port of this host.
    fn listen(&self, address: SocketAddr) -> io::Result<Arc<dyn Port>>;
    /// Connects to a port of any host; resolves when it accepted, or with what a socket would say.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>>;
}

/// An open port. It closes when the last handle goes.
pub trait Port: Send + Sync {
    /// The next connection, and where it comes from.
    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Box<dyn Duplex>, SocketAddr)>>;
}

/// Both directions of a simulated connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
