//! etcdctl, unmodified, against a cluster of three.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::request::put;
use coord_e2e::clients::programs;
use coord_e2e::cluster::claims::Claim;
use coord_e2e::cluster::{Cluster, eventually};
use coord_e2e::on_three_processes;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

on_three_processes!(
    put_get_and_del_print_what_etcd_prints,
    a_transaction_is_read_from_standard_input,
    a_watch_prints_events_as_they_come,
    a_lease_is_granted_listed_kept_and_revoked,
    members_are_listed_added_and_removed,
    endpoints_are_healthy_and_their_status_is_a_table,
    the_leader_is_moved,
    compaction_and_defragmentation_finish,
    a_lock_is_held_and_released,
    an_election_is_won_and_listened_to,
);

/// Longer than a command waits by itself.
const PATIENCE: Duration = Duration::from_secs(30);

fn command(cluster: &Cluster, words: &[&str]) -> Result<Command> {
    let mut command = Command::new(programs::etcdctl()?);
    command
        .arg(format!("--endpoints={}", cluster.endpoints().join(",")))
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    Ok(command)
}

/// Runs a command that must succeed and returns what it printed.
async fn run(cluster: &Cluster, words: &[&str]) -> Result<String> {
    run_with(cluster, words, "").await
}

async fn run_with(cluster: &Cluster, words: &[&str], input: &str) -> Result<String> {
    let mut child = command(cluster, words)?.stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("stdin was piped")?;
    stdin.write_all(input.as_bytes()).await?;
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .context("it does not end")??;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "etcdctl {words:?}: {}\n{said}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// A command that goes on, with its lines.
fn start(cluster: &Cluster, words: &[&str]) -> Result<(Child, Lines<BufReader<ChildStdout>>)> {
    let mut child = command(cluster, words)?.spawn()?;
    let stdout = child.stdout.take().context("stdout was piped")?;
    Ok((child, BufReader::new(stdout).lines()))
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    tokio::time::timeout(PATIENCE, lines.next_line())
        .await
        .context("no line in time")??
        .context("it ended")
}

async fn put_get_and_del_print_what_etcd_prints(cluster: &mut Cluster) -> Claim {
    assert_eq!(run(cluster, &["put", "a", "1"]).await?, "OK\n");
    assert_eq!(run(cluster, &["put", "b", "2", "--prev-kv"]).await?, "OK\n");
    assert_eq!(run(cluster, &["get", "a"]).await?, "a\n1\n");
    assert_eq!(
        run(cluster, &["get", "", "--prefix", "--keys-only"]).await?,
        "a\n\nb\n\n"
    );
    assert_eq!(
        run(
            cluster,
            &["get", "a", "--print-value-only", "--consistency=s"]
        )
        .await?,
        "1\n"
    );
    let json: serde_json::Value =
        serde_json::from_str(&run(cluster, &["get", "a", "-w", "json"]).await?)?;
    assert_eq!(
        (json["count"].as_i64(), json["kvs"][0]["version"].as_i64()),
        (Some(1), Some(1))
    );
    assert_eq!(run(cluster, &["del", "a", "--prev-kv"]).await?, "1\na\n1\n");
    assert_eq!(run(cluster, &["del", "a"]).await?, "0\n");
    assert_eq!(run(cluster, &["get", "a"]).await?, "");
    Ok(())
}

async fn a_transaction_is_read_from_standard_input(cluster: &mut Cluster) -> Claim {
    run(cluster, &["put", "a", "1"]).await?;
    let said = run_with(
        cluster,
        &["txn"],
        "value(\"a\") = \"1\"\n\nput b 2\nget a\n\nput b 3\n\n",
    )
    .await?;
    assert_eq!(said, "SUCCESS\n\nOK\n\na\n1\n");
    assert_eq!(
        run(cluster, &["get", "b", "--print-value-only"]).await?,
        "2\n"
    );
    Ok(())
}

async fn a_watch_prints_events_as_they_come(cluster: &mut Cluster) -> Claim {
    run(cluster, &["put", "k1", "old"]).await?;
    let (_child, mut lines) = start(cluster, &["watch", "k", "--prefix", "--rev=1"])?;
    for expected in ["PUT", "k1", "old"] {
        assert_eq!(line(&mut lines).await?, expected);
    }
    run(cluster, &["put", "k2", "new"]).await?;
    run(cluster, &["del", "k1"]).await?;
    for expected in ["PUT", "k2", "new", "DELETE", "k1", ""] {
        assert_eq!(line(&mut lines).await?, expected);
    }
    Ok(())
}

async fn a_lease_is_granted_listed_kept_and_revoked(cluster: &mut Cluster) -> Claim {
    let granted = run(cluster, &["lease", "grant", "60"]).await?;
    let id = granted
        .split_whitespace()
        .nth(1)
        .context("lease ID granted with TTL(60s)")?
        .to_owned();
    assert_eq!(granted, format!("lease {id} granted with TTL(60s)\n"));
    run(cluster, &["put", "a", "1", &format!("--lease={id}")]).await?;
    assert!(run(cluster, &["lease", "list"]).await?.contains(&id));
    let left = run(cluster, &["lease", "timetolive", &id, "--keys"]).await?;
    assert!(
        left.starts_with(&format!("lease {id} granted with TTL(60s), remaining(")),
        "{left}"
    );
    assert!(left.contains("attached keys([a])"), "{left}");
    let kept = run(cluster, &["lease", "keep-alive", "--once", &id]).await?;
    assert_eq!(kept, format!("lease {id} keepalived with TTL(60)\n"));
    assert_eq!(
        run(cluster, &["lease", "revoke", &id]).await?,
        format!("lease {id} revoked\n")
    );
    assert_eq!(run(cluster, &["get", "a"]).await?, "");
    let gone = run(cluster, &["lease", "timetolive", &id]).await?;
    assert_eq!(gone, format!("lease {id} already expired\n"));
    Ok(())
}

async fn members_are_listed_added_and_removed(cluster: &mut Cluster) -> Claim {
    let list = run(cluster, &["member", "list"]).await?;
    assert_eq!(
        list.lines()
            .filter(|line| line.contains(", started, m"))
            .count(),
        3,
        "{list}"
    );
    let url = cluster.prepare("m3")?.peer_url;
    let peer_urls = format!("--peer-urls={url}");
    let added = eventually("a member is added", || async {
        run(cluster, &["member", "add", "m3", "--learner", &peer_urls]).await
    })
    .await?;
    assert!(
        added.contains("ETCD_INITIAL_CLUSTER_STATE=\"existing\"") && added.contains(&url),
        "{added}"
    );
    let list = run(cluster, &["member", "list"]).await?;
    let line = list
        .lines()
        .find(|line| line.contains(&url))
        .context("the new member is listed")?;
    assert!(
        line.contains(", unstarted, ") && line.ends_with(", true"),
        "{line}"
    );
    let id = line.split(',').next().context("an id comes first")?;
    let removed = run(cluster, &["member", "remove", id]).await?;
    // A short id is padded with spaces.
    assert!(
        removed.starts_with("Member ")
            && removed.contains(&format!(" {} removed from cluster", id.trim())),
        "{removed}"
    );
    Ok(())
}

async fn endpoints_are_healthy_and_their_status_is_a_table(cluster: &mut Cluster) -> Claim {
    let mut command = command(cluster, &["endpoint", "health"])?;
    let output = command.output().await?;
    // Some versions print health on standard error.
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(
        said.lines()
            .filter(|line| line.contains("is healthy: successfully committed proposal"))
            .count(),
        3,
        "{said}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&run(cluster, &["endpoint", "status", "-w", "json"]).await?)?;
    assert_eq!(json.as_array().map(Vec::len), Some(3));
    let table = run(cluster, &["endpoint", "status", "-w", "table"]).await?;
    for endpoint in cluster.endpoints() {
        assert!(table.contains(&endpoint), "{table}");
    }
    assert!(
        table.contains("IS LEADER") && table.matches("true").count() == 1,
        "{table}"
    );
    Ok(())
}

async fn the_leader_is_moved(cluster: &mut Cluster) -> Claim {
    let (leader, follower) = (cluster.leader().await?, cluster.follower().await?);
    let header = cluster
        .client_of(follower)?
        .status()
        .await?
        .header
        .context("every answer has a header")?;
    let id = format!("{:x}", header.member_id);
    let said = run(cluster, &["move-leader", &id]).await?;
    assert!(said.starts_with("Leadership transferred from"), "{said}");
    let now = eventually("the other leads", || async {
        let now = cluster.leader().await?;
        ensure!(now == follower, "{now} leads");
        Ok(now)
    })
    .await?;
    assert_ne!(now, leader);
    Ok(())
}

async fn compaction_and_defragmentation_finish(cluster: &mut Cluster) -> Claim {
    let client = cluster.client()?;
    for number in 0..10 {
        client.put(put("a", &number.to_string())).await?;
    }
    assert_eq!(
        run(cluster, &["compaction", "8", "--physical"]).await?,
        "compacted revision 8\n"
    );
    assert!(run(cluster, &["compaction", "8"]).await.is_err());
    let said = run(cluster, &["defrag"]).await?;
    assert_eq!(said.matches("Finished defragmenting").count(), 3, "{said}");
    assert_eq!(
        run(cluster, &["get", "a", "--rev=9", "--print-value-only"]).await?,
        "7\n"
    );
    Ok(())
}

async fn a_lock_is_held_and_released(cluster: &mut Cluster) -> Claim {
    let (mut first, mut first_lines) = start(cluster, &["lock", "--ttl=5", "the-lock"])?;
    let key = line(&mut first_lines).await?;
    assert!(key.starts_with("the-lock/"), "{key}");
    let (_second, mut second_lines) = start(cluster, &["lock", "--ttl=5", "the-lock"])?;
    eventually("the second waits in line", || async {
        let keys = run(cluster, &["get", "the-lock/", "--prefix", "--keys-only"]).await?;
        ensure!(keys.split_whitespace().count() == 2, "{keys}");
        Ok(())
    })
    .await?;
    first.kill().await?;
    // Its lease ends, and the lock goes to the one that waits.
    let next = line(&mut second_lines).await?;
    assert!(next.starts_with("the-lock/") && next != key, "{next}");
    // With a command, the lock is held while it runs.
    let said = run(cluster, &["lock", "another", "echo", "inside"]).await?;
    assert_eq!(said, "inside\n");
    Ok(())
}

async fn an_election_is_won_and_listened_to(cluster: &mut Cluster) -> Claim {
    let (mut first, mut first_lines) = start(cluster, &["elect", "the-election", "one"])?;
    let key = line(&mut first_lines).await?;
    assert!(key.starts_with("the-election/"), "{key}");
    assert_eq!(line(&mut first_lines).await?, "one");
    let (_listener, mut heard) = start(cluster, &["elect", "-l", "the-election"])?;
    assert_eq!(
        (line(&mut heard).await?, line(&mut heard).await?),
        (key, "one".to_owned())
    );
    first.kill().await?;
    Ok(())
}
