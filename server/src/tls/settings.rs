//! The TLS of one side, as it was asked for.

use std::path::PathBuf;

/// The flags of one side, for errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags {
    /// The certificate.
    pub cert: &'static str,
    /// Its key.
    pub key: &'static str,
    /// The certificate for connections that this member opens.
    pub client_cert: &'static str,
    /// Its key.
    pub client_key: &'static str,
    /// The authorities that are believed.
    pub trusted_ca: &'static str,
    /// Certificates that are believed no more.
    pub crl: &'static str,
}

impl Flags {
    /// Of the side that clients use.
    pub const CLIENTS: Self = Self {
        cert: "cert-file",
        key: "key-file",
        client_cert: "client-cert-file",
        client_key: "client-key-file",
        trusted_ca: "trusted-ca-file",
        crl: "client-crl-file",
    };
    /// Of the side that members use.
    pub const PEERS: Self = Self {
        cert: "peer-cert-file",
        key: "peer-key-file",
        client_cert: "peer-client-cert-file",
        client_key: "peer-client-key-file",
        trusted_ca: "peer-trusted-ca-file",
        crl: "peer-crl-file",
    };
}

/// The TLS of one side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The names of its flags.
    pub flags: Flags,
    /// Certificate and key of this member.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Certificate and key for connections that this member opens, if they are others.
    pub client_identity: Option<(PathBuf, PathBuf)>,
    /// The authorities that the other side's certificates are checked by.
    pub trusted_ca: Option<PathBuf>,
    /// Whether the other side must have a certificate. As in etcd, naming authorities asks for it too.
    pub client_cert_auth: bool,
    /// Serial numbers of certificates that are refused.
    pub crl: Option<PathBuf>,
    /// The certificates that are let in.
    pub allowed: Allowed,
    /// Whether the identity was made by this member itself: then nobody else's can be checked either.
    pub is_self_signed: bool,
    /// Whether a peer's certificate must be of the place that the peer speaks for.
    pub checks_names: bool,
    /// Versions of TLS.
    pub versions: Versions,
    /// Names of the cipher suites that TLS 1.2 may use; all that are safe if it is empty.
    pub cipher_suites: Vec<String>,
}

impl Settings {
    /// Nothing but the names of its flags.
    pub fn new(flags: Flags) -> Self {
        Self {
            flags,
            identity: None,
            client_identity: None,
            trusted_ca: None,
            client_cert_auth: false,
            crl: None,
            allowed: Allowed::All,
            is_self_signed: false,
            checks_names: false,
            versions: Versions::From12,
            cipher_suites: Vec::new(),
        }
    }

    /// Whether the other side must have a certificate.
    pub fn requires_client(&self) -> bool {
        self.client_cert_auth || self.trusted_ca.is_some()
    }
}

/// The certificates that are let in, of those that an authority signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// All of them.
    All,
    /// Those with one of these common names.
    CommonNames(Vec<String>),
    /// Those that are for one of these hosts.
    Hostnames(Vec<String>),
}

/// Versions of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Versions {
    /// 1.2 and 1.3.
    From12,
    /// 1.2 only.
    Only12,
    /// 1.3 only.
    Only13,
}

/// Files that do not fit, by the flag that names them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{flag}: {why}")]
pub struct Unfit {
    /// The flag.
    pub flag: &'static str,
    /// The defect, and its setting.
    pub why: String,
}

impl Unfit {
    pub(super) fn new(flag: &'static str, why: impl Into<String>) -> Self {
        Self {
            flag,
            why: why.into(),
        }
    }
}
