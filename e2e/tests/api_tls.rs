//! TLS between clients, members and each other, with authorities made for each test; etcdctl is the client wherever it can be.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::put;
use coord_e2e::cluster::claims::{self, Claim};
use coord_e2e::cluster::{Cluster, Kind, eventually, process};
use coord_server::network::{self, Stream};
use coord_server::tls::{self, Flags, Settings};
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use rcgen::{ExtendedKeyUsagePurpose, date_time_ymd};
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::Endpoint;

#[path = "api_tls/authority.rs"]
mod authority;
#[path = "api_tls/reach.rs"]
mod reach;

use authority::{Authority, Pair, shown, write};
use reach::{connect, fails, plain_request, resident, succeeds};

const FAR: i32 = 4000;

/// `https://` for `http://`.
fn secure(url: &str) -> String {
    url.replacen("http://", "https://", 1)
}

/// The address of a member, as `host:port`.
fn authority_of(url: &str) -> &str {
    url.split_once("://").map_or(url, |(_, rest)| rest)
}

fn host_of(url: &str) -> &str {
    authority_of(url).split(':').next().unwrap_or_default()
}

/// A member of its own whose client port speaks TLS with the pair.
fn secured_member(more: &[(&str, &str)]) -> Result<(Cluster, Authority, Pair)> {
    let mut cluster = Cluster::new(Kind::Processes(1), &[])?;
    let authority = Authority::new(cluster.directory(), "ours")?;
    let url = cluster.endpoint(0);
    let pair = authority.issue("server", &[host_of(&url)], 1, FAR)?;
    for (name, value) in [
        ("listen-client-urls", secure(&url).as_str()),
        ("advertise-client-urls", &secure(&url)),
        ("cert-file", &shown(&pair.cert)),
        ("key-file", &shown(&pair.key)),
    ]
    .into_iter()
    .chain(more.iter().copied())
    {
        cluster.set_flag(0, name, value);
    }
    Ok((cluster, authority, pair))
}

#[test]
fn etcdctl_speaks_tls_and_believes_the_authority_it_is_given() {
    claims::run(async {
        let (mut cluster, authority, _) = secured_member(&[])?;
        cluster.restart(0).await?;
        let url = secure(&cluster.endpoint(0));
        let ca = format!("--cacert={}", authority.ca());
        assert_eq!(succeeds(&url, &[&ca, "put", "k", "v"]).await?, "OK\n");
        assert_eq!(succeeds(&url, &[&ca, "get", "k"]).await?, "k\nv\n");
        let other = Authority::new(cluster.directory(), "other")?;
        let other = format!("--cacert={}", other.ca());
        fails(&url, &[&other, "put", "k", "w"]).await?;
        assert_eq!(succeeds(&url, &[&ca, "get", "k"]).await?, "k\nv\n");
        Ok(())
    });
}

#[test]
fn a_client_needs_a_certificate_that_the_authority_signed_and_that_still_counts() {
    claims::run(async {
        let (mut cluster, authority, _) = secured_member(&[("client-cert-auth", "true")])?;
        cluster.set_flag(0, "trusted-ca-file", &authority.ca());
        cluster.set_flag(0, "client-crl-file", &authority.revoke(66)?);
        cluster.restart(0).await?;
        let url = secure(&cluster.endpoint(0));
        let other = Authority::new(cluster.directory(), "other")?;
        let ca = format!("--cacert={}", authority.ca());
        let with = |pair: Pair| {
            [
                format!("--cert={}", shown(&pair.cert)),
                format!("--key={}", shown(&pair.key)),
            ]
        };
        let [cert, key] = with(authority.issue("right", &[], 7, FAR)?);
        assert_eq!(
            succeeds(&url, &[&ca, &cert, &key, "put", "k", "v"]).await?,
            "OK\n"
        );
        fails(&url, &[&ca, "put", "k", "w"]).await?;
        for wrong in [
            other.issue("stranger", &[], 7, FAR)?,
            authority.issue("expired", &[], 8, 2020)?,
            authority.issue("revoked", &[], 66, FAR)?,
            authority.issue_with("early", &[], |params| {
                params.not_before = date_time_ymd(FAR - 1, 1, 1);
            })?,
            authority.issue_with("for-servers", &[], |params| {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            })?,
        ] {
            let [cert, key] = with(wrong);
            fails(&url, &[&ca, &cert, &key, "put", "k", "w"]).await?;
        }
        assert_eq!(
            succeeds(&url, &[&ca, &cert, &key, "get", "k"]).await?,
            "k\nv\n"
        );
        assert!(cluster.has_said(0, "rejected connection on client endpoint"));
        Ok(())
    });
}

/// Gives every member of a cluster TLS towards its peers. `host` says what a member's certificate is for.
fn secure_peers(
    cluster: &mut Cluster,
    authority: &Authority,
    host: impl Fn(usize, &str) -> String,
) -> Result<()> {
    let initial: Vec<String> = (0..cluster.len())
        .map(|index| {
            let url = secure(&cluster.peer_endpoint(index));
            format!("{}={url}", cluster.name(index))
        })
        .collect();
    for index in 0..cluster.len() {
        let url = secure(&cluster.peer_endpoint(index));
        let name = format!("peer{index}");
        let host = host(index, host_of(&url));
        let pair = authority.issue(&name, &[&host], 10 + index as u64, FAR)?;
        for (name, value) in [
            ("initial-cluster", initial.join(",")),
            ("listen-peer-urls", url.clone()),
            ("initial-advertise-peer-urls", url),
            ("peer-cert-file", shown(&pair.cert)),
            ("peer-key-file", shown(&pair.key)),
            ("peer-trusted-ca-file", authority.ca()),
            ("peer-client-cert-auth", "true".to_owned()),
        ] {
            cluster.set_flag(index, name, &value);
        }
    }
    Ok(())
}

async fn start_all(cluster: &mut Cluster) -> Result<()> {
    for index in 0..cluster.len() {
        cluster.spawn(index)?;
    }
    for index in 0..cluster.len() {
        cluster.ready(index).await?;
    }
    Ok(())
}

#[test]
fn three_members_meet_over_tls_and_go_on_when_one_comes_back() {
    claims::run(async {
        let mut cluster = Cluster::new(Kind::Processes(3), &[])?;
        let authority = Authority::new(cluster.directory(), "ours")?;
        secure_peers(&mut cluster, &authority, |_, host| host.to_owned())?;
        start_all(&mut cluster).await?;
        // Without the leader the others would answer that it changed.
        let (leader, follower) = (cluster.leader().await?, cluster.follower().await?);
        let client = cluster.client_of(leader)?;
        client.put(put("k", "v")).await?;
        cluster.kill(follower).await?;
        client.put(put("k", "w")).await?;
        cluster.restart(follower).await?;
        let back = cluster.client_of(follower)?;
        assert_eq!(back.get("k").await?.as_deref(), Some("w"));
        // A stranger that speaks no TLS, and one without a certificate, get nothing.
        let peer = cluster.peer_endpoint(0);
        assert!(plain_request(authority_of(&peer), "/")?.contains("HTTPS server"));
        let mut settings = Settings::new(Flags::PEERS);
        settings.trusted_ca = Some(authority.ca().into());
        assert!(!can_speak(&settings, &peer).await?);
        Ok(())
    });
}

#[test]
fn a_member_whose_certificate_is_another_hosts_is_not_heard() {
    claims::run(async {
        let mut cluster = Cluster::new(Kind::Processes(3), &[])?;
        let authority = Authority::new(cluster.directory(), "ours")?;
        // Signed by the right authority, for a host that is nobody's.
        secure_peers(&mut cluster, &authority, |index, host| match index {
            2 => "elsewhere.example".to_owned(),
            _ => host.to_owned(),
        })?;
        for index in 0..3 {
            cluster.spawn(index)?;
        }
        for index in 0..2 {
            cluster.ready(index).await?;
        }
        let pair = Client::new(&[cluster.endpoint(0), cluster.endpoint(1)])?;
        pair.put(put("k", "v")).await?;
        eventually("the others say why", async || {
            let said = (0..2).any(|index| cluster.has_said(index, "neither for the address"));
            ensure!(said, "not yet");
            Ok(())
        })
        .await?;
        assert!(!cluster.has_said(2, "ready to serve client requests"));
        Ok(())
    });
}

#[test]
fn members_make_certificates_for_themselves_when_they_are_told_to() {
    claims::run(async {
        let mut cluster = Cluster::new(Kind::Processes(3), &[])?;
        let initial: Vec<String> = (0..3)
            .map(|index| {
                let url = secure(&cluster.peer_endpoint(index));
                format!("{}={url}", cluster.name(index))
            })
            .collect();
        for index in 0..3 {
            let (peer, client) = (
                secure(&cluster.peer_endpoint(index)),
                secure(&cluster.endpoint(index)),
            );
            for (name, value) in [
                ("initial-cluster", initial.join(",").as_str()),
                ("listen-peer-urls", &peer),
                ("initial-advertise-peer-urls", &peer),
                ("listen-client-urls", &client),
                ("advertise-client-urls", &client),
                ("peer-auto-tls", "true"),
                ("auto-tls", "true"),
            ] {
                cluster.set_flag(index, name, value);
            }
        }
        start_all(&mut cluster).await?;
        let urls: Vec<String> = (0..3)
            .map(|index| secure(&cluster.endpoint(index)))
            .collect();
        let skip = "--insecure-skip-tls-verify";
        assert_eq!(succeeds(&urls[0], &[skip, "put", "k", "v"]).await?, "OK\n");
        assert_eq!(succeeds(&urls[2], &[skip, "get", "k"]).await?, "k\nv\n");
        let made = cluster.data_dir(0).join("fixtures/client/cert.pem");
        let before = fs::read(&made)?;
        cluster.kill(0).await?;
        cluster.restart(0).await?;
        assert_eq!(fs::read(&made)?, before, "a start makes no new one");
        Ok(())
    });
}

/// Connects over TLS, with the server's own client.
#[derive(Clone)]
struct OverTls(tls::Client);

impl Service<Uri> for OverTls {
    type Response = TokioIo<Stream>;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, std::io::Result<TokioIo<Stream>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            let (host, port) = (to.host().unwrap_or_default(), to.port_u16().unwrap_or(0));
            let stream = network::connect_secured(&client, host, port).await?;
            Ok(TokioIo::new(stream))
        })
    }
}

fn client_over(tls: &tls::Client, plain_url: &str) -> Result<Client> {
    let endpoint = Endpoint::from_shared(plain_url.to_owned())?;
    let channel = endpoint.connect_with_connector_lazy(OverTls(tls.clone()));
    Ok(Client::over(vec![channel]))
}

/// Whether a handshake with these settings leads to a connection that is kept.
async fn can_speak(settings: &Settings, url: &str) -> Result<bool> {
    let client = tls::Client::open(settings.clone())?;
    Ok(client_over(&client, url)?.status().await.is_ok())
}

#[test]
fn certificate_and_authority_are_replaced_under_load_without_a_failed_request() {
    claims::run(rotation());
}

async fn rotation() -> Claim {
    let (mut cluster, old, pair) = secured_member(&[])?;
    let bundle = cluster.directory().join("bundle.crt");
    write(&bundle, &old.pem)?;
    cluster.set_flag(0, "trusted-ca-file", &shown(&bundle));
    cluster.restart(0).await?;
    let url = cluster.endpoint(0);
    let new = Authority::new(cluster.directory(), "new")?;
    let theirs = old.issue("client", &[], 5, FAR)?;
    let mut settings = Settings::new(Flags::CLIENTS);
    settings.trusted_ca = Some(bundle.clone());
    settings.identity = Some((theirs.cert.clone(), theirs.key.clone()));
    let tls = tls::Client::open(settings)?;

    let (stop, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let load = |reconnects: bool| {
        let (tls, url, stop, done) = (tls.clone(), url.clone(), stop.clone(), done.clone());
        tokio::spawn(async move {
            let mut client = client_over(&tls, &url)?;
            while !stop.load(Ordering::Relaxed) {
                client.put(put("k", "v")).await?;
                done.fetch_add(1, Ordering::Relaxed);
                if reconnects {
                    client = client_over(&tls, &url)?;
                }
            }
            anyhow::Ok(())
        })
    };
    let loads = [load(false), load(false), load(true), load(true)];
    // Each step is followed by requests over connections that were made after it.
    let goes_on = async || {
        let from = done.load(Ordering::Relaxed);
        eventually("requests go on", async || {
            ensure!(done.load(Ordering::Relaxed) > from + 40, "not yet");
            Ok(())
        })
        .await
    };
    goes_on().await?;
    write(&bundle, old.pem.clone() + &new.pem)?;
    goes_on().await?;
    // The server's certificate first, then its key: what lies between is a pair that does not fit.
    let fresh = new.issue("server", &[host_of(&url)], 20, FAR)?;
    write(&pair.cert, fs::read(&fresh.cert)?)?;
    goes_on().await?;
    write(&pair.key, fs::read(&fresh.key)?)?;
    goes_on().await?;
    let fresh = new.issue("client", &[], 21, FAR)?;
    write(&theirs.key, fs::read(&fresh.key)?)?;
    write(&theirs.cert, fs::read(&fresh.cert)?)?;
    goes_on().await?;
    write(&bundle, &new.pem)?;
    goes_on().await?;
    stop.store(true, Ordering::Relaxed);
    for load in loads {
        load.await??;
    }
    // The old authority is believed no more, by either side.
    let mut outdated = Settings::new(Flags::CLIENTS);
    outdated.trusted_ca = Some(old.ca().into());
    assert!(!can_speak(&outdated, &url).await?);
    Ok(())
}

#[test]
fn a_socket_of_the_file_system_serves_plain_and_secured() {
    claims::run(async {
        let (mut cluster, authority, _) = secured_member(&[])?;
        let socket = cluster.directory().join("plain.sock");
        let secured = cluster.directory().join("secured.sock");
        let url = secure(&cluster.endpoint(0));
        let listen = format!(
            "{url},unix://{},unixs://{}",
            socket.display(),
            secured.display()
        );
        cluster.set_flag(0, "listen-client-urls", &listen);
        cluster.restart(0).await?;
        let endpoint = format!("unix://{}", socket.display());
        assert_eq!(succeeds(&endpoint, &["put", "k", "v"]).await?, "OK\n");
        let ca = format!("--cacert={}", authority.ca());
        assert_eq!(succeeds(&url, &[&ca, "get", "k"]).await?, "k\nv\n");
        let endpoint = format!("unixs://{}", secured.display());
        let skip = "--insecure-skip-tls-verify";
        assert_eq!(
            succeeds(&endpoint, &[skip, "--insecure-transport=false", "get", "k"]).await?,
            "k\nv\n"
        );
        // A file that was left behind does not keep it from starting.
        cluster.kill(0).await?;
        assert!(socket.exists());
        cluster.restart(0).await?;
        let endpoint = format!("unix://{}", socket.display());
        assert_eq!(succeeds(&endpoint, &["get", "k"]).await?, "k\nv\n");
        Ok(())
    });
}

#[test]
fn a_client_that_speaks_the_other_way_is_told_so_and_does_no_harm() {
    claims::run(async {
        let (mut cluster, authority, _) = secured_member(&[])?;
        cluster.restart(0).await?;
        let plain = cluster.endpoint(0);
        let said = plain_request(authority_of(&plain), "/health")?;
        assert!(said.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{said}");
        assert!(said.contains("Client sent an HTTP request to an HTTPS server."));
        fails(&plain, &["put", "k", "v"]).await?;
        let ca = format!("--cacert={}", authority.ca());
        succeeds(&secure(&plain), &[&ca, "put", "k", "v"]).await?;
        // TLS on a plain port, then both on one.
        cluster.kill(0).await?;
        cluster.set_flag(0, "listen-client-urls", &plain);
        cluster.restart(0).await?;
        fails(&secure(&plain), &[&ca, "get", "k"]).await?;
        assert_eq!(succeeds(&plain, &["get", "k"]).await?, "k\nv\n");
        cluster.kill(0).await?;
        cluster.set_flag(
            0,
            "listen-client-urls",
            &format!("{plain},{}", secure(&plain)),
        );
        cluster.restart(0).await?;
        assert_eq!(succeeds(&plain, &["get", "k"]).await?, "k\nv\n");
        assert_eq!(
            succeeds(&secure(&plain), &[&ca, "get", "k"]).await?,
            "k\nv\n"
        );
        Ok(())
    });
}

#[test]
fn handshakes_that_are_slow_or_nonsense_end_and_leave_nothing_behind() {
    claims::run(async {
        let (mut cluster, authority, _) = secured_member(&[])?;
        cluster.restart(0).await?;
        let url = cluster.endpoint(0);
        let ca = format!("--cacert={}", authority.ca());
        let process = cluster.process_id(0)?;
        // A record of the handshake, 512 bytes of a greeting that is none.
        let nonsense = [[22, 3, 1, 2, 0].as_slice(), &[7; 512]].concat();
        let attempt = |bytes: &[u8]| -> Result<TcpStream> {
            let mut stream = connect(authority_of(&url))?;
            stream.write_all(bytes)?;
            Ok(stream)
        };
        let many = || -> Result<()> {
            for _ in 0..500 {
                let mut stream = attempt(&nonsense)?;
                let _ = stream.read_to_end(&mut Vec::new());
            }
            Ok(())
        };
        many()?;
        let before = resident(process)?;
        for _ in 0..4 {
            many()?;
        }
        let grown = resident(process)?.saturating_sub(before);
        assert!(
            grown < 8 << 20,
            "two thousand handshakes left {grown} bytes"
        );
        // Greetings that never end: others are served meanwhile, and they are cut.
        let began = Instant::now();
        let slow: Vec<TcpStream> = (0..300)
            .map(|_| attempt(&nonsense[..100]))
            .collect::<Result<_>>()?;
        succeeds(&secure(&url), &[&ca, "put", "k", "v"]).await?;
        for mut stream in slow {
            match stream.read_to_end(&mut Vec::new()) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(9), "cut after {took:?}");
        let held = resident(process)?.saturating_sub(before);
        assert!(held < 16 << 20, "slow handshakes left {held} bytes");
        Ok(())
    });
}

#[test]
fn files_that_do_not_fit_are_named_by_their_flag() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(folder.path(), "ours")?;
    let pair = authority.issue("server", &["127.0.0.1"], 1, FAR)?;
    let (cert, key) = (shown(&pair.cert), shown(&pair.key));
    for (flag, words) in [
        ("--listen-client-urls", vec![]),
        (
            "--cert-file",
            vec!["--cert-file=/no/such/file", "--key-file=/no/such/key"],
        ),
        ("--key-file", vec!["--cert-file=/no/such/file"]),
        (
            "--key-file",
            vec![
                &*format!("--cert-file={cert}"),
                &*format!("--key-file={cert}"),
            ],
        ),
        (
            "--trusted-ca-file",
            vec![
                &*format!("--cert-file={cert}"),
                &*format!("--key-file={key}"),
                &*format!("--trusted-ca-file={key}"),
            ],
        ),
    ]
    .map(|(flag, words)| {
        (
            flag,
            words.into_iter().map(str::to_owned).collect::<Vec<_>>(),
        )
    }) {
        let output = Command::new(process::server_program()?)
            .args([
                format!("--data-dir={}", folder.path().join("data").display()),
                "--listen-client-urls=https://127.0.0.1:0".to_owned(),
                "--advertise-client-urls=https://127.0.0.1:1".to_owned(),
            ])
            .args(&words)
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success(), "{words:?}");
        assert!(said.contains(flag), "{words:?}: {said}");
    }
    Ok(())
}
