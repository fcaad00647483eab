//! The command line, as programs that start an etcd use it.

use std::process::{Command, Output, Stdio};

use coord_e2e::clients::etcd::request::put;
use coord_e2e::cluster::claims::{self, Claim, refused};
use coord_e2e::cluster::{Cluster, Kind, process};
use tonic::Code;

fn server(words: &[&str]) -> anyhow::Result<Output> {
    Ok(Command::new(process::server_program()?)
        .args(words)
        .stdin(Stdio::null())
        .output()?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn version_is_printed_with_the_line_that_tools_look_for() -> anyhow::Result<()> {
    let output = server(&["--version"])?;
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    let first = said.lines().next().unwrap_or_default();
    assert!(first.starts_with("etcd Version: 3."), "{said}");
    Ok(())
}

#[test]
fn help_is_printed_with_success() -> anyhow::Result<()> {
    let output = server(&["--help"])?;
    assert_eq!(output.status.code(), Some(0));
    let said = text(&output.stdout) + &text(&output.stderr);
    for flag in [
        "--listen-client-urls",
        "--initial-cluster-state",
        "--data-dir",
        "--quota-backend-bytes",
    ] {
        assert!(said.contains(flag), "no {flag} in\n{said}");
    }
    Ok(())
}

#[test]
fn an_unknown_flag_is_named_and_ends_with_two() -> anyhow::Result<()> {
    let output = server(&["--no-such-flag=1"])?;
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(
        said.contains("flag provided but not defined: -no-such-flag"),
        "{said}"
    );
    Ok(())
}

#[test]
fn a_flag_without_its_value_ends_with_two() -> anyhow::Result<()> {
    let output = server(&["--name"])?;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("flag needs an argument: -name"));
    Ok(())
}

#[test]
fn a_wrong_value_is_refused_before_anything_is_written() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let data = directory.path().join("data");
    let data_dir = format!("--data-dir={}", data.display());
    for wrong in [
        "--listen-client-urls=nonsense",
        "--initial-cluster-state=perhaps",
        "--election-timeout=100",
        "--initial-cluster=other=http://127.0.0.1:2380",
    ] {
        let output = server(&[&data_dir, "--name=a", wrong])?;
        assert!(!output.status.success(), "{wrong}");
        // etcd sees the last of them only when it has made its directory.
        assert!(
            process::oracle().is_some() || !data.exists(),
            "{wrong} left something behind"
        );
    }
    Ok(())
}

#[test]
fn the_last_of_two_equal_flags_wins() {
    claims::run(async {
        // The cluster's own flags come first.
        let mut cluster = Cluster::new(Kind::Processes(1), &[("name", "wrong"), ("name", "m0")])?;
        cluster.restart(0).await?;
        assert_eq!(cluster.client()?.members().await?[0].name, "m0");
        Ok(())
    });
}

#[test]
fn a_full_store_refuses_writes_and_still_reads_and_deletes() {
    claims::run(async {
        let cluster =
            Cluster::start_with(Kind::Processes(1), &[("quota-backend-bytes", "1000000")]).await?;
        a_full_store(&cluster).await
    });
}

async fn a_full_store(cluster: &Cluster) -> Claim {
    let client = cluster.client()?;
    let large = "v".repeat(100_000);
    let mut stored = 0;
    let refusal = loop {
        match client.put(put(&format!("k{stored}"), &large)).await {
            Ok(_) => stored += 1,
            Err(status) => break refused::<()>(Err(status)),
        }
        assert!(stored < 100, "ten times the quota was stored");
    };
    assert_eq!(
        refusal,
        (
            Code::ResourceExhausted,
            "etcdserver: mvcc: database space exceeded".into()
        )
    );
    assert!(stored >= 3, "only {stored} of ten values fitted");
    assert_eq!(
        client.get("k0").await?.map(|value| value.len()),
        Some(large.len())
    );
    client
        .delete(coord_e2e::clients::etcd::request::delete("k0"))
        .await?;
    assert_eq!(client.get("k0").await?, None);
    Ok(())
}

#[test]
fn sigterm_ends_a_member_promptly() {
    claims::run(async {
        let mut cluster = Cluster::start(Kind::Processes(1)).await?;
        cluster.client()?.put(put("a", "1")).await?;
        let mut stream = cluster.client()?.watch();
        stream
            .create(coord_e2e::clients::etcd::request::watch("a"))
            .await?;
        let asked = tokio::time::Instant::now();
        cluster.stop(0).await?;
        let took = asked.elapsed();
        if process::oracle().is_some() {
            return Ok(()); // etcd waits seconds for open watches.
        }
        assert!(
            took < std::time::Duration::from_secs(4),
            "took {took:?} with a watch open"
        );
        Ok(())
    });
}
