//! The two ends of a handshake.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::certificate::ClientCertificate;
use super::load;
use super::reload::Reloading;
use super::settings::{Settings, Unfit};

/// The end that accepts. Clones share it.
#[derive(Clone)]
pub struct Server(Arc<Reloading<ServerConfig>>);

impl Server {
    /// Reads the files a first time.
    ///
    /// Errors: the flag whose file is missing or does not fit.
    pub fn open(settings: Settings) -> Result<Self, Unfit> {
        Ok(Self(Arc::new(Reloading::open(settings, load::server)?)))
    }

    /// Shakes hands over a connection from that address, with the files as they are now. The caller bounds how long that
    /// may take.
    ///
    /// Errors: the other side's mistake, which rustls has told it.
    pub async fn accept<S>(
        &self,
        stream: S,
        from: Option<IpAddr>,
    ) -> io::Result<(TlsStream<S>, Option<Arc<ClientCertificate>>)>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = TlsAcceptor::from(self.0.current()).accept(stream).await?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        let checks_names = self.0.settings().checks_names;
        let certificate = certificate
            .and_then(|der| ClientCertificate::new(der, checks_names, from))
            .map(Arc::new);
        Ok((stream.into(), certificate))
    }
}

/// The end that opens connections to peers. Clones share it.
#[derive(Clone)]
pub struct Client(Arc<Reloading<ClientConfig>>);

impl Client {
    /// Reads the files a first time.
    ///
    /// Errors: the flag whose file is missing or does not fit.
    pub fn open(settings: Settings) -> Result<Self, Unfit> {
        Ok(Self(Arc::new(Reloading::open(settings, load::client)?)))
    }

    /// Shakes hands with `host`, a name or an address, with the files as they are now.
    ///
    /// Errors: why its certificate is not believed, or what it did wrong.
    pub async fn connect<S>(&self, host: &str, stream: S) -> io::Result<TlsStream<S>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let stream = TlsConnector::from(self.0.current())
            .connect(name, stream)
            .await?;
        Ok(stream.into())
    }
}
