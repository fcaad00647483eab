//! Settings by flag, variable and file: as kubeadm, k3s, and the charts of Bitnami and Milvus set them.

use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::Client;
use coord_e2e::clients::etcd::request::{op, put, range, txn};
use coord_e2e::clients::http;
use coord_e2e::cluster::address::Address;
use coord_e2e::cluster::claims::{self, refused};
use coord_e2e::cluster::process::Process;
use coord_e2e::cluster::{Cluster, Kind, process, within};
use coord_proto::etcd::etcdserverpb as pb;
use tonic::Code;

fn ended(words: &[&str], environment: &[(&str, &str)]) -> Result<Output> {
    let mut command = Command::new(process::server_program()?);
    command.args(words).envs(environment.iter().copied());
    Ok(command.stdin(Stdio::null()).output()?)
}

fn said(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    format!("{out}{err}")
}

#[test]
fn all_flags_that_cannot_be_had_are_named_at_once() -> Result<()> {
    let words = ["--no-such=1", "--nor-this", "5", "-name", "a"];
    let output = ended(&words, &[])?;
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(
        said.contains("flag provided but not defined: -no-such"),
        "{said}"
    );
    if process::oracle().is_none() {
        assert!(
            said.contains("-nor-this"),
            "etcd names the first only: {said}"
        );
        let output = ended(&["--discovery=d", "--wal-dir=/w"], &[])?;
        assert_eq!(output.status.code(), Some(2));
        let said = self::said(&output);
        assert!(
            said.contains("discovery") && said.contains("wal-dir"),
            "{said}"
        );
    }
    Ok(())
}

#[test]
fn the_same_setting_by_flag_and_by_variable_ends_the_program() -> Result<()> {
    let directory = tempfile::tempdir()?;
    let data_dir = format!("--data-dir={}", directory.path().display());
    let output = ended(&["--name=b", &data_dir], &[("ETCD_NAME", "a")])?;
    assert!(!output.status.success());
    let said = said(&output);
    assert!(
        said.contains("conflicting environment variable is shadowed"),
        "{said}"
    );
    assert!(said.contains("ETCD_NAME"), "{said}");
    Ok(())
}

/// Starts one member with nothing but these words and variables, and its own addresses.
async fn started(
    address: &Address,
    words: &[String],
    environment: &[(&str, &str)],
) -> Result<(Process, Client)> {
    let environment: Vec<_> = environment
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let program = process::server_program()?;
    let mut member = Process::spawn_in(None, &program, "m", words, &environment)?;
    member.ready().await?;
    let client = Client::new(&[address.client_url()])?;
    client.put(put("a", "1")).await?;
    Ok((member, client))
}

fn words(address: &Address, directory: &std::path::Path, more: &[&str]) -> Vec<String> {
    let mut words = vec![
        format!("--data-dir={}", directory.display()),
        format!("--listen-client-urls={}", address.client_url()),
        format!("--advertise-client-urls={}", address.client_url()),
        format!("--listen-peer-urls={}", address.peer_url()),
        format!("--initial-advertise-peer-urls={}", address.peer_url()),
        format!("--initial-cluster=m={}", address.peer_url()),
    ];
    words.extend(more.iter().map(|word| (*word).to_owned()));
    words
}

#[test]
fn kubeadms_flags_start_a_member() {
    claims::run(async {
        let (address, pages) = (Address::claim()?, Address::claim()?);
        let directory = tempfile::tempdir()?;
        let metrics = format!("--listen-metrics-urls={}", pages.client_url());
        // Without those about TLS.
        let more = [
            "--name=m",
            "--snapshot-count=10000",
            "--feature-gates=InitialCorruptCheck=true",
            "--watch-progress-notify-interval=5s",
            &metrics,
        ];
        let words = words(&address, directory.path(), &more);
        let (_member, _) = started(&address, &words, &[]).await?;
        for path in ["/metrics", "/health", "/livez", "/readyz"] {
            let page = http::request("GET", &pages.client_url(), path).await?;
            assert_eq!(page.status, 200, "{path}");
        }
        let other = Client::new(&[pages.client_url()])?;
        assert!(
            other.get("a").await.is_err(),
            "the pages alone are served there"
        );
        Ok(())
    });
}

#[test]
fn plain_http_has_urls_of_its_own_where_that_is_asked_for() {
    claims::run(async {
        let directory = tempfile::tempdir()?;
        let (address, other) = (Address::claim()?, Address::claim()?);
        let split = format!("--listen-client-http-urls={}", other.client_url());
        let words = words(&address, directory.path(), &["--name=m", &split]);
        // Puts by gRPC where clients listen.
        let (member, client) = started(&address, &words, &[]).await?;
        let (grpc, plain) = (address.client_url(), other.client_url());
        for path in ["/health", "/version", "/metrics", "/readyz"] {
            let page = http::request("GET", &plain, path).await?;
            assert_eq!(page.status, 200, "{path}");
            let page = http::request("GET", &grpc, path).await?;
            assert_eq!(page.status, 415, "{path}");
            assert!(
                page.body().contains("listen-client-http-urls"),
                "{}",
                page.body()
            );
        }
        let body = r#"{"key":"YQ==","value":"Mg=="}"#;
        let ask = || http::Ask {
            body,
            ..http::Ask::default()
        };
        let put = http::ask("POST", &plain, "/v3/kv/put", ask()).await?;
        assert_eq!(put.status, 200, "{}", put.body());
        assert_eq!(client.get("a").await?.as_deref(), Some("2"));
        let put = http::ask("POST", &grpc, "/v3/kv/put", ask()).await?;
        assert_eq!(put.status, 415, "{}", put.body());
        let call = Client::new(&[plain])?.get("a").await;
        assert!(call.is_err(), "{call:?}");
        member.stop().await?;

        let same = format!("--listen-client-http-urls={}", address.client_url());
        let words: Vec<&str> = words.iter().chain([&same]).map(String::as_str).collect();
        let output = ended(&words, &[])?;
        assert_eq!(output.status.code(), Some(2));
        let why =
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url";
        assert!(said(&output).contains(why), "{}", said(&output));
        Ok(())
    });
}

#[test]
fn log_lines_go_where_and_look_as_that_is_asked_for() {
    claims::run(async {
        let directory = tempfile::tempdir()?;
        let address = Address::claim()?;
        let path = directory.path().join("logs/etcd.log");
        let outputs = format!("--log-outputs=stdout,{}", path.display());
        let data = directory.path().join("data");
        let more = [
            "--name=m",
            "--log-format=console",
            "--enable-log-rotation",
            r#"--log-rotation-config-json={"maxsize": 1, "maxbackups": 2, "compress": true}"#,
            &outputs,
        ];
        let words = words(&address, &data, &more);
        let (member, _) = started(&address, &words, &[]).await?;
        let ready = "\tready to serve client requests\t{\"member_id\": ";
        assert!(member.has_said(ready), "{:?}", member.lines());
        assert!(std::fs::read_to_string(&path)?.contains(ready));
        member.stop().await?;
        for (flags, why) in [
            (
                ["--log-outputs=a.log,b.log", "--enable-log-rotation"],
                "a single file path",
            ),
            (
                ["--log-outputs=/nowhere/a.log", "--log-format=json"],
                "/nowhere/a.log",
            ),
            (
                ["--log-outputs=stderr", "--log-format=xml"],
                "unknown log format: xml",
            ),
        ] {
            let words: Vec<&str> = words[..1].iter().map(String::as_str).chain(flags).collect();
            let output = ended(&words, &[])?;
            assert_eq!(output.status.code(), Some(2));
            assert!(said(&output).contains(why), "{}", said(&output));
        }
        Ok(())
    });
}

#[test]
fn charts_variables_start_a_member() {
    claims::run(async {
        let address = Address::claim()?;
        let directory = tempfile::tempdir()?;
        let (client, peer) = (address.client_url(), address.peer_url());
        let data_dir = directory.path().display().to_string();
        let cluster = format!("m={peer}");
        // Milvus and Bitnami set these; the last two are what Kubernetes makes of a Service called etcd.
        let environment = [
            ("ETCD_NAME", "m"),
            ("ETCD_DATA_DIR", data_dir.as_str()),
            ("ETCD_LISTEN_CLIENT_URLS", &client),
            ("ETCD_ADVERTISE_CLIENT_URLS", &client),
            ("ETCD_LISTEN_PEER_URLS", &peer),
            ("ETCD_INITIAL_ADVERTISE_PEER_URLS", &peer),
            ("ETCD_INITIAL_CLUSTER", &cluster),
            ("ETCD_INITIAL_CLUSTER_STATE", "new"),
            ("ETCD_INITIAL_CLUSTER_TOKEN", "etcd-cluster-k8s"),
            ("ETCD_AUTO_COMPACTION_MODE", "revision"),
            ("ETCD_AUTO_COMPACTION_RETENTION", "1000"),
            ("ETCD_QUOTA_BACKEND_BYTES", "4294967296"),
            ("ETCD_HEARTBEAT_INTERVAL", "500"),
            ("ETCD_ELECTION_TIMEOUT", "2500"),
            ("ETCD_SNAPSHOT_COUNT", "50000"),
            ("ETCD_LOG_LEVEL", "info"),
            ("ETCD_EXPERIMENTAL_WATCH_PROGRESS_NOTIFY_INTERVAL", ""),
            ("ETCD_NP01_PORT_2379_TCP", "tcp://1.2.3.4:2379"),
            ("ETCD_SERVICE_HOST", "1.2.3.4"),
        ];
        let (member, client) = started(&address, &[], &environment).await?;
        assert_eq!(client.status().await?.db_size_quota, 4_294_967_296);
        assert!(member.has_said("unrecognized environment variable"));
        Ok(())
    });
}

#[test]
fn a_file_says_everything_and_flags_beside_it_nothing() {
    claims::run(async {
        let address = Address::claim()?;
        let directory = tempfile::tempdir()?;
        let file = directory.path().join("etcd.yml");
        // As k3s writes it.
        let text = format!(
            "name: m\ndata-dir: {}\nlisten-client-urls: {client}\nadvertise-client-urls: {client}\n\
             listen-peer-urls: {peer}\ninitial-advertise-peer-urls: {peer}\ninitial-cluster: m={peer}\n\
             initial-cluster-state: new\nheartbeat-interval: 500\nelection-timeout: 5000\n\
             snapshot-count: 10000\nlogger: zap\nlog-outputs:\n- stderr\nquota-backend-bytes: 104857600\n\
             watch-progress-notify-interval: 5000000000\nlisten-metrics-urls:\n",
            directory.path().join("data").display(),
            client = address.client_url(),
            peer = address.peer_url(),
        );
        std::fs::write(&file, text)?;
        let words = [
            format!("--config-file={}", file.display()),
            "--name=other".to_owned(),
        ];
        let (_member, client) = started(&address, &words, &[]).await?;
        assert_eq!(client.status().await?.db_size_quota, 104_857_600);
        assert_eq!(client.members().await?[0].name, "m");
        Ok(())
    });
}

#[test]
fn history_goes_by_itself_where_that_is_asked_for() {
    claims::run(async {
        let flags = [
            ("auto-compaction-mode", "periodic"),
            ("auto-compaction-retention", "1s"),
        ];
        let cluster = Cluster::start_with(Kind::Processes(3), &flags).await?;
        let client = cluster.client()?;
        for value in ["1", "2", "3"] {
            client.put(put("a", value)).await?;
        }
        let newest = client.revision().await?;
        let old = || pb::RangeRequest {
            revision: newest - 1,
            ..range("a")
        };
        client.range(old()).await?;
        within(Duration::from_secs(30), "history is gone", || async {
            let read = client.range(old()).await;
            let status = read.err().context("it is there")?;
            ensure!(status.code() == Code::OutOfRange, "{status}");
            Ok(())
        })
        .await?;
        assert_eq!(client.get("a").await?, Some("3".into()));
        Ok(())
    });
}

#[test]
fn larger_requests_and_transactions_are_taken_where_that_is_asked_for() {
    claims::run(async {
        let flags = [("max-request-bytes", "3000000"), ("max-txn-ops", "200")];
        let cluster = Cluster::start_with(Kind::Processes(3), &flags).await?;
        let client = cluster.client()?;
        let puts = |number: usize| {
            let puts = (0..number).map(|key| op(put(&format!("k{key}"), "v")));
            txn([], puts.collect::<Vec<_>>(), [])
        };
        client.txn(puts(200)).await?;
        let many = refused(client.txn(puts(201)).await);
        let text = "etcdserver: too many operations in txn request";
        assert_eq!(many, (Code::InvalidArgument, text.to_owned()));
        client.put(put("large", &"v".repeat(2_900_000))).await?;
        let large = refused(client.put(put("large", &"v".repeat(3_000_001))).await);
        let text = "etcdserver: request is too large";
        assert_eq!(large, (Code::InvalidArgument, text.to_owned()));
        for index in 0..cluster.len() {
            let client = cluster.client_of(index)?;
            let value = client.get("large").await?;
            assert_eq!(value.map(|value| value.len()), Some(2_900_000));
        }
        Ok(())
    });
}

#[test]
fn watchers_are_told_of_progress_as_often_as_that_is_asked_for() {
    claims::run(async {
        let flags = [("watch-progress-notify-interval", "200ms")];
        let cluster = Cluster::start_with(Kind::Processes(1), &flags).await?;
        let create = pb::WatchCreateRequest {
            key: "a".into(),
            progress_notify: true,
            ..Default::default()
        };
        let mut watch = cluster.client()?.watching(create).await?;
        for _ in 0..3 {
            let told = watch.next().await?;
            assert!(told.events.is_empty() && !told.canceled, "{told:?}");
        }
        Ok(())
    });
}
