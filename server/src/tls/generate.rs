//! A certificate that this member makes for itself: `--auto-tls` and `--peer-auto-tls`.

use std::fs::{self, DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};

use super::settings::Unfit;
use crate::clock;

const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Certificate and key in `folder` for these hosts, made if they are not there. One that is there is kept, however old.
///
/// Errors: the disk's, under `flag`.
pub fn self_signed(
    flag: &'static str,
    folder: &Path,
    hosts: &[String],
    years: u32,
) -> Result<(PathBuf, PathBuf), Unfit> {
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    if cert.exists() && key.exists() {
        return Ok((cert, key));
    }
    let made = make(hosts, years).map_err(|error| Unfit::new(flag, error.to_string()))?;
    write(folder, &cert, &key, made)
        .map_err(|error| Unfit::new(flag, format!("{}: {error}", folder.display())))?;
    tracing::warn!(cert = %cert.display(), years, "made a certificate of its own, which nobody vouches for");
    Ok((cert, key))
}

/// Certificate and key as PEM.
#[expect(
    clippy::disallowed_types,
    reason = "the clock's time, as a certificate has it"
)]
fn make(hosts: &[String], years: u32) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(hosts.to_vec())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "etcd");
    let now = std::time::SystemTime::UNIX_EPOCH + Duration::from_millis(clock::wall().0);
    params.not_before = now.into();
    params.not_after = (now + YEAR * years).into();
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// The certificate last: with it both are there.
fn write(
    folder: &Path,
    cert: &Path,
    key: &Path,
    (cert_pem, key_pem): (String, String),
) -> std::io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let mut file = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(key)?;
    file.write_all(key_pem.as_bytes())?;
    fs::write(cert, cert_pem)
}
