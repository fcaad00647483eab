//! A member whose files were damaged while it was down: back with everything, or refused with words that say what to do.
//! Each byte is tried inside the server (`make damage`); here the whole program is asked, for each way it can end.

use std::fs;
use std::path::Path;

use coord_e2e::clients::etcd::request::{prefix, put};
use coord_e2e::cluster::claims::Claim;
use coord_e2e::cluster::{Cluster, files};
use coord_e2e::{on_each_cluster, on_three_processes};

on_each_cluster!(
    a_damaged_state_is_set_aside_and_rebuilt,
    a_damaged_log_is_refused_and_says_how_to_go_on,
);

on_three_processes!(
    the_others_go_on_beside_a_damaged_member,
    a_directory_from_an_older_copy_is_refused,
    a_member_that_has_applied_what_the_others_lost_stops,
);

const KEYS: i64 = 50;

/// The text that a refusal must have.
const REMEDY: &str = "add it again as a new member; of a cluster of one, restore a backup";

async fn filled(cluster: &mut Cluster) -> anyhow::Result<usize> {
    let client = cluster.client()?;
    for number in 0..KEYS {
        client.put(put(&format!("k{number}"), "x")).await?;
    }
    let member = match cluster.len() {
        1 => 0,
        _ => cluster.follower().await?,
    };
    cluster.kill(member).await?;
    Ok(member)
}

async fn a_damaged_state_is_set_aside_and_rebuilt(cluster: &mut Cluster) -> Claim {
    let member = filled(cluster).await?;
    let state = cluster.data_dir(member).join("state");
    let mut damaged = 0;
    for file in files::below(&state.join("1/keyspaces"))? {
        let mut bytes = fs::read(&file)?;
        if let Some(byte) = bytes.first_mut() {
            *byte ^= 0x40;
            fs::write(&file, bytes)?;
            damaged += 1;
        }
    }
    assert!(damaged > 0);
    cluster.restart(member).await?;
    let found = cluster.client_of(member)?.range(prefix("k")).await?;
    assert_eq!(found.count, KEYS);
    assert!(
        state.join("1.damaged").is_dir(),
        "the specimen is kept to look at"
    );
    Ok(())
}

async fn a_damaged_log_is_refused_and_says_how_to_go_on(cluster: &mut Cluster) -> Claim {
    let member = filled(cluster).await?;
    let segment = cluster.data_dir(member).join("wal/0000000000000001.wal");
    let mut bytes = fs::read(&segment)?;
    bytes[4096 + 100] ^= 1;
    fs::write(&segment, bytes)?;
    cluster.spawn(member)?;
    let (_, said) = cluster.ended(member).await?;
    assert!(said.contains(REMEDY), "{said}");
    assert!(
        said.contains("0000000000000001.wal at byte 4096"),
        "it says where: {said}"
    );
    Ok(())
}

async fn the_others_go_on_beside_a_damaged_member(cluster: &mut Cluster) -> Claim {
    let member = filled(cluster).await?;
    fs::remove_dir_all(cluster.data_dir(member).join("wal"))?;
    cluster.spawn(member)?;
    let (_, said) = cluster.ended(member).await?;
    assert!(said.contains(REMEDY), "{said}");
    let other = cluster.client_of(cluster.leader().await?)?;
    other.put(put("k-after", "x")).await?;
    assert_eq!(other.range(prefix("k")).await?.count, KEYS + 1);
    Ok(())
}

/// Copies a folder, which must not be there yet.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}

/// Puts a copy in the place of a member's data directory.
fn put_back(cluster: &Cluster, member: usize, copied: &Path) -> anyhow::Result<()> {
    let data = cluster.data_dir(member);
    fs::remove_dir_all(&data)?;
    Ok(fs::rename(copied, data)?)
}

async fn puts(cluster: &Cluster, member: usize, name: &str) -> anyhow::Result<()> {
    let client = cluster.client_of(member)?;
    for number in 0..KEYS {
        client.put(put(&format!("{name}{number}"), "x")).await?;
    }
    Ok(())
}

async fn a_directory_from_an_older_copy_is_refused(cluster: &mut Cluster) -> Claim {
    let member = filled(cluster).await?;
    let copied = cluster.directory().join("copy");
    copy(&cluster.data_dir(member), &copied)?;
    cluster.restart(member).await?;
    let leader = cluster.leader().await?;
    puts(cluster, leader, "l").await?;
    cluster.kill(member).await?;
    put_back(cluster, member, &copied)?;
    cluster.spawn(member)?;
    let (_, said) = cluster.ended(member).await?;
    assert!(
        said.contains("this data directory is an older copy: member "),
        "{said}"
    );
    puts(cluster, leader, "m").await?;
    Ok(())
}

/// Two members agree on a history that lacks what the third acknowledged with one of them: none of the two can know, and
/// the third does not go on beside them.
async fn a_member_that_has_applied_what_the_others_lost_stops(cluster: &mut Cluster) -> Claim {
    let forgets = filled(cluster).await?;
    let copied = cluster.directory().join("copy");
    copy(&cluster.data_dir(forgets), &copied)?;
    cluster.restart(forgets).await?;
    let knows = cluster.leader().await?;
    let behind = 3 - forgets - knows;
    cluster.kill(behind).await?;
    puts(cluster, knows, "l").await?;
    cluster.kill_all(&[knows, forgets]).await?;
    put_back(cluster, forgets, &copied)?;
    cluster.spawn(behind)?;
    cluster.spawn(forgets)?;
    cluster.ready(behind).await?;
    cluster.ready(forgets).await?;
    puts(cluster, behind, "m").await?;
    cluster.spawn(knows)?;
    let (_, said) = cluster.ended(knows).await?;
    assert!(
        said.contains("this member's applied log is not the cluster's: "),
        "{said}"
    );
    Ok(())
}
