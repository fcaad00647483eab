//! The audit log: a line for each call through every door, with the user, the keys and the outcome, and never a secret.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::etcd::request::{delete_to, op, put, range, txn, value, watch};
use coord_e2e::clients::http::{self, Ask};
use coord_e2e::cluster::claims;
use coord_e2e::cluster::{Cluster, Kind, eventually, process};
use coord_proto::etcd::authpb;
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::v3lockpb::LockRequest;
use coord_proto::etcd::v3lockpb::lock_client::LockClient;
use pb::auth_client::AuthClient;
use pb::compare::CompareResult;
use pb::kv_client::KvClient;
use pb::lease_client::LeaseClient;
use pb::maintenance_client::MaintenanceClient;
use pb::watch_client::WatchClient;
use pb::watch_request::RequestUnion;
use serde_json::{Value, json};
use tonic::Request;
use tonic::transport::Channel;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// A member that writes an audit log.
struct Audited {
    cluster: Cluster,
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Audited {
    async fn start(more: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("audit.log");
        let text = path.display().to_string();
        let flags = [&[("coord-audit-log", text.as_str())], more].concat();
        Ok(Self {
            cluster: Cluster::start_with(Kind::Processes(1), &flags).await?,
            path,
            _folder: folder,
        })
    }

    fn channel(&self) -> Result<Channel> {
        Ok(self.cluster.client()?.channel())
    }

    /// Waits for a line of this method that fits, and answers it.
    async fn line(&self, method: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        eventually(&format!("a line of {method}"), || async {
            let lines = lines(&self.path)?;
            let mut found = lines.iter().rev();
            let found = found.find(|line| line["method"] == method && fits(line));
            found.cloned().with_context(|| format!("{lines:#?}"))
        })
        .await
    }
}

fn lines(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().map(|line| Ok(serde_json::from_str(line)?));
    lines.collect()
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let token = token.parse().expect("a token is of letters");
    request.metadata_mut().insert("token", token);
    request
}

/// Makes root, and `ann` who may do everything below `a/`; turns authentication on. Answers their tokens.
async fn with_users(channel: &Channel) -> Result<(String, String)> {
    let mut auth = AuthClient::new(channel.clone());
    for (name, password) in [("root", "PASSWORD-root"), ("ann", "PASSWORD-ann")] {
        let user = pb::AuthUserAddRequest {
            name: name.to_owned(),
            password: password.to_owned(),
            ..Default::default()
        };
        auth.user_add(user).await?;
    }
    for role in ["root", "editor"] {
        let name = role.to_owned();
        auth.role_add(pb::AuthRoleAddRequest { name }).await?;
    }
    let permission = authpb::Permission {
        perm_type: authpb::permission::Type::Readwrite.into(),
        key: "a/".into(),
        range_end: "a0".into(),
    };
    let grant = pb::AuthRoleGrantPermissionRequest {
        name: "editor".to_owned(),
        perm: Some(permission),
    };
    auth.role_grant_permission(grant).await?;
    for (user, role) in [("root", "root"), ("ann", "editor")] {
        let (user, role) = (user.to_owned(), role.to_owned());
        auth.user_grant_role(pb::AuthUserGrantRoleRequest { user, role })
            .await?;
    }
    auth.auth_enable(pb::AuthEnableRequest {}).await?;
    Ok((
        login(channel, "root", "PASSWORD-root").await?,
        login(channel, "ann", "PASSWORD-ann").await?,
    ))
}

async fn login(channel: &Channel, name: &str, password: &str) -> Result<String> {
    let (name, password) = (name.to_owned(), password.to_owned());
    let asked = pb::AuthenticateRequest { name, password };
    let answer = AuthClient::new(channel.clone()).authenticate(asked).await?;
    Ok(answer.into_inner().token)
}

#[test]
fn each_call_is_a_line_with_its_user_its_keys_and_its_outcome_and_no_secret() {
    claims::run(async {
        let audited = Audited::start(&[]).await?;
        let channel = audited.channel()?;
        let mut kv = KvClient::new(channel.clone());
        kv.put(put("a/open", "SECRET-1")).await?;
        let line = audited.line(PUT, |_| true).await?;
        let identity = audited.cluster.client()?.status().await?;
        let member = identity.header.context("a header")?.member_id;
        assert_eq!(line["member"], format!("{member:x}"));
        assert_eq!((&line["user"], &line["code"]), (&Value::Null, &json!("OK")));
        assert!(
            line["remote"]
                .as_str()
                .is_some_and(|from| from.starts_with("127.0.0.1:")),
            "{line}"
        );
        let operation = json!([{"kind": "write", "op": "put", "key": "a/open"}]);
        assert_eq!(line["operations"], operation);

        let (root, ann) = with_users(&channel).await?;
        let line = audited
            .line("/etcdserverpb.Auth/RoleGrantPermission", |_| true)
            .await?;
        assert_eq!(line["operations"][0]["access"], "READWRITE");
        assert_eq!(line["operations"][0]["range_end"], "a0");

        // Refusals: a wrong password, a token that means nobody, a right that is missing.
        assert!(login(&channel, "ann", "PASSWORD-wrong").await.is_err());
        let line = audited
            .line("/etcdserverpb.Auth/Authenticate", |line| {
                line["code"] != "OK"
            })
            .await?;
        assert_eq!(line["operations"][0]["name"], "ann");
        assert_eq!(line["code"], "InvalidArgument");
        assert!(
            kv.put(with_token(put("a/1", "SECRET-2"), "TOKEN-none.7"))
                .await
                .is_err()
        );
        let line = audited
            .line(PUT, |line| line["code"] == "Unauthenticated")
            .await?;
        assert_eq!(line["user"], Value::Null);
        assert!(kv.range(with_token(range("b"), &ann)).await.is_err());
        let line = audited
            .line(RANGE, |line| line["code"] == "PermissionDenied")
            .await?;
        assert_eq!(
            (&line["user"], &line["operations"][0]["key"]),
            (&json!("ann"), &json!("b"))
        );
        assert_eq!(line["message"], "etcdserver: permission denied");
        // Refused before anybody asks who it is.
        assert!(kv.put(with_token(put("", "SECRET-3"), &ann)).await.is_err());
        let line = audited
            .line(PUT, |line| line["operations"][0]["key"] == "")
            .await?;
        assert_eq!(
            (&line["user"], &line["code"]),
            (&json!("ann"), &json!("InvalidArgument"))
        );

        let inner = txn([], [], [op(put("a/inner", "SECRET-4"))]);
        let compare = value("a/1", CompareResult::Equal, "SECRET-5");
        let nested = txn([compare], [op(inner)], [op(delete_to("a/2", "a/3"))]);
        kv.txn(with_token(nested, &ann)).await?;
        let line = audited.line("/etcdserverpb.KV/Txn", |_| true).await?;
        let operations = json!([
            {"kind": "read", "op": "compare", "key": "a/1"},
            {"kind": "write", "op": "put", "key": "a/inner", "branch": "success[0].failure"},
            {"kind": "write", "op": "delete_range", "key": "a/2", "range_end": "a/3", "branch": "failure"},
        ]);
        assert_eq!(
            (&line["operations"], &line["succeeded"]),
            (&operations, &json!(false))
        );

        let locked = LockRequest {
            name: "a/lock".into(),
            lease: 0,
        };
        LockClient::new(channel.clone())
            .lock(with_token(locked, &ann))
            .await?;
        let line = audited.line("/v3lockpb.Lock/Lock", |_| true).await?;
        assert_eq!(
            (&line["user"], &line["operations"][0]["key"]),
            (&json!("ann"), &json!("a/lock/"))
        );
        let made = line["key"].as_str().context("the key that was made")?;
        assert!(made.starts_with("a/lock/"), "{line}");

        // The JSON gateway.
        let endpoint = audited.cluster.endpoint(0);
        let body = r#"{"key": "YS9qc29u", "value": "U0VDUkVULTY="}"#;
        let headers = [("Authorization", ann.as_str())];
        let ask = Ask {
            headers: &headers,
            body,
            lines: 0,
        };
        let page = http::ask("POST", &endpoint, "/v3/kv/put", ask).await?;
        assert_eq!(page.status, 200, "{page:?}");
        let line = audited
            .line(PUT, |line| line["operations"][0]["key"] == "a/json")
            .await?;
        assert_eq!(
            (&line["user"], &line["code"]),
            (&json!("ann"), &json!("OK"))
        );

        let mut auth = AuthClient::new(channel.clone());
        auth.auth_disable(with_token(pb::AuthDisableRequest {}, &root))
            .await?;
        let line = audited
            .line("/etcdserverpb.Auth/AuthDisable", |_| true)
            .await?;
        assert_eq!(
            (&line["user"], &line["code"]),
            (&json!("root"), &json!("OK"))
        );

        let mode = std::fs::metadata(&audited.path)?.permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let all = std::fs::read_to_string(&audited.path)?;
        for secret in ["SECRET", "U0VDUk", "PASSWORD", "TOKEN", &root, &ann] {
            assert!(
                !all.contains(secret),
                "{secret} is in the audit log:\n{all}"
            );
        }
        Ok(())
    });
}

#[test]
fn streams_are_lines_when_they_open_and_end_and_watchers_when_they_are_asked_for() {
    claims::run(async {
        let audited = Audited::start(&[]).await?;
        let channel = audited.channel()?;
        let (_, ann) = with_users(&channel).await?;
        let create = |request| pb::WatchRequest {
            request_union: Some(RequestUnion::CreateRequest(request)),
        };
        let cancel = pb::WatchRequest {
            request_union: Some(RequestUnion::CancelRequest(pb::WatchCancelRequest {
                watch_id: 0,
            })),
        };
        let requests = tokio_stream::iter([create(watch("a/1")), create(watch("b")), cancel]);
        let mut answers = WatchClient::new(channel.clone())
            .watch(with_token(requests, &ann))
            .await?
            .into_inner();
        for _ in 0..3 {
            answers.message().await?.context("an answer")?;
        }
        let of = |name: &'static str, key: &'static str| {
            move |line: &Value| {
                let operation = &line["operations"][0];
                operation["op"] == name && (key.is_empty() || operation["key"] == key)
            }
        };
        let line = audited.line(WATCH, of("watch_create", "a/1")).await?;
        assert_eq!(
            (&line["code"], &line["watch_id"]),
            (&json!("OK"), &json!(0))
        );
        let line = audited.line(WATCH, of("watch_create", "b")).await?;
        assert_eq!(
            (&line["user"], &line["code"]),
            (&json!("ann"), &json!("PermissionDenied"))
        );
        audited.line(WATCH, of("watch_cancel", "")).await?;

        let renewals = tokio_stream::iter([pb::LeaseKeepAliveRequest { id: 7 }]);
        let mut renewed = LeaseClient::new(channel.clone())
            .lease_keep_alive(with_token(renewals, "nobody.7"))
            .await?
            .into_inner();
        assert!(renewed.message().await.is_err());
        let method = "/etcdserverpb.Lease/LeaseKeepAlive";
        audited
            .line(method, |line| line["stream"] == "opened")
            .await?;
        let line = audited
            .line(method, |line| line["stream"] == "ended")
            .await?;
        assert_eq!(line["code"], "Unauthenticated");

        let refused = MaintenanceClient::new(channel.clone())
            .snapshot(with_token(pb::SnapshotRequest {}, &ann))
            .await;
        assert!(refused.is_err());
        let line = audited
            .line("/etcdserverpb.Maintenance/Snapshot", |_| true)
            .await?;
        assert_eq!(
            (&line["stream"], &line["user"]),
            (&json!("opened"), &json!("ann"))
        );
        assert_eq!(line["code"], "PermissionDenied");
        let mut chunks = KvClient::new(channel.clone())
            .range_stream(with_token(range("a/1"), &ann))
            .await?
            .into_inner();
        while chunks.message().await?.is_some() {}
        let method = "/etcdserverpb.KV/RangeStream";
        let line = audited
            .line(method, |line| line["stream"] == "ended")
            .await?;
        assert_eq!(
            (&line["user"], &line["code"]),
            (&json!("ann"), &json!("OK"))
        );
        Ok(())
    });
}

#[test]
fn a_client_that_goes_away_leaves_a_line_that_says_so() {
    claims::run(async {
        let audited = Audited::start(&[("coord-audit-kinds", "lock")]).await?;
        let client = audited.cluster.client()?;
        let name = || LockRequest {
            name: "l".into(),
            lease: 0,
        };
        LockClient::new(client.channel()).lock(name()).await?;
        let mut second = LockClient::new(client.channel());
        let waits = second.lock(name());
        let gone = tokio::time::timeout(std::time::Duration::from_millis(300), waits).await;
        assert!(gone.is_err(), "the lock is held");
        audited
            .line("/v3lockpb.Lock/Lock", |line| line["code"] == "Canceled")
            .await?;
        Ok(())
    });
}

#[test]
fn only_what_the_filters_name_is_recorded() {
    claims::run(async {
        let filters = [
            ("coord-audit-kinds", "write,auth"),
            ("coord-audit-prefixes", "a/,x"),
        ];
        let audited = Audited::start(&filters).await?;
        let client = audited.cluster.client()?;
        client.range(range("a/1")).await?;
        client.put(put("b", "1")).await?;
        client.delete(delete_to("0", "z")).await?;
        client.put(put("a/1", "1")).await?;
        let mixed = txn(
            [],
            [op(put("c", "1")), op(range("a/1")), op(put("x", "1"))],
            [],
        );
        client.txn(mixed).await?;
        client
            .lease_grant(pb::LeaseGrantRequest { ttl: 60, id: 0 })
            .await?;
        let mut auth = AuthClient::new(client.channel());
        let listed = auth.role_list(pb::AuthRoleListRequest {}).await?;
        assert!(listed.into_inner().roles.is_empty());
        audited
            .line("/etcdserverpb.Auth/RoleList", |_| true)
            .await?;
        let lines = lines(&audited.path)?;
        let seen = lines.iter().map(|line| {
            let operations = line["operations"].as_array().map_or(0, Vec::len);
            let method = line["method"].as_str().unwrap_or_default();
            (method.rsplit('/').next().unwrap_or_default(), operations)
        });
        let seen = Vec::from_iter(seen);
        // Of a transaction that is recorded, all is.
        assert_eq!(
            seen,
            [("DeleteRange", 1), ("Put", 1), ("Txn", 3), ("RoleList", 1)]
        );
        Ok(())
    });
}

#[test]
fn a_log_that_was_moved_away_goes_on_in_a_new_file_and_a_full_one_costs_no_call() {
    claims::run(async {
        let audited = Audited::start(&[]).await?;
        let client = audited.cluster.client()?;
        client.put(put("before", "1")).await?;
        audited.line(PUT, |_| true).await?;
        let moved = audited.path.with_extension("1");
        std::fs::rename(&audited.path, &moved)?;
        client.put(put("behind", "1")).await?;
        let line = audited.line(PUT, |_| true).await?;
        assert_eq!(line["operations"][0]["key"], "behind");
        // Nothing can be written where a folder stands.
        std::fs::remove_file(&audited.path)?;
        std::fs::create_dir(&audited.path)?;
        for _ in 0..100 {
            client.put(put("lost", "1")).await?;
        }
        let endpoint = audited.cluster.endpoint(0);
        eventually("lost lines are counted", || async {
            let page = http::request("GET", &endpoint, "/metrics").await?;
            let lost = "coord_audit_lines_lost_total 100";
            ensure!(page.whole_body().lines().any(|line| line == lost));
            Ok(())
        })
        .await?;
        std::fs::remove_dir(&audited.path)?;
        client.put(put("again", "1")).await?;
        let line = audited.line(PUT, |_| true).await?;
        assert_eq!(line["operations"][0]["key"], "again");
        assert_eq!(lines(&audited.path)?[0]["lost"], 100);
        assert_eq!(lines(&moved)?.len(), 1);
        Ok(())
    });
}

#[test]
fn a_log_that_cannot_be_is_refused_by_its_flag() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data_dir = format!("--data-dir={}", folder.path().join("data").display());
    let nowhere = format!("--coord-audit-log={}/no/such", folder.path().display());
    for (words, flag) in [
        (vec!["--coord-audit-kinds=read"], "--coord-audit-kinds"),
        (vec!["--coord-audit-log=/dev/null"], "--coord-audit-log"),
        (vec![nowhere.as_str()], "--coord-audit-log"),
        (
            vec!["--coord-audit-log=stderr", "--coord-audit-kinds=reads"],
            "--coord-audit-kinds",
        ),
    ] {
        let mut command = Command::new(process::server_program()?);
        command
            .arg(&data_dir)
            .args(["--listen-client-urls=http://127.0.0.1:0"]);
        command.args([
            "--advertise-client-urls=http://127.0.0.1:1",
            "--listen-peer-urls=http://127.0.0.1:0",
        ]);
        let output = command.args(&words).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.contains(&format!("{flag}: ")), "{words:?}: {said}");
    }
    Ok(())
}
