//! In place of `simulated` in a build without simulations: there are only sockets.
//!
//! Nobody can make a value of these types, so that nothing of them runs, and the rest of the room need not ask which build
//! it is.

use std::future::{Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

fn nowhere<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A network in this process: there is none.
#[derive(Clone)]
pub struct SimulatedNetwork(());

impl SimulatedNetwork {
    pub(super) fn listen(&self, _: SocketAddr) -> io::Result<SimulatedPort> {
        nowhere()
    }

    pub(super) fn connect(&self, _: SocketAddr) -> Ready<io::Result<SimulatedStream>> {
        ready(nowhere())
    }
}

/// A port of it.
#[derive(Clone)]
pub struct SimulatedPort(());

impl SimulatedPort {
    pub(super) fn poll_accept(
        &self,
        _: &mut Context<'_>,
    ) -> Poll<io::Result<(SimulatedStream, SocketAddr)>> {
        Poll::Ready(nowhere())
    }
}

/// A connection over it.
pub struct SimulatedStream(());

impl AsyncRead for SimulatedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        _: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Poll::Ready(nowhere())
    }
}

impl AsyncWrite for SimulatedStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(nowhere())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(nowhere())
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(nowhere())
    }
}
