//! Handshakes over memory, with authorities made for each test.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber, date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::*;

struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::from_ca_cert_pem(&pem, key).unwrap();
        Self { pem, issuer }
    }

    /// Certificate and key of `name`, for `localhost`, with that serial number.
    fn issue(&self, name: &str, serial: u64, expires: i32) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = date_time_ymd(expires, 1, 1);
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        (pem, key.serialize_pem())
    }

    fn revoke(&self, serial: u64) -> Vec<u8> {
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
        params.signed_by(&self.issuer).unwrap().der().to_vec()
    }
}

const FAR: i32 = 4000;

/// Writes a file as tools do that replace one: beside it, then over it.
fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let (new, path) = (folder.join("new"), folder.join(name));
    fs::write(&new, content).unwrap();
    fs::rename(&new, &path).unwrap();
    path
}

fn identity(folder: &Path, name: &str, (cert, key): (String, String)) -> (PathBuf, PathBuf) {
    (
        write(folder, &format!("{name}.crt"), cert),
        write(folder, &format!("{name}.key"), key),
    )
}

/// Settings of a server and of a client that trust one authority.
fn both(folder: &TempDir, authority: &Authority) -> (Settings, Settings) {
    let folder = folder.path();
    let ca = write(folder, "ca.crt", &authority.pem);
    let mut server = Settings::new(Flags::PEERS);
    server.identity = Some(identity(
        folder,
        "server",
        authority.issue("server", 1, FAR),
    ));
    server.trusted_ca = Some(ca.clone());
    let mut client = Settings::new(Flags::PEERS);
    client.identity = Some(identity(
        folder,
        "client",
        authority.issue("client", 2, FAR),
    ));
    client.trusted_ca = Some(ca);
    (server, client)
}

/// Shakes hands and says one byte each way. Returns whose certificate the server saw.
async fn meet(server: &Server, client: &Client) -> std::io::Result<Option<String>> {
    let (ours, theirs) = duplex(1 << 16);
    let accepts = async {
        let (mut stream, certificate) = server.accept(ours, None).await?;
        stream.write_all(b"!").await?;
        stream.flush().await?;
        // Until the other side has read.
        let _ = stream.read(&mut [0]).await;
        Ok::<_, std::io::Error>(certificate.map(|it| it.common_name().to_owned()))
    };
    let connects = async {
        let mut stream = client.connect("localhost", theirs).await?;
        stream.read_exact(&mut [0]).await?;
        Ok::<_, std::io::Error>(())
    };
    let (accepted, connected) = tokio::join!(accepts, connects);
    connected?;
    accepted
}

fn open(server: &Settings, client: &Settings) -> (Server, Client) {
    (
        Server::open(server.clone()).unwrap(),
        Client::open(client.clone()).unwrap(),
    )
}

#[tokio::test]
async fn the_server_learns_whose_certificate_the_client_has() {
    let folder = tempfile::tempdir().unwrap();
    let (server, client) = both(&folder, &Authority::new("ours"));
    let (server, client) = open(&server, &client);
    assert_eq!(
        meet(&server, &client).await.unwrap().as_deref(),
        Some("client")
    );
}

#[tokio::test]
async fn a_certificate_that_is_missing_strange_expired_revoked_or_not_allowed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let (server, client) = both(&folder, &ours);
    let with = |name: &str, issued| Settings {
        identity: Some(identity(folder.path(), name, issued)),
        ..client.clone()
    };
    let missing = Settings {
        identity: None,
        ..client.clone()
    };
    let strange = with("strange", other.issue("client", 3, FAR));
    let expired = with("expired", ours.issue("client", 4, 2020));
    for wrong in [missing, strange, expired] {
        let (server, client) = open(&server, &wrong);
        assert!(meet(&server, &client).await.is_err(), "{wrong:?}");
    }
    let revoking = Settings {
        crl: Some(write(folder.path(), "crl", ours.revoke(2))),
        ..server.clone()
    };
    let choosy = Settings {
        allowed: Allowed::CommonNames(vec!["somebody".to_owned()]),
        ..server.clone()
    };
    let elsewhere = Settings {
        allowed: Allowed::Hostnames(vec!["elsewhere".to_owned()]),
        ..server.clone()
    };
    for strict in [revoking, choosy, elsewhere] {
        let (server, client) = open(&strict, &client);
        assert!(meet(&server, &client).await.is_err(), "{strict:?}");
    }
    let fitting = Settings {
        crl: Some(write(folder.path(), "crl", ours.revoke(77))),
        allowed: Allowed::Hostnames(vec!["elsewhere".to_owned(), "localhost".to_owned()]),
        ..server
    };
    let (server, client) = open(&fitting, &client);
    assert!(meet(&server, &client).await.is_ok());
}

#[tokio::test]
async fn files_that_are_replaced_count_from_the_next_handshake_and_half_of_them_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let (server, client) = both(&folder, &old);
    let (server, client) = open(&server, &client);
    meet(&server, &client).await.unwrap();
    let (cert, key) = new.issue("server", 5, FAR);
    write(folder.path(), "server.crt", cert);
    meet(&server, &client).await.unwrap();
    write(folder.path(), "server.key", key);
    assert!(
        meet(&server, &client).await.is_err(),
        "the client does not believe it yet"
    );
    write(folder.path(), "ca.crt", old.pem.clone() + &new.pem);
    meet(&server, &client).await.unwrap();
    write(folder.path(), "ca.crt", &new.pem);
    assert!(
        meet(&server, &client).await.is_err(),
        "the client's certificate is the old authority's"
    );
    identity(folder.path(), "client", new.issue("client", 6, FAR));
    meet(&server, &client).await.unwrap();
}

#[test]
fn files_that_do_not_fit_are_named_by_their_flag() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new("ours");
    let (server, _) = both(&folder, &authority);
    let junk = write(folder.path(), "junk", "junk");
    let (cert, key) = server.identity.clone().unwrap();
    let (_, other_key) = identity(folder.path(), "other", authority.issue("other", 9, FAR));
    let at = |change: &dyn Fn(&mut Settings)| {
        let mut settings = server.clone();
        change(&mut settings);
        Server::open(settings).err().map(|unfit| unfit.flag)
    };
    let missing = folder.path().join("missing");
    assert_eq!(at(&|_| ()), None);
    for (flag, identity) in [
        ("peer-cert-file", (missing, key.clone())),
        ("peer-cert-file", (junk.clone(), key)),
        ("peer-key-file", (cert.clone(), junk.clone())),
        ("peer-key-file", (cert, other_key)),
    ] {
        let named = at(&|settings| settings.identity = Some(identity.clone()));
        assert_eq!(named, Some(flag), "{identity:?}");
    }
    let ca = at(&|settings| settings.trusted_ca = Some(junk.clone()));
    assert_eq!(ca, Some("peer-trusted-ca-file"));
    let crl = at(&|settings| settings.crl = Some(junk.clone()));
    assert_eq!(crl, Some("peer-crl-file"));
}

#[tokio::test]
async fn a_member_with_a_certificate_of_its_own_making_meets_another() {
    let folder = tempfile::tempdir().unwrap();
    let made = |name: &str| {
        let folder = folder.path().join(name);
        let mut settings = Settings::new(Flags::PEERS);
        let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        settings.identity = Some(self_signed("peer-auto-tls", &folder, &hosts, 1).unwrap());
        settings.is_self_signed = true;
        settings
    };
    let (server, client) = (made("a"), made("b"));
    assert_eq!(made("a"), server, "it is kept");
    let (server, client) = open(&server, &client);
    assert_eq!(meet(&server, &client).await.unwrap(), None);
}
