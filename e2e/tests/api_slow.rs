//! Slow calls are logged in etcd's words, and say where their time went.

use std::time::Duration;

use anyhow::{Context, Result};
use coord_e2e::clients::etcd::request::{delete, op, put, range, txn};
use coord_e2e::clients::http;
use coord_e2e::cluster::claims;
use coord_e2e::cluster::{Cluster, Kind, eventually, process};
use serde_json::Value;

const APPLY: &str = "apply request took too long";
const STATS: &str = "request stats";

/// The lines that a member has logged with this message.
fn lines(cluster: &Cluster, index: usize, message: &str) -> Vec<Value> {
    let lines = cluster.lines(index);
    let lines = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["msg"] == message).collect()
}

/// Waits for a line that fits.
async fn line(
    cluster: &Cluster,
    index: usize,
    message: &str,
    fits: impl Fn(&Value) -> bool,
) -> Result<Value> {
    eventually(message, || async {
        let lines = lines(cluster, index, message);
        let found = lines.iter().find(|line| fits(line));
        found.cloned().with_context(|| format!("{lines:#?}"))
    })
    .await
}

fn has(field: &'static str, part: &'static str) -> impl Fn(&Value) -> bool {
    move |line| line[field].as_str().is_some_and(|text| text.contains(part))
}

#[test]
fn slow_calls_are_logged_as_etcd_does_without_values() {
    claims::run(async {
        let flags = [
            ("warning-unary-request-duration", "1ns"),
            ("warning-apply-duration", "1ns"),
        ];
        let cluster = Cluster::start_with(Kind::Processes(1), &flags).await?;
        let client = cluster.client()?;
        client.put(put("a", "SECRET")).await?;
        client.range(range("a")).await?;
        client.txn(txn([], [op(range("a"))], [])).await?;
        client.txn(txn([], [op(put("b", "SECRET"))], [])).await?;
        client.delete(delete("b")).await?;

        let put = line(
            &cluster,
            0,
            STATS,
            has("response type", "/etcdserverpb.KV/Put"),
        )
        .await?;
        assert_eq!(
            (&put["level"], &put["request count"]),
            (&"warn".into(), &1.into())
        );
        assert_eq!(put["request size"], 11);
        assert!(
            has("request content", "key:\"a\"")(&put)
                && has("request content", "value_size:6")(&put),
            "{put}"
        );
        assert!(
            has("remote", "127.0.0.1:")(&put) && has("start time", "T")(&put),
            "{put}"
        );
        let range = line(
            &cluster,
            0,
            STATS,
            has("response type", "/etcdserverpb.KV/Range"),
        )
        .await?;
        assert_eq!(range["response count"], 1);

        let applied = line(&cluster, 0, APPLY, has("request", "put:<key:\"a\"")).await?;
        assert_eq!(
            (&applied["expected-duration"], &applied["prefix"]),
            (&"1ns".into(), &"".into())
        );
        assert!(
            has("response", "size:")(&applied) && has("took", "s")(&applied),
            "{applied}"
        );
        let read = line(&cluster, 0, APPLY, has("prefix", "read-only range ")).await?;
        assert!(
            has("response", "range_response_count:1 size:")(&read),
            "{read}"
        );
        let read = line(&cluster, 0, APPLY, has("prefix", "read-only txn ")).await?;
        assert!(
            has("response", "responses:<range_response_count:1> size:")(&read),
            "{read}"
        );
        line(
            &cluster,
            0,
            APPLY,
            has("request", "delete_range:{key:\"b\""),
        )
        .await?;
        line(
            &cluster,
            0,
            APPLY,
            has("request", "success:<request_put:<key:\"b\" value_size:6"),
        )
        .await?;
        if process::oracle().is_none() {
            for part in [
                "waited to be proposed ",
                ", replicated ",
                ", applied ",
                ", answered ",
            ] {
                assert!(has("steps", part)(&put), "{put}");
            }
            for part in ["agreed on how new to read ", ", read ", ", answered "] {
                assert!(has("steps", part)(&range), "{range}");
            }
        }
        assert!(cluster.lines(0).iter().all(|line| !line.contains("SECRET")));
        let page = http::request("GET", &cluster.endpoint(0), "/metrics")
            .await?
            .whole_body();
        let counted = page
            .lines()
            .find_map(|line| line.strip_prefix("etcd_server_slow_apply_total "));
        let counted: f64 = counted.context("it is counted")?.parse()?;
        assert!(counted >= 5.0, "{counted} of 5");
        Ok(())
    });
}

#[test]
fn a_fast_call_is_not_logged() {
    claims::run(async {
        let flags = [
            ("warning-unary-request-duration", "1m"),
            ("warning-apply-duration", "1m"),
        ];
        let cluster = Cluster::start_with(Kind::Processes(1), &flags).await?;
        let client = cluster.client()?;
        client.put(put("a", "1")).await?;
        client.range(range("a")).await?;
        assert_eq!(lines(&cluster, 0, STATS), Vec::<Value>::new());
        Ok(())
    });
}

#[test]
fn a_write_that_waits_for_other_members_says_so() {
    claims::run(async {
        let mut cluster = Cluster::start_with(Kind::Processes(3), &[]).await?;
        let leader = cluster.leader().await?;
        let others = Vec::from_iter((0..3).filter(|index| *index != leader));
        let client = cluster.client_of(leader)?;
        client.put(put("a", "1")).await?;
        for other in &others {
            cluster.pause(*other)?;
        }
        let slow = tokio::spawn(async move { client.put(put("a", "2")).await });
        // Below the election timeout, so that the leader stays.
        tokio::time::sleep(Duration::from_millis(600)).await;
        for other in &others {
            cluster.resume(*other)?;
        }
        slow.await??;
        if process::oracle().is_some() {
            return Ok(());
        }
        let line = line(
            &cluster,
            leader,
            STATS,
            has("response type", "/etcdserverpb.KV/Put"),
        )
        .await?;
        let steps = line["steps"].as_str().context("steps")?;
        let replicated = steps
            .split(", ")
            .find_map(|step| step.strip_prefix("replicated "));
        let replicated = replicated
            .and_then(coord_server::go_duration::parse)
            .context("replicated")?;
        assert!(replicated >= Duration::from_millis(300), "{steps}");
        Ok(())
    });
}
