//! How bytes travel between members and from clients: the sockets of the operating system, or in a build for simulations
//! also a simulated network.
//!
//! Owns [`Network`] (which of the two), [`Listener`] and [`Stream`]. It knows no protocol: doors and peers speak theirs
//! over a stream without asking what carries it.

#[cfg(feature = "simulation")]
mod simulated;
#[cfg(not(feature = "simulation"))]
mod unsimulated;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_rustls::TlsStream;

use crate::tls;
#[cfg(feature = "simulation")]
pub use simulated::{Duplex, Port, Simulated};
pub use simulated::{SimulatedNetwork, SimulatedPort, SimulatedStream};
#[cfg(not(feature = "simulation"))]
use unsimulated as simulated;

/// Connections that may wait to be accepted, up to the kernel's own limit: the number that Go's servers ask for. When
/// a member comes back all its clients are there at once.
const BACKLOG: u32 = 4096;

/// The carrier of a member's connections. Clones are the same network.
#[derive(Clone, Default)]
pub enum Network {
    /// The operating system's.
    #[default]
    Sockets,
    /// The operating system's, with TLS to peers whose URL asks for it.
    Secured(tls::Client),
    /// One that lives in this process.
    Simulated(SimulatedNetwork),
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sockets => "Sockets",
            Self::Secured(_) => "Secured",
            Self::Simulated(_) => "Simulated",
        })
    }
}

fn parse(authority: &str) -> io::Result<SocketAddr> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidInput, error);
    authority.parse().map_err(invalid)
}

/// The first address of a name that can be bound.
async fn bind(authority: &str) -> io::Result<TcpListener> {
    let mut why = io::Error::new(io::ErrorKind::InvalidInput, "the name has no address");
    for address in tokio::net::lookup_host(authority).await? {
        let bound = (|| {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            // As everywhere on Unix: connections of a predecessor may linger.
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)
        })();
        match bound {
            Ok(listener) => return Ok(listener),
            Err(error) => why = error,
        }
    }
    Err(why)
}

impl Network {
    /// Listens on `host:port`.
    pub async fn listen(&self, authority: &str) -> io::Result<Listener> {
        Ok(match self {
            Self::Sockets | Self::Secured(_) => Listener::Tcp(bind(authority).await?),
            Self::Simulated(network) => {
                let address = parse(authority)?;
                Listener::Simulated(network.listen(address)?, address)
            }
        })
    }

    /// Listens on a socket of the file system. One that a predecessor left there is replaced, another file is not.
    pub fn listen_at(&self, path: &Path) -> io::Result<Listener> {
        match self {
            Self::Sockets | Self::Secured(_) => {}
            Self::Simulated(_) => return Err(io::ErrorKind::Unsupported.into()),
        }
        let found = std::fs::symlink_metadata(path);
        if found.is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        Ok(Listener::Unix(UnixListener::bind(path)?))
    }
}

/// Connects to a peer and shakes hands, with the certificate of this member if it has one.
///
/// Errors: as of a socket; why the peer's certificate is not believed, or ours is not by it.
pub async fn connect_secured(client: &tls::Client, host: &str, port: u16) -> io::Result<Stream> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((bare, port)).await?;
    stream.set_nodelay(true)?;
    let stream = client.connect(host, Stream::Tcp(stream)).await?;
    Ok(Stream::Secure(Box::new(stream)))
}

/// Connects through a simulated network, to `IP:port`.
pub async fn connect(network: SimulatedNetwork, authority: &str) -> io::Result<Stream> {
    let stream = network.connect(parse(authority)?).await?;
    Ok(Stream::Simulated(stream))
}

/// An open port.
pub enum Listener {
    /// The operating system's.
    Tcp(TcpListener),
    /// A socket of the file system.
    Unix(UnixListener),
    /// A simulated one, and its address.
    Simulated(SimulatedPort, SocketAddr),
}

impl Listener {
    /// The next connection, and where it comes from if that has an address. Loses nothing when it is dropped.
    pub async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, from) = listener.accept().await?;
                Ok((Stream::Tcp(stream), Some(from)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), None))
            }
            Self::Simulated(port, _) => {
                let (stream, from) = std::future::poll_fn(|cx| port.poll_accept(cx)).await?;
                Ok((Stream::Simulated(stream), Some(from)))
            }
        }
    }

    /// The address it is bound to; a socket of the file system has none.
    pub fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Some),
            Self::Unix(_) => Ok(None),
            Self::Simulated(_, address) => Ok(Some(*address)),
        }
    }

    /// A second handle on the same port.
    pub fn duplicate(&self) -> io::Result<Self> {
        use std::os::fd::AsFd;
        Ok(match self {
            Self::Tcp(listener) => {
                let fd = listener.as_fd().try_clone_to_owned()?;
                Self::Tcp(TcpListener::from_std(std::net::TcpListener::from(fd))?)
            }
            Self::Unix(listener) => {
                let fd = listener.as_fd().try_clone_to_owned()?;
                let listener = std::os::unix::net::UnixListener::from(fd);
                Self::Unix(UnixListener::from_std(listener)?)
            }
            Self::Simulated(port, address) => Self::Simulated(port.clone(), *address),
        })
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        Self::Tcp(listener)
    }
}

/// A connection.
pub enum Stream {
    /// The operating system's.
    Tcp(TcpStream),
    /// One over a socket of the file system.
    Unix(UnixStream),
    /// One of these, secured.
    Secure(Box<TlsStream<Stream>>),
    /// A simulated one.
    Simulated(SimulatedStream),
}

impl Stream {
    /// Sends small writes at once.
    pub fn set_nodelay(&self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.set_nodelay(true),
            Self::Secure(stream) => stream.get_ref().0.set_nodelay(),
            Self::Unix(_) | Self::Simulated(_) => Ok(()),
        }
    }

    /// The first byte that came, left where it is; `None` if the other side has ended.
    ///
    /// Errors: the operating system's; `Unsupported` where bytes cannot be left.
    pub async fn first_byte(&self) -> io::Result<Option<u8>> {
        use rustix::net::{RecvFlags, recv};
        let mut byte = [0];
        let bytes = match self {
            Self::Tcp(stream) => stream.peek(&mut byte).await?,
            Self::Unix(stream) => {
                let look = || Ok(recv(stream, &mut byte, RecvFlags::PEEK)?.1);
                stream.async_io(Interest::READABLE, look).await?
            }
            Self::Secure(_) | Self::Simulated(_) => return Err(io::ErrorKind::Unsupported.into()),
        };
        Ok((bytes > 0).then_some(byte[0]))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Secure(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Simulated(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Secure(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Simulated(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Secure(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Simulated(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Secure(stream) => stream.is_write_vectored(),
            Self::Simulated(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Secure(stream) => Pin::new(stream).poll_flush(cx),
            Self::Simulated(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Secure(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Simulated(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
