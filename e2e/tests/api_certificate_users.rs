//! With `--client-cert-auth` the common name of a client's certificate is a user's name where no token says otherwise: a
//! real etcd and Coord, asked the same by etcdctl.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result};
use coord_e2e::clients::programs;
use coord_e2e::cluster::claims;
use coord_e2e::cluster::process::Program;
use coord_e2e::cluster::{Cluster, Kind};
use coord_server::network;
use coord_server::tls::{self, Flags, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;

#[path = "api_tls/authority.rs"]
#[expect(dead_code, reason = "it is shared, and nothing is revoked here")]
mod authority;

use authority::{Authority, Pair, shown};

const PATIENCE: Duration = Duration::from_secs(30);
const FAR: i32 = 4000;

/// A member whose clients show certificates, and what they need for it.
struct Secured {
    cluster: Cluster,
    authority: Authority,
    endpoint: String,
}

impl Secured {
    async fn start(program: Program) -> Result<Self> {
        let mut cluster = Cluster::new(Kind::Processes(1), &[])?;
        cluster.set_program(program);
        let authority = Authority::new(cluster.directory(), "ours")?;
        let endpoint = cluster.endpoint(0).replacen("http://", "https://", 1);
        let host = endpoint.split(['/', ':']).nth(3).context("a host")?;
        // etcd's gateway dials itself with it: it must be good for a client, too.
        let server = authority.issue("server", &[host], 1, FAR)?;
        for (name, value) in [
            ("listen-client-urls", endpoint.as_str()),
            ("advertise-client-urls", &endpoint),
            ("cert-file", &shown(&server.cert)),
            ("key-file", &shown(&server.key)),
            ("trusted-ca-file", &authority.ca()),
            ("client-cert-auth", "true"),
        ] {
            cluster.set_flag(0, name, value);
        }
        cluster.spawn(0)?;
        cluster.ready(0).await?;
        Ok(Self {
            cluster,
            authority,
            endpoint,
        })
    }

    /// The words of etcdctl for the client of that name.
    async fn said(&self, who: &str, words: &[&str]) -> Result<String> {
        let Pair { cert, key } = self.authority.issue(who, &[], 2, FAR)?;
        let output = Command::new(programs::etcdctl()?)
            .args(["--command-timeout=10s", "--endpoints", &self.endpoint])
            .arg("--cacert")
            .arg(self.authority.ca())
            .arg("--cert")
            .arg(cert)
            .arg("--key")
            .arg(key)
            .args(words)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(PATIENCE, output).await??;
        Ok(programs::etcdctl_said(&output))
    }
}

/// Clients by the name in their certificate, and their commands.
const SCRIPT: &[(&str, &str)] = &[
    ("root", "user add root --no-password"),
    ("root", "user add ann --no-password"),
    ("root", "user add bob:bobpw"),
    ("root", "role add reader"),
    ("root", "role grant-permission reader readwrite a/ --prefix"),
    ("root", "user grant-role ann reader"),
    ("root", "user grant-role root root"),
    // Nothing is asked of anybody before.
    ("nobody", "put z 1"),
    ("root", "auth enable"),
    ("ann", "put a/1 1"),
    ("ann", "get a/ --prefix"),
    ("ann", "put z 2"),
    ("ann", "get z"),
    ("ann", "watch z --rev=1"),
    ("nobody", "get a/1"),
    ("root", "get z"),
    ("root", "user list"),
    ("ann", "user list"),
    ("ann", "member list --write-out=fields --hex=nonsense"),
    // A token comes first.
    ("root", "--user bob:bobpw get z"),
    ("ann", "--user bob:wrong get a/1"),
    ("bob", "get a/1"),
    // In queues, on the caller's behalf.
    ("ann", "lock a/lock echo held"),
    ("ann", "lock z/lock echo held"),
    ("root", "elect z/elect me --listen=nonsense"),
    ("root", "auth disable"),
    ("nobody", "get z"),
];

#[test]
fn a_common_name_is_a_user_where_no_token_says_otherwise() {
    claims::run(async {
        let etcd = Program {
            path: Some(programs::etcd()?),
            ..Program::default()
        };
        let etcd = Secured::start(etcd).await?;
        let coord = Secured::start(Program::default()).await?;
        for (who, line) in SCRIPT {
            let words = Vec::from_iter(line.split(' '));
            let expected = etcd.said(who, &words).await?;
            let said = coord.said(who, &words).await?;
            assert_eq!(said, expected, "{who}: etcdctl {line}");
            if *line == "auth enable" {
                assert!(said.contains("Authentication Enabled"), "{said}");
                through_the_gateway(&coord).await?;
            }
        }
        drop((etcd.cluster, coord.cluster));
        Ok(())
    });
}

/// There it says nothing, and a client that may think otherwise is told, in etcd's words; pages are for everybody.
async fn through_the_gateway(coord: &Secured) -> Result<()> {
    let pair = coord.authority.issue("root", &[], 2, FAR)?;
    let mut settings = Settings::new(Flags::CLIENTS);
    settings.trusted_ca = Some(coord.authority.ca().into());
    settings.identity = Some((pair.cert, pair.key));
    let tls = tls::Client::open(settings)?;
    let place = coord.endpoint.trim_start_matches("https://");
    let (host, port) = place.split_once(':').context("a port")?;
    for (path, status, words) in [
        (
            "/v3/kv/range",
            400,
            "CommonName of client sending a request against gateway",
        ),
        (
            "/v3/nonsense",
            400,
            "CommonName of client sending a request against gateway",
        ),
        ("/health", 200, "true"),
    ] {
        let mut stream = network::connect_secured(&tls, host, port.parse()?).await?;
        let verb = if status == 200 { "GET" } else { "POST" };
        let head = format!(
            "{verb} {path} HTTP/1.1\r\nHost: any\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        // It may end without the farewell of TLS.
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(answer.contains(&format!(" {status} ")), "{path}: {answer}");
        assert!(answer.contains(words), "{path}: {answer}");
    }
    Ok(())
}
