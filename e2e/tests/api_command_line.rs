//! The command line, as programs that start an etcd use it.

use std::process::{Command, Output, Stdio};

use coord_e2e::clients::etcd::request::{compare, op, put, range, txn};
use coord_e2e::clients::http;
use coord_e2e::cluster::claims::{self, Claim, refused};
use coord_e2e::cluster::{Cluster, Kind, process};
use coord_proto::etcd::etcdserverpb as pb;
use futures::future::join_all;
use pb::compare::{CompareResult, TargetUnion};
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
    says_that_it_is_full(cluster, true).await?;
    client
        .delete(coord_e2e::clients::etcd::request::delete("k0"))
        .await?;
    assert_eq!(client.get("k0").await?, None);
    Ok(())
}

/// As etcd's alarm shows, wherever somebody looks.
async fn says_that_it_is_full(cluster: &Cluster, is_full: bool) -> Claim {
    let client = cluster.client()?;
    let status = client.status().await?;
    let member = status.header.as_ref().map_or(0, |header| header.member_id);
    let alarm = pb::AlarmMember {
        member_id: member,
        alarm: pb::AlarmType::Nospace.into(),
    };
    let (alarms, errors, health) = match is_full {
        false => (vec![], vec![], (200, "true", "")),
        true => (
            vec![alarm],
            vec![format!("memberID:{member} alarm:NOSPACE")],
            (503, "false", "ALARM NOSPACE"),
        ),
    };
    assert_eq!(
        client.alarm(pb::AlarmRequest::default()).await?.alarms,
        alarms
    );
    // etcd has a space too many here and there.
    let words = |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(status.errors.iter().map(words).collect::<Vec<_>>(), errors);
    for path in ["/health", "/health?serializable=true"] {
        let page = http::request("GET", &cluster.endpoint(0), path).await?;
        let json: serde_json::Value = serde_json::from_str(page.body())?;
        let said = (json["health"].as_str(), json["reason"].as_str());
        assert_eq!(
            (page.status, said),
            (health.0, (Some(health.1), Some(health.2)))
        );
    }
    let passed = http::request("GET", &cluster.endpoint(0), "/health?exclude=NOSPACE").await?;
    assert_eq!(passed.status, 200);
    Ok(())
}

/// The way in which kube-apiserver compacts: it notes so in a key, by a transaction, and only then asks for it.
#[test]
fn a_client_that_notes_its_compactions_in_a_key_makes_room_in_a_full_store() {
    claims::run(async {
        if process::oracle().is_some() {
            return Ok(()); // etcd refuses the note, and stays full until somebody compacts by hand.
        }
        let flags = [("quota-backend-bytes", "16777216")];
        let cluster = Cluster::start_with(Kind::Processes(1), &flags).await?;
        let client = cluster.client()?;
        client.put(put("compact_rev_key", "0")).await?;
        let large = "v".repeat(100_000);
        let mut stored = 0;
        while client
            .put(put(&format!("k{}", stored % 20), &large))
            .await
            .is_ok()
        {
            stored += 1;
            assert!(stored < 1000, "far more than the quota was stored");
        }
        // The last of the room goes to new keys without a value.
        let mut new = 0;
        let refusal = loop {
            match client.put(put(&format!("n{new}"), "")).await {
                Ok(_) => new += 1,
                refusal => break refused(refusal),
            }
        };
        assert_eq!(refusal.0, Code::ResourceExhausted);
        says_that_it_is_full(&cluster, true).await?;
        let version = |version| {
            compare(
                "compact_rev_key",
                CompareResult::Equal,
                TargetUnion::Version(version),
            )
        };
        let revision = client.revision().await?;
        let note = txn(
            [version(1)],
            [op(put("compact_rev_key", &revision.to_string()))],
            [op(range("compact_rev_key"))],
        );
        assert!(client.txn(note).await?.succeeded);
        client.compact(revision).await?;
        client.put(put("k0", &large)).await?;
        says_that_it_is_full(&cluster, false).await?;
        Ok(())
    });
}

#[test]
fn a_full_store_takes_little_of_what_replaces_little() {
    claims::run(async {
        if process::oracle().is_some() {
            return Ok(()); // etcd takes nothing.
        }
        let flags = [("quota-backend-bytes", "1000000")];
        let cluster = Cluster::start_with(Kind::Processes(1), &flags).await?;
        let client = cluster.client()?;
        client.put(put("small", "0")).await?;
        while client.put(put("large", &"v".repeat(100_000))).await.is_ok() {}
        let mut taken = 0;
        loop {
            let puts = (0..256).map(|_| client.put(put("small", "1")));
            let done = join_all(puts).await;
            let done = done.iter().filter(|done| done.is_ok()).count();
            taken += done;
            if done == 0 {
                break;
            }
            assert!(taken < 40_000, "there is no end to it");
        }
        assert!(taken > 1000, "{taken} were taken");
        Ok(())
    });
}

#[test]
fn a_member_that_begins_says_what_it_takes_of_the_disk_and_no_more() {
    claims::run(async {
        let cluster = Cluster::start(Kind::Processes(1)).await?;
        let status = cluster.client()?.status().await?;
        let most = 1 << 20;
        assert!(status.db_size < most, "{} bytes of nothing", status.db_size);
        Ok(())
    });
}

#[test]
fn a_member_takes_no_huge_pages() {
    claims::run(async {
        let mut cluster = Cluster::start(Kind::Processes(1)).await?;
        let process = cluster.process_id(0)?;
        let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
        let told = status
            .lines()
            .filter_map(|line| line.strip_prefix("THP_enabled:"));
        assert_eq!(told.map(str::trim).collect::<Vec<_>>(), ["0"]);
        Ok(())
    });
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
