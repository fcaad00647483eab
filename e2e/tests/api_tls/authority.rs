//! An authority made for one test: what it issues and revokes lies in files, as servers read them.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

/// An authority, and the folder where it puts what it issues.
pub(crate) struct Authority {
    pub(crate) folder: PathBuf,
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    Ok(fs::rename(&new, path)?)
}

pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}

impl Authority {
    pub(crate) fn new(folder: &Path, name: &str) -> Result<Self> {
        let folder = folder.join(name);
        fs::create_dir_all(&folder)?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        write(&folder.join("ca.crt"), &pem)?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key)?;
        Ok(Self {
            folder,
            pem,
            issuer,
        })
    }

    pub(crate) fn ca(&self) -> String {
        shown(&self.folder.join("ca.crt"))
    }

    /// A certificate of `name` for the hosts, in files of that name.
    pub(crate) fn issue(
        &self,
        name: &str,
        hosts: &[&str],
        serial: u64,
        expires: i32,
    ) -> Result<Pair> {
        self.issue_with(name, hosts, |params| {
            params.serial_number = Some(SerialNumber::from(serial));
            params.not_after = date_time_ymd(expires, 1, 1);
        })
    }

    /// As [`Authority::issue`], with what `change` says.
    pub(crate) fn issue_with(
        &self,
        name: &str,
        hosts: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Result<Pair> {
        let mut params = CertificateParams::default();
        for host in hosts {
            params.subject_alt_names.push(match host.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*host).try_into()?),
            });
        }
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        change(&mut params);
        let key = KeyPair::generate()?;
        let pair = Pair {
            cert: self.folder.join(format!("{name}.crt")),
            key: self.folder.join(format!("{name}.key")),
        };
        write(&pair.key, key.serialize_pem())?;
        write(&pair.cert, params.signed_by(&key, &self.issuer)?.pem())?;
        Ok(pair)
    }

    pub(crate) fn revoke(&self, serial: u64) -> Result<String> {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date_time_ymd(2021, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let path = self.folder.join("revoked.crl");
        write(&path, params.signed_by(&self.issuer)?.der())?;
        Ok(shown(&path))
    }
}
