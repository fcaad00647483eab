//! The other end of a connection.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::tls::ClientCertificate;

/// Where a request comes from: in the extensions of every request, also of those through the gateway.
#[derive(Clone, Debug, Default)]
pub struct Remote {
    /// The address; a socket of the file system has none.
    pub address: Option<SocketAddr>,
    /// The certificate that the connection was opened with, whether or not it says who asks.
    pub certificate: Option<Arc<ClientCertificate>>,
}
