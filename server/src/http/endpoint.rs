//! A port and how it is secured: from a connection that was accepted to the bytes that its other side meant.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::network::{Listener, Stream};
use crate::tls::{ClientCertificate, Server};

/// The first byte of a TLS connection: a record of the handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// The answer to a client that speaks plain HTTP where TLS is spoken; Go's words.
const NOT_TLS: &[u8] =
    b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// An open port and what is spoken on it.
pub struct Endpoint {
    listener: Listener,
    security: Security,
}

/// The security beneath HTTP.
#[derive(Clone)]
pub(super) enum Security {
    Plain,
    Tls(Server),
    /// As the first byte says.
    Either(Server),
}

impl Endpoint {
    /// Everything as it is.
    pub fn plain(listener: Listener) -> Self {
        let security = Security::Plain;
        Self { listener, security }
    }

    /// TLS only.
    pub fn tls(listener: Listener, server: Server) -> Self {
        let security = Security::Tls(server);
        Self { listener, security }
    }

    /// TLS and plain, told apart by the first byte.
    pub fn either(listener: Listener, server: Server) -> Self {
        let security = Security::Either(server);
        Self { listener, security }
    }

    /// The address it is bound to; a socket of the file system has none.
    ///
    /// Errors: the operating system's.
    pub fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        self.listener.local_address()
    }

    /// A second handle on the same port.
    ///
    /// Errors: the operating system's.
    pub fn duplicate(&self) -> io::Result<Self> {
        Ok(Self {
            listener: self.listener.duplicate()?,
            security: self.security.clone(),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<(Stream, Option<SocketAddr>)> {
        self.listener.accept().await
    }

    pub(super) fn security(&self) -> Security {
        self.security.clone()
    }
}

impl From<Listener> for Endpoint {
    fn from(listener: Listener) -> Self {
        Self::plain(listener)
    }
}

impl From<TcpListener> for Endpoint {
    fn from(listener: TcpListener) -> Self {
        Self::plain(listener.into())
    }
}

impl Security {
    /// The connection as HTTP is spoken on it, and whose certificate the other side has. The caller bounds how long it may
    /// take.
    ///
    /// Errors: the other side's mistake; it has been told.
    pub(super) async fn secure(
        &self,
        mut stream: Stream,
        from: Option<IpAddr>,
    ) -> io::Result<(Stream, Option<Arc<ClientCertificate>>)> {
        let (server, may_be_plain) = match self {
            Self::Plain => return Ok((stream, None)),
            Self::Tls(server) => (server, false),
            Self::Either(server) => (server, true),
        };
        match stream.first_byte().await? {
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
            Some(HANDSHAKE) => {}
            Some(_) if may_be_plain => return Ok((stream, None)),
            Some(first) => {
                if first.is_ascii_uppercase() {
                    stream.write_all(NOT_TLS).await?;
                }
                let why = "first record does not look like a TLS handshake";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        let (stream, certificate) = server.accept(stream, from).await?;
        Ok((Stream::Secure(Box::new(stream)), certificate))
    }
}
