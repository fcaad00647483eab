//! Files and settings become what rustls works with.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use super::settings::{Settings, Unfit, Versions};
use super::suites::{full_name, has_suite, suite_name};
use super::verify::{AnyServer, CheckedClient, CheckedServer, Checks, serial};

/// Protocols spoken over TLS, best first.
const ALPN: [&[u8]; 2] = [b"h2", b"http/1.1"];

fn provider(settings: &Settings) -> Result<Arc<CryptoProvider>, Unfit> {
    let mut provider = aws_lc_rs::default_provider();
    let wanted = &settings.cipher_suites;
    if !wanted.is_empty() {
        // As in Go: a choice is one for TLS 1.2; 1.3 has only safe ones.
        provider.cipher_suites.retain(|suite| {
            let name = suite_name(suite);
            suite.tls13().is_some() || wanted.iter().any(|wanted| full_name(wanted) == name)
        });
        let has_any = wanted.iter().any(|name| has_suite(name));
        if !has_any {
            let why = "none of these suites is offered here; name an ECDHE suite with GCM or CHACHA20_POLY1305";
            return Err(Unfit::new("cipher-suites", why));
        }
    }
    Ok(Arc::new(provider))
}

fn versions(settings: &Settings) -> &'static [&'static SupportedProtocolVersion] {
    static ALL: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    match settings.versions {
        Versions::From12 => &ALL,
        Versions::Only12 => &ALL[1..],
        Versions::Only13 => &ALL[..1],
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, Unfit> {
    fs::read(path).map_err(|error| Unfit::new(flag, format!("{}: {error}", path.display())))
}

fn certificates(flag: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Unfit> {
    let bytes = read(flag, path)?;
    let wrong = |why: String| Unfit::new(flag, format!("{}: {why}", path.display()));
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| wrong(error.to_string()))?;
    match certificates.is_empty() {
        true => Err(wrong("it holds no PEM certificate".to_owned())),
        false => Ok(certificates),
    }
}

type Chain = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn chain(cert: (&'static str, &Path), key: (&'static str, &Path)) -> Result<Chain, Unfit> {
    let chain = certificates(cert.0, cert.1)?;
    let bytes = read(key.0, key.1)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|error| {
        Unfit::new(
            key.0,
            format!("{}: it holds no PEM key: {error}", key.1.display()),
        )
    })?;
    Ok((chain, key))
}

fn own(settings: &Settings) -> Option<Result<Chain, Unfit>> {
    let flags = settings.flags;
    let (cert, key) = settings.identity.as_ref()?;
    Some(chain((flags.cert, cert), (flags.key, key)))
}

fn roots(settings: &Settings) -> Result<RootCertStore, Unfit> {
    let mut roots = RootCertStore::empty();
    let Some(path) = &settings.trusted_ca else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok(roots);
    };
    let flag = settings.flags.trusted_ca;
    for certificate in certificates(flag, path)? {
        roots
            .add(certificate)
            .map_err(|error| Unfit::new(flag, format!("{}: {error}", path.display())))?;
    }
    Ok(roots)
}

/// Checks beside the signatures.
fn checks(settings: &Settings) -> Result<Checks, Unfit> {
    let mut revoked = HashSet::new();
    if let Some(path) = &settings.crl {
        let flag = settings.flags.crl;
        let bytes = read(flag, path)?;
        let wrong = |why: String| Unfit::new(flag, format!("{}: {why}", path.display()));
        // etcd takes DER only; PEM is what most tools write.
        let der = match CertificateRevocationListDer::from_pem_slice(&bytes) {
            Ok(der) => der.as_ref().to_vec(),
            Err(_) => bytes,
        };
        let (_, list) = CertificateRevocationList::from_der(&der)
            .map_err(|error| wrong(format!("it is no revocation list: {error}")))?;
        revoked.extend(
            list.iter_revoked_certificates()
                .map(|revoked| serial(revoked.raw_serial())),
        );
    }
    Ok(Checks {
        revoked,
        allowed: settings.allowed.clone(),
    })
}

/// For the side that accepts.
pub(super) fn server(settings: &Settings) -> Result<Arc<ServerConfig>, Unfit> {
    let flags = settings.flags;
    let (chain, key) = own(settings).unwrap_or_else(|| {
        Err(Unfit::new(
            flags.cert,
            format!("must be given together with --{}", flags.key),
        ))
    })?;
    let provider = provider(settings)?;
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions(settings))
        .map_err(|error| Unfit::new("cipher-suites", error.to_string()))?;
    let checks = checks(settings)?;
    let builder = match settings.requires_client() {
        false => builder.with_no_client_auth(),
        true => {
            let roots = Arc::new(roots(settings)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .map_err(|error| Unfit::new(flags.trusted_ca, error.to_string()))?;
            builder.with_client_cert_verifier(Arc::new(CheckedClient {
                inner: verifier,
                checks,
            }))
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| {
        Unfit::new(
            flags.key,
            format!("it does not fit --{}: {error}", flags.cert),
        )
    })?;
    config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
    // Connections live long, so sessions are not kept to be resumed: one that was would pass by a certificate that has
    // been revoked since, or by an authority that is believed no more.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// For connections that this member opens.
pub(super) fn client(settings: &Settings) -> Result<Arc<ClientConfig>, Unfit> {
    let flags = settings.flags;
    let provider = provider(settings)?;
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(versions(settings))
        .map_err(|error| Unfit::new("cipher-suites", error.to_string()))?;
    let builder = if settings.is_self_signed {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
    } else {
        let roots = Arc::new(roots(settings)?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|error| Unfit::new(flags.trusted_ca, error.to_string()))?;
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(CheckedServer {
                inner: verifier,
                checks: checks(settings)?,
            }))
    };
    let identity = match &settings.client_identity {
        Some((cert, key)) => Some(chain((flags.client_cert, cert), (flags.client_key, key))),
        None => own(settings),
    };
    let mut config = match identity.transpose()? {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder.with_client_auth_cert(chain, key).map_err(|error| {
            Unfit::new(
                flags.key,
                format!("it does not fit --{}: {error}", flags.cert),
            )
        })?,
    };
    config.alpn_protocols = vec![ALPN[0].to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// All files that the settings name.
pub(super) fn files(settings: &Settings) -> Vec<PathBuf> {
    let pairs = settings.identity.iter().chain(&settings.client_identity);
    let pairs = pairs.flat_map(|(cert, key)| [cert, key]);
    let others = settings.trusted_ca.iter().chain(&settings.crl);
    pairs.chain(others).cloned().collect()
}
