//! Certificates and keys of an instance, and the kubeconfigs that use them. Made once; kept until the instance goes.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::addresses::Addresses;
use super::files::write;
use super::layout::{Layout, NODES};

/// The owner of a certificate.
struct Subject {
    /// The file name, without `.crt` and `.key`.
    file: String,
    /// The user's name in Kubernetes.
    common_name: String,
    /// The user's group in Kubernetes.
    organization: Option<&'static str>,
    names: Vec<String>,
    addresses: Vec<Ipv4Addr>,
}

impl Subject {
    fn user(file: &str, common_name: &str, organization: Option<&'static str>) -> Self {
        Self {
            file: file.to_owned(),
            common_name: common_name.to_owned(),
            organization,
            names: Vec::new(),
            addresses: Vec::new(),
        }
    }
}

/// Everyone who has a certificate. The user names are those that Kubernetes' own roles are bound to.
fn subjects(addresses: Addresses) -> Vec<Subject> {
    const MASTERS: Option<&str> = Some("system:masters");
    let mut all = vec![
        Subject::user("admin", "admin", MASTERS),
        Subject::user("apiserver-kubelet", "apiserver-kubelet", MASTERS),
        Subject::user("controller-manager", "system:kube-controller-manager", None),
        Subject::user("scheduler", "system:kube-scheduler", None),
        Subject::user("proxy", "system:kube-proxy", None),
    ];
    let names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
    let full = "kubernetes.default.svc.cluster.local";
    all.push(Subject {
        names: names
            .into_iter()
            .chain([full, "localhost"])
            .map(ToOwned::to_owned)
            .collect(),
        addresses: vec![
            addresses.control_plane(),
            addresses.api_service(),
            Ipv4Addr::LOCALHOST,
        ],
        ..Subject::user("apiserver", "kube-apiserver", None)
    });
    for (index, node) in (0..).zip(NODES) {
        all.push(Subject {
            names: vec![node.to_owned()],
            addresses: vec![addresses.node(index)],
            ..Subject::user(node, &format!("system:node:{node}"), Some("system:nodes"))
        });
    }
    all
}

/// Makes what is missing. Returns true if something was.
pub fn ensure(layout: &Layout, addresses: Addresses) -> Result<bool> {
    let folder = layout.pki();
    let (ca_crt, ca_key) = (folder.join("ca.crt"), folder.join("ca.key"));
    let mut changed = false;
    if !ca_crt.exists() || !ca_key.exists() {
        let key = KeyPair::generate()?;
        let params = authority()?;
        write(&ca_key, &key.serialize_pem())?;
        write(&ca_crt, &params.self_signed(&key)?.pem())?;
        changed = true;
    }
    let key = KeyPair::from_pem(&read(&ca_key)?)?;
    let issuer = Issuer::from_ca_cert_pem(&read(&ca_crt)?, key)?;

    for subject in subjects(addresses) {
        let [crt, key] = ["crt", "key"].map(|kind| folder.join(format!("{}.{kind}", subject.file)));
        if !crt.exists() || !key.exists() {
            let own_key = KeyPair::generate()?;
            write(&key, &own_key.serialize_pem())?;
            write(&crt, &params(&subject)?.signed_by(&own_key, &issuer)?.pem())?;
            changed = true;
        }
        let user = if subject.file == "admin" {
            layout.kubeconfig()
        } else {
            kubeconfig(layout, &subject.file)
        };
        if !user.exists() {
            write(&user, &kubeconfig_text(layout, addresses, &subject.file))?;
            changed = true;
        }
    }
    let [public, private] =
        ["pub", "key"].map(|kind| folder.join(format!("service-account.{kind}")));
    if !public.exists() || !private.exists() {
        let key = KeyPair::generate()?;
        write(&private, &key.serialize_pem())?;
        write(&public, &key.public_key_pem())?;
        changed = true;
    }
    Ok(changed)
}

/// The kubeconfig of one of the instance's own programs.
#[must_use]
pub fn kubeconfig(layout: &Layout, user: &str) -> PathBuf {
    layout.pki().join(format!("{user}.kubeconfig"))
}

fn authority() -> Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new())?;
    params
        .distinguished_name
        .push(DnType::CommonName, "coord local Kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    Ok(params)
}

fn params(subject: &Subject) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(subject.names.clone())?;
    let addresses = subject
        .addresses
        .iter()
        .map(|address| SanType::IpAddress(IpAddr::V4(*address)));
    params.subject_alt_names.extend(addresses);
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, subject.common_name.as_str());
    if let Some(organization) = subject.organization {
        params
            .distinguished_name
            .push(DnType::OrganizationName, organization);
    }
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn kubeconfig_text(layout: &Layout, addresses: Addresses, user: &str) -> String {
    let pki = layout.pki().display().to_string();
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {name}
  cluster:
    server: https://{server}:6443
    certificate-authority: {pki}/ca.crt
users:
- name: {user}
  user:
    client-certificate: {pki}/{user}.crt
    client-key: {pki}/{user}.key
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {user}
current-context: {name}
",
        name = layout.name,
        server = addresses.control_plane(),
    )
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
