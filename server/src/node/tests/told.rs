//! A member with an owner on an empty directory waits, forms a cluster when it is told to, and only then; its directory
//! serves nobody else.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::cli::Settings;
use crate::config::Config;
use crate::node::{Node, Stop};

/// Nobody waits longer in a test that passes.
const LIMIT: Duration = Duration::from_secs(30);

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A member of a cluster whose others are not there.
fn config(dir: &Path, owner: &str, token: &str, port: u16) -> Config {
    let client = format!("http://127.0.0.1:{port}");
    let settings = [
        ("name", "m0"),
        ("data-dir", dir.to_str().unwrap()),
        ("listen-client-urls", &client),
        ("advertise-client-urls", &client),
        ("listen-peer-urls", "http://127.0.0.1:0"),
        ("initial-advertise-peer-urls", "http://m0.test:1"),
        (
            "initial-cluster",
            "m0=http://m0.test:1,any=http://127.0.0.1:1",
        ),
        ("initial-cluster-state", "existing"),
        ("initial-cluster-token", token),
        ("coord-owner", owner),
    ];
    let settings = settings
        .into_iter()
        .fold(Settings::default(), |all, (name, value)| {
            all.with(name, value)
        });
    Config::resolve(&settings).unwrap()
}

/// Status and body, once somebody listens there.
async fn ask(port: u16, method: &str, path: &str) -> (u16, String) {
    let asked = async {
        loop {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            };
            let head = format!("{method} {path} HTTP/1.1\r\nHost: m0\r\nConnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            let code = head.split(' ').nth(1).unwrap().parse().unwrap();
            return (code, body.to_owned());
        }
    };
    tokio::time::timeout(LIMIT, asked).await.expect("an answer")
}

async fn waiting(port: u16) -> serde_json::Value {
    let (code, body) = ask(port, "GET", "/coord/waiting").await;
    assert_eq!(code, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn an_empty_member_forms_a_cluster_only_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let starting = tokio::spawn(Node::start(config(dir.path(), "ns/demo/m0", "t", port)));
    let said = waiting(port).await;
    assert_eq!(said["reason"], "not-added");
    let start = said["start"].as_str().expect("it can be told").to_owned();
    for (path, part) in [
        (
            "/coord/bootstrap".to_owned(),
            "another --initial-cluster-token",
        ),
        (
            format!("/coord/bootstrap?token=u&start={start}"),
            "another --initial-cluster-token",
        ),
        (
            "/coord/bootstrap?token=t&start=x".to_owned(),
            "started again since",
        ),
    ] {
        let (code, body) = ask(port, "POST", &path).await;
        assert!(code == 409 && body.contains(part), "{code} {body}");
    }
    assert!(!starting.is_finished());
    let right = format!("/coord/bootstrap?token=t&start={start}");
    assert_eq!(ask(port, "POST", &right).await.0, 202);
    let node = tokio::time::timeout(LIMIT, starting)
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    node.coordinator().members(true).await.expect("it leads");
    // The word is used up with the wait.
    assert_ne!(ask(port, "POST", &right).await.0, 202);
    let cluster = node.coordinator().identity().cluster;
    node.stop().await;

    // The same flags find what was written.
    let node = Node::start(config(dir.path(), "ns/demo/m0", "t", port))
        .await
        .unwrap();
    assert_eq!(node.coordinator().identity().cluster, cluster);
    node.stop().await;
}

#[tokio::test]
async fn a_directory_of_another_is_not_served_from() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port();
    let starting = tokio::spawn(Node::start(config(dir.path(), "ns/demo/m0", "t", port)));
    let start = waiting(port).await["start"].as_str().unwrap().to_owned();
    ask(
        port,
        "POST",
        &format!("/coord/bootstrap?token=t&start={start}"),
    )
    .await;
    starting.await.unwrap().unwrap().stop().await;

    for (owner, token) in [
        ("copy/demo/m0", "t"),
        ("ns/demo/m1", "t"),
        ("ns/demo/m0", "u"),
    ] {
        let port = free_port();
        let starting = tokio::spawn(Node::start(config(dir.path(), owner, token, port)));
        let said = waiting(port).await;
        assert_eq!(said["reason"], "foreign", "{said}");
        assert!(
            said["why"].as_str().unwrap().contains("ns/demo/m0"),
            "{said}"
        );
        assert!(said["start"].is_null(), "{said}");
        let (code, page) = ask(port, "GET", "/readyz").await;
        assert!(code == 503 && page.contains("ns/demo/m0"), "{page}");
        assert_eq!(ask(port, "GET", "/livez").await.0, 200);
        starting.abort();
        let _ = starting.await;
    }
    // It ends once something else is there, so that the next start looks at that.
    let starting = tokio::spawn(Node::start(config(dir.path(), "ns/demo/m1", "t", port)));
    waiting(port).await;
    std::fs::remove_dir_all(dir.path().join("wal")).unwrap();
    let ended = tokio::time::timeout(LIMIT, starting)
        .await
        .unwrap()
        .unwrap();
    assert!(matches!(ended, Err(Stop::Refused(_))));
}
