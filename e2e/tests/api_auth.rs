//! Authentication: what etcdctl prints of users, roles and permissions, and what clients see of tokens. The transcripts are
//! of a real etcd; with `COORD_ORACLE` they are held against it again.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use coord_e2e::clients::programs;
use coord_e2e::cluster::claims::Claim;
use coord_e2e::cluster::{Cluster, within};
use coord_e2e::on_three_processes;
use coord_proto::etcd::etcdserverpb as pb;
use coord_proto::etcd::etcdserverpb::auth_client::AuthClient;
use coord_proto::etcd::etcdserverpb::kv_client::KvClient;
use coord_proto::etcd::etcdserverpb::lease_client::LeaseClient;
use coord_proto::etcd::etcdserverpb::maintenance_client::MaintenanceClient;
use coord_proto::etcd::etcdserverpb::watch_client::WatchClient;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

on_three_processes!(
    etcdctl_prints_what_etcd_prints,
    a_token_is_good_on_every_member_until_its_password_changes,
    a_watcher_needs_the_right_to_read_all_it_watches,
    leases_end_although_users_change,
    new_users_disturb_no_other_client,
);

/// Longer than a command waits by itself.
const PATIENCE: Duration = Duration::from_secs(30);
const LEASES: i64 = 50;
/// Long enough for what happens to users in the meantime.
const TTL_SECONDS: i64 = 5;
/// Clients that read while users are added.
const READERS: usize = 20;
const NEW_USERS: usize = 15;
/// 16 letters, a dot, and a log index.
const TOKEN_LETTERS: usize = 16;

async fn etcdctl(cluster: &Cluster, words: &[&str], input: &str) -> Result<String> {
    let mut child = Command::new(programs::etcdctl()?)
        .arg(format!("--endpoints={}", cluster.endpoints().join(",")))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let mut stdin = child.stdin.take().context("stdin was piped")?;
    // A command that reads nothing may have ended.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output())
        .await
        .context("it does not end")??;
    Ok(programs::etcdctl_said(&output))
}

async fn etcdctl_prints_what_etcd_prints(cluster: &mut Cluster) -> Claim {
    let transcript = include_str!("transcripts/auth.txt");
    let mut lease = "LEASE".to_owned();
    let mut lines = transcript
        .lines()
        .filter(|line| !line.starts_with('#'))
        .peekable();
    while let Some(line) = lines.next() {
        let command = line.strip_prefix("$ ").context("a command is expected")?;
        let (command, input) = command.split_once(" <<< ").unwrap_or((command, ""));
        let input = input.replace("\\n", "\n");
        let command = command.replace("LEASE", &lease);
        let words = command.split(' ').map(|word| match word {
            "''" => "",
            word => word,
        });
        let mut expected = String::new();
        while let Some(next) = lines.next_if(|next| !next.starts_with("$ ")) {
            expected.push_str(next);
            expected.push('\n');
        }
        let mut said = etcdctl(cluster, &Vec::from_iter(words), &input).await?;
        if command.starts_with("lease grant") {
            let id = said.split(' ').nth(1).context("a lease has an id")?;
            lease = id.to_owned();
        }
        said = said.replace(&lease, "LEASE");
        if let Some((before, rest)) = said.split_once("remaining(") {
            let (_, after) = rest.split_once("s)").context("seconds are left")?;
            said = format!("{before}remaining(Ns){after}");
        }
        assert_eq!(said.trim_end(), expected.trim_end(), "etcdctl {command}");
    }
    Ok(())
}

/// Makes root, a user `ann` who may read below `a/`, and turns authentication on.
async fn with_users(cluster: &Cluster) -> Result<()> {
    for line in [
        "user add root:rootpw",
        "user add ann:annpw",
        "role add reader",
        "role grant-permission reader read a/ --prefix",
        "user grant-role ann reader",
        "auth enable",
    ] {
        let said = etcdctl(cluster, &Vec::from_iter(line.split(' ')), "").await?;
        ensure!(!said.contains("Error"), "{line}: {said}");
    }
    Ok(())
}

async fn channels(cluster: &Cluster) -> Result<Vec<Channel>> {
    let mut channels = Vec::new();
    for endpoint in cluster.endpoints() {
        let url = match endpoint.contains("://") {
            true => endpoint.clone(),
            false => format!("http://{endpoint}"),
        };
        channels.push(Channel::from_shared(url)?.connect().await?);
    }
    Ok(channels)
}

async fn login(channel: &Channel, name: &str, password: &str) -> Result<String, Status> {
    let request = pb::AuthenticateRequest {
        name: name.to_owned(),
        password: password.to_owned(),
    };
    let answer = AuthClient::new(channel.clone())
        .authenticate(request)
        .await?;
    Ok(answer.into_inner().token)
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let token = token.parse().expect("a token is of letters");
    request.metadata_mut().insert("token", token);
    request
}

async fn get(channel: &Channel, token: &str, key: &'static str) -> Result<i64, (Code, String)> {
    let range = pb::RangeRequest {
        key: key.into(),
        ..Default::default()
    };
    let answer = KvClient::new(channel.clone())
        .range(with_token(range, token))
        .await;
    match answer {
        Ok(answer) => Ok(answer.into_inner().count),
        Err(status) => Err((status.code(), status.message().to_owned())),
    }
}

async fn a_token_is_good_on_every_member_until_its_password_changes(
    cluster: &mut Cluster,
) -> Claim {
    with_users(cluster).await?;
    let channels = channels(cluster).await?;
    let invalid = Err((
        Code::Unauthenticated,
        "etcdserver: invalid auth token".to_owned(),
    ));
    for login_at in &channels {
        let token = login(login_at, "ann", "annpw").await?;
        let (letters, index) = token.split_once('.').context("a token has two parts")?;
        assert_eq!(letters.len(), TOKEN_LETTERS, "{token}");
        assert!(index.parse::<u64>().is_ok(), "{token}");
        for channel in &channels {
            assert_eq!(get(channel, &token, "a/1").await, Ok(0));
            let denied = (
                Code::PermissionDenied,
                "etcdserver: permission denied".to_owned(),
            );
            assert_eq!(get(channel, &token, "b").await, Err(denied));
        }
    }
    let token = login(&channels[0], "ann", "annpw").await?;
    let root = login(&channels[0], "root", "rootpw").await?;
    let change = pb::AuthUserChangePasswordRequest {
        name: "ann".to_owned(),
        password: "other".to_owned(),
        ..Default::default()
    };
    AuthClient::new(channels[1].clone())
        .user_change_password(with_token(change, &root))
        .await?;
    // A read of root's first, so that the member has applied the change.
    for channel in &channels {
        get(channel, &root, "a/1")
            .await
            .map_err(|(_, why)| anyhow::anyhow!(why))?;
        assert_eq!(get(channel, &token, "a/1").await, invalid);
        assert_eq!(get(channel, "nobody.1", "a/1").await, invalid);
        assert_eq!(get(channel, "nobody", "a/1").await, invalid);
    }
    assert!(login(&channels[2], "ann", "annpw").await.is_err());
    assert!(login(&channels[2], "ann", "other").await.is_ok());
    Ok(())
}

async fn a_watcher_needs_the_right_to_read_all_it_watches(cluster: &mut Cluster) -> Claim {
    with_users(cluster).await?;
    let channels = channels(cluster).await?;
    let token = login(&channels[0], "ann", "annpw").await?;
    for (token, key, end, reason) in [
        (token.as_str(), "a/", "a0", ""),
        (
            token.as_str(),
            "a/",
            "b",
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        ),
        (
            "nobody.1",
            "a/",
            "a0",
            "rpc error: code = Unauthenticated desc = etcdserver: invalid auth token",
        ),
        (
            "",
            "a/",
            "a0",
            "rpc error: code = InvalidArgument desc = etcdserver: user name is empty",
        ),
    ] {
        let create = pb::WatchCreateRequest {
            key: key.into(),
            range_end: end.into(),
            ..Default::default()
        };
        let request = pb::WatchRequest {
            request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
        };
        let requests = tokio_stream::iter([request]);
        let requests = match token {
            "" => Request::new(requests),
            token => with_token(requests, token),
        };
        let mut answers = WatchClient::new(channels[0].clone())
            .watch(requests)
            .await?
            .into_inner();
        let answer = tokio::time::timeout(PATIENCE, answers.message()).await??;
        let answer = answer.context("a watch is answered")?;
        assert!(answer.created);
        assert_eq!(answer.cancel_reason, reason);
        assert_eq!(answer.canceled, !reason.is_empty());
    }
    Ok(())
}

/// An etcd ends leases as an internal user, whose word must not go stale.
async fn leases_end_although_users_change(cluster: &mut Cluster) -> Claim {
    let leader = cluster.leader().await?;
    let other = cluster.client_of((leader + 1) % 3)?.status().await?;
    let successor = other.header.context("it has a header")?.member_id;
    with_users(cluster).await?;
    let channels = channels(cluster).await?;
    let root = login(&channels[0], "root", "rootpw").await?;
    for id in 1..=LEASES {
        let ttl = TTL_SECONDS;
        let grant = with_token(pb::LeaseGrantRequest { id, ttl }, &root);
        LeaseClient::new(channels[0].clone())
            .lease_grant(grant)
            .await?;
        let put = pb::PutRequest {
            key: format!("leased/{id:03}").into(),
            lease: id,
            ..Default::default()
        };
        let put = with_token(put, &root);
        KvClient::new(channels[0].clone()).put(put).await?;
    }
    let mut auth = AuthClient::new(channels[0].clone());
    let change = pb::AuthUserChangePasswordRequest {
        name: "root".to_owned(),
        password: "changed".to_owned(),
        ..Default::default()
    };
    auth.user_change_password(with_token(change, &root)).await?;
    let root = login(&channels[0], "root", "changed").await?;
    auth.auth_disable(with_token(pb::AuthDisableRequest {}, &root))
        .await?;
    auth.auth_enable(pb::AuthEnableRequest {}).await?;
    let root = login(&channels[0], "root", "changed").await?;
    let request = pb::MoveLeaderRequest {
        target_id: successor,
    };
    MaintenanceClient::new(channels[leader].clone())
        .move_leader(with_token(request, &root))
        .await?;
    within(PATIENCE, "all keys are gone with their leases", || async {
        let range = pb::RangeRequest {
            key: "leased/".into(),
            range_end: "leased0".into(),
            count_only: true,
            ..Default::default()
        };
        let range = with_token(range, &root);
        let found = KvClient::new(channels[0].clone()).range(range).await?;
        let count = found.into_inner().count;
        ensure!(count == 0, "{count} are left");
        Ok(())
    })
    .await?;
    Ok(())
}

fn too_old() -> (Code, String) {
    let words = "etcdserver: revision of auth store is old";
    (Code::InvalidArgument, words.to_owned())
}

/// A token stays good while users change that it is not about.
async fn new_users_disturb_no_other_client(cluster: &mut Cluster) -> Claim {
    with_users(cluster).await?;
    let channels = channels(cluster).await?;
    let root = login(&channels[0], "root", "rootpw").await?;
    let token = login(&channels[1], "ann", "annpw").await?;
    let create = pb::WatchCreateRequest {
        key: "a/1".into(),
        ..Default::default()
    };
    let request = pb::WatchRequest {
        request_union: Some(pb::watch_request::RequestUnion::CreateRequest(create)),
    };
    let requests = tokio_stream::iter([request]);
    let mut watching = WatchClient::new(channels[2].clone())
        .watch(with_token(requests, &token))
        .await?
        .into_inner();
    let created = watching.message().await?.context("it is answered")?;
    assert!(created.created && !created.canceled);
    let (done, is_done) = tokio::sync::watch::channel(false);
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            let (channel, token) = (channels[number % 3].clone(), token.clone());
            let is_done = is_done.clone();
            tokio::spawn(async move {
                let mut count = 0_u64;
                while !*is_done.borrow() {
                    match get(&channel, &token, "a/1").await {
                        Ok(_) => count += 1,
                        // Users changed in the middle of it: clients of etcd ask again.
                        Err(refused) if refused == too_old() => {}
                        Err(refused) => return Err(refused),
                    }
                }
                Ok::<u64, (Code, String)>(count)
            })
        })
        .collect();
    for number in 0..NEW_USERS {
        let add = pb::AuthUserAddRequest {
            name: format!("new-{number}"),
            password: "password".to_owned(),
            ..Default::default()
        };
        let mut auth = AuthClient::new(channels[number % 3].clone());
        auth.user_add(with_token(add, &root)).await?;
    }
    done.send_replace(true);
    for reader in readers {
        let read = reader.await?;
        assert!(read.as_ref().is_ok_and(|count| *count > 0), "{read:?}");
    }
    let put = pb::PutRequest {
        key: "a/1".into(),
        ..Default::default()
    };
    KvClient::new(channels[0].clone())
        .put(with_token(put, &root))
        .await?;
    let told = tokio::time::timeout(PATIENCE, watching.message()).await??;
    assert_eq!(told.context("the watch lives")?.events.len(), 1);
    Ok(())
}
