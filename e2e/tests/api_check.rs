//! `coord-server check`: whole, damaged or not to be checked, and never changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use coord_e2e::clients::etcd::request::{delete, op, put, txn};
use coord_e2e::cluster::claims::{self, Claim};
use coord_e2e::cluster::{Cluster, Kind, files, process};
use serde_json::{Value, json};

#[test]
fn a_directory_is_checked_and_dumped_and_not_changed() {
    claims::holds(Kind::Processes(1), is_whole);
}

#[test]
fn damage_is_named_with_its_place_and_its_remedy() {
    claims::holds(Kind::Processes(1), is_damaged);
}

#[test]
fn a_directory_that_cannot_be_checked_is_refused_by_name() {
    claims::holds(Kind::Processes(1), is_unchecked);
}

fn check(words: &[&str], dir: &Path) -> anyhow::Result<Output> {
    let mut command = Command::new(process::server_program()?);
    Ok(command.arg("check").args(words).arg(dir).output()?)
}

/// All files below a folder, with what is in them and when that was written.
fn contents(folder: &Path) -> anyhow::Result<Vec<(PathBuf, Vec<u8>, std::time::SystemTime)>> {
    let read = |path: PathBuf| {
        let changed = fs::metadata(&path)?.modified()?;
        let bytes = fs::read(&path)?;
        Ok((path, bytes, changed))
    };
    files::below(folder)?.into_iter().map(read).collect()
}

/// A member with some history, which has ended.
async fn filled(cluster: &mut Cluster) -> anyhow::Result<PathBuf> {
    let client = cluster.client()?;
    client.put(put("plain", "v")).await?;
    client.put(put("\u{1}\u{2}", "a longer value")).await?;
    client.put(put("gone", "v")).await?;
    client.delete(delete("gone")).await?;
    client.txn(txn([], [op(put("in-a-txn", "v"))], [])).await?;
    // Nothing to delete: in the log, and no revision.
    client.delete(delete("never")).await?;
    // A commit is noted with the next write, so the newest entry is not known to be committed after a kill.
    client.put(put("last", "v")).await?;
    cluster.kill(0).await?;
    Ok(cluster.data_dir(0))
}

async fn is_whole(cluster: &mut Cluster) -> Claim {
    let dir = filled(cluster).await?;
    let before = contents(&dir)?;
    let checked = check(&[], &dir)?;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(said.contains(": whole"), "{said}");
    let checked = check(&["--json"], &dir)?;
    let json: Value = serde_json::from_slice(&checked.stdout)?;
    assert_eq!(json["verdict"], "whole", "{json}");
    assert_eq!(json["findings"], json!([]));
    assert_eq!(
        json["facts"]["token"]
            .as_str()
            .map(|token| token.starts_with("test-")),
        Some(true)
    );
    let dumped = check(&["--dump-log", "--json"], &dir)?;
    let result: Value = serde_json::from_slice(&dumped.stderr)?;
    assert_eq!(result["verdict"], "whole", "{result}");
    let lines = String::from_utf8(dumped.stdout)?;
    let lines: Vec<Value> = lines
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?;
    let indexes: Vec<u64> = lines
        .iter()
        .filter_map(|line| line["index"].as_u64())
        .collect();
    assert!(
        indexes.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "{indexes:?}"
    );
    assert_eq!(lines[0]["kind"], "membership");
    let proposals: Vec<&Value> = lines
        .iter()
        .filter_map(|line| line["proposals"].as_array())
        .flatten()
        .collect();
    let of = |kind: &'static str| proposals.iter().filter(move |one| one["kind"] == kind);
    let puts: Vec<_> = of("put")
        .filter(|put| put["keyText"] != "last")
        .map(|put| {
            (
                &put["keyText"],
                &put["key"],
                &put["revision"],
                &put["valueBytes"],
            )
        })
        .collect();
    assert_eq!(
        puts,
        [
            (&json!("plain"), &json!("cGxhaW4="), &json!(2), &json!(1)),
            (&Value::Null, &json!("AQI="), &json!(3), &json!(14)),
            (&json!("gone"), &json!("Z29uZQ=="), &json!(4), &json!(1)),
        ]
    );
    let deletes: Vec<_> = of("delete_range")
        .map(|delete| (&delete["keyText"], &delete["revision"]))
        .collect();
    assert_eq!(
        deletes,
        [(&json!("gone"), &json!(5)), (&json!("never"), &Value::Null)]
    );
    let txns: Vec<_> = of("txn")
        .map(|txn| (&txn["success"][0]["keyText"], &txn["revision"]))
        .collect();
    assert_eq!(txns, [(&json!("in-a-txn"), &json!(6))]);
    assert_eq!(contents(&dir)?, before, "not a byte is changed");
    cluster.restart(0).await?;
    Ok(())
}

async fn is_damaged(cluster: &mut Cluster) -> Claim {
    let dir = filled(cluster).await?;
    let segment = dir.join("wal/0000000000000001.wal");
    let whole = fs::read(&segment)?;
    let mut bytes = whole.clone();
    bytes[4096 + 100] ^= 1;
    fs::write(&segment, bytes)?;
    let before = contents(&dir)?;
    let checked = check(&["--json"], &dir)?;
    assert_eq!(checked.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&checked.stdout)?;
    let found = &json["findings"][0];
    assert_eq!(
        (&found["kind"], &found["file"], &found["offset"]),
        (
            &json!("damage"),
            &json!(segment.display().to_string()),
            &json!(4096)
        ),
        "{json}"
    );
    let remedy = found["remedy"].as_str().unwrap_or_default();
    assert!(remedy.contains("etcdctl member remove"), "{json}");
    assert_eq!(contents(&dir)?, before);
    fs::write(&segment, whole)?;
    // The state is rebuilt from such a log.
    let pointer = contents(&dir.join("state/1/keyspaces"))?;
    for (path, mut bytes, _) in pointer {
        if let Some(byte) = bytes.first_mut() {
            *byte ^= 0x40;
            fs::write(&path, bytes)?;
        }
    }
    let before = contents(&dir)?;
    let checked = check(&[], &dir)?;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(1), "{said}");
    assert!(said.contains("DAMAGE (state)"), "{said}");
    assert!(
        said.contains("it sets the state aside and rebuilds it from its log"),
        "{said}"
    );
    assert_eq!(contents(&dir)?, before);
    cluster.restart(0).await?;
    cluster.kill(0).await?;
    let checked = check(&[], &dir)?;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(0), "{said}");
    assert!(
        said.contains("note (state)") && said.contains("1.damaged"),
        "{said}"
    );
    Ok(())
}

async fn is_unchecked(cluster: &mut Cluster) -> Claim {
    let dir = cluster.data_dir(0);
    let nowhere = cluster.directory().join("nowhere");
    let empty = cluster.directory().join("empty");
    fs::create_dir(&empty)?;
    for (dir, part) in [
        (&dir, "a member has it open"),
        (&nowhere, "there is no such directory"),
        (&empty, "no member has lived here"),
    ] {
        let checked = check(&[], dir)?;
        let said = String::from_utf8_lossy(&checked.stdout).into_owned();
        assert_eq!(checked.status.code(), Some(2), "{said}");
        assert!(said.contains(part), "{said}");
    }
    assert!(!nowhere.exists() && fs::read_dir(&empty)?.next().is_none());
    let wrong = check(&["--nope"], &dir)?;
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("-nope"));
    let help = check(&["--help"], &dir)?;
    assert!(String::from_utf8_lossy(&help.stdout).contains("--dump-log"));
    Ok(())
}
