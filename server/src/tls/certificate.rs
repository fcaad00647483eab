//! The certificate of the other side of a connection.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::verify::{common_name, is_for};

/// The certificate of the client of a connection: an authority signed it, and the other side has its key. It goes with
/// every request of that connection as an `Arc` in the extensions.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    common_name: String,
    der: CertificateDer<'static>,
    has_names: bool,
    /// Whether the names must fit what its owner speaks for.
    checks_names: bool,
    from: Option<IpAddr>,
}

impl ClientCertificate {
    /// The names in a verified certificate, of a connection from that address.
    pub(super) fn new(
        der: &CertificateDer<'_>,
        checks_names: bool,
        from: Option<IpAddr>,
    ) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        Some(Self {
            common_name: common_name(&parsed).unwrap_or_default(),
            der: der.clone().into_owned(),
            has_names: names.is_some_and(|names| !names.value.general_names.is_empty()),
            checks_names,
            from,
        })
    }

    /// Its common name, which etcd takes for the user's name; empty if it has none.
    pub fn common_name(&self) -> &str {
        &self.common_name
    }

    /// Whether a member that is reached at one of these hosts may speak with it: it is for one of them or for the address
    /// that the connection came from, it names nothing, or names are not to be looked at.
    pub fn speaks_for<'a>(&self, mut hosts: impl Iterator<Item = &'a str>) -> bool {
        if !self.checks_names || !self.has_names {
            return true;
        }
        let from = self.from.map(|from| from.to_string());
        from.is_some_and(|from| is_for(&self.der, &from))
            || hosts.any(|host| is_for(&self.der, host))
    }
}
