//! A disk that is full: the member stops and says so, and has everything it acknowledged once there is room again.
//!
//! The disk is a tmpfs, so this needs root.

use std::path::Path;

use coord_e2e::clients::etcd::request::{put, range};
use coord_e2e::cluster::claims::{self, Claim};
use coord_e2e::cluster::{Cluster, Kind, process};
use coord_proto::etcd::etcdserverpb as pb;
use pb::maintenance_client::MaintenanceClient;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tonic::Code;

#[test]
fn a_member_on_a_full_disk_stops_and_comes_back_when_there_is_room() {
    if process::oracle().is_some() {
        // The rest is etcd's own affair.
        return;
    }
    claims::run(fills_up());
}

/// A small disk at a folder, gone when dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn new(path: &'a Path, size: &str) -> anyhow::Result<Self> {
        std::fs::create_dir_all(path)?;
        let options = std::ffi::CString::new(format!("size={size}"))?;
        mount(
            "tmpfs",
            path,
            "tmpfs",
            MountFlags::empty(),
            options.as_c_str(),
        )?;
        Ok(Self(path))
    }

    fn grow(&self, size: &str) -> anyhow::Result<()> {
        Ok(mount_remount(
            self.0,
            MountFlags::empty(),
            format!("size={size}"),
        )?)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // Detached: a member that is still running holds files open.
        if let Err(error) = unmount(self.0, UnmountFlags::DETACH) {
            eprintln!("cannot unmount {}: {error}", self.0.display());
        }
    }
}

/// Where a merge of tables gave its room back before the failed write was noticed, it can only guess.
fn says_why(said: &str) -> bool {
    said.contains("No space left on device") || said.contains("the disk may be full")
}

async fn fills_up() -> Claim {
    const VALUE_BYTES: usize = 256 << 10;
    let mut cluster = Cluster::new(Kind::Processes(1), &[])?;
    let data = cluster.data_dir(0);
    let disk = SmallDisk::new(&data, "160m")?;
    cluster.spawn(0)?;
    cluster.ready(0).await?;
    let client = cluster.client()?;
    let value = "x".repeat(VALUE_BYTES);
    let mut acknowledged = 0;
    while acknowledged < 40 {
        client.put(put(&format!("k{acknowledged}"), &value)).await?;
        acknowledged += 1;
    }
    // A copy would take the room that the log and the state need.
    let copied = MaintenanceClient::new(client.channel())
        .snapshot(pb::SnapshotRequest {})
        .await;
    let copied = async { copied?.into_inner().message().await };
    let refusal = copied.await.expect_err("the disk is small");
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    while client
        .put(put(&format!("k{acknowledged}"), &value))
        .await
        .is_ok()
    {
        acknowledged += 1;
        assert!(acknowledged < 2000, "the disk does not fill up");
    }
    let (status, said) = cluster.ended(0).await?;
    assert!(!status.expect("a process").success());
    assert!(says_why(&said), "{said}");
    // A start on the full disk must not make it worse.
    for _ in 0..2 {
        cluster.spawn(0)?;
        if cluster.ready(0).await.is_ok() {
            cluster.kill(0).await?;
        } else {
            let (_, said) = cluster.ended(0).await?;
            assert!(says_why(&said), "{said}");
        }
    }
    disk.grow("1g")?;
    cluster.restart(0).await?;
    let client = cluster.client()?;
    for number in 0..acknowledged {
        let found = client.range(range(&format!("k{number}"))).await?;
        assert_eq!(
            found.count, 1,
            "k{number} of {acknowledged} was acknowledged"
        );
        assert_eq!(found.kvs[0].value.len(), VALUE_BYTES);
    }
    client.put(put("after", "1")).await?;
    cluster.stop(0).await?;
    Ok(())
}
