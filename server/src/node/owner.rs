//! The owner of a data directory: one of another cluster or member is never served from.
//!
//! A copied namespace, a disk put back under another name, a backup unpacked in the wrong folder: each of them is a
//! whole member with an identity and a log, whose peers it would dial and whose clients it would answer.

use std::time::Duration;

use tokio::task::JoinSet;

use super::join::duplicate;
use super::{LogPlace, Stop, directory};
use crate::admin::{self, Reason, Waiting};
use crate::config::{Config, Owner};
use crate::http::Endpoint;
use crate::wal;

/// How often a directory that was refused is looked at again.
const LOOK_PAUSE: Duration = Duration::from_secs(1);

/// Returns if the directory is empty, cannot be read (which opening it reports), or is this member's.
///
/// Another's is never opened. The member stays up, so that a caller of `/readyz` and `/coord/waiting` hears what was
/// found, and ends once something else is there.
pub(super) async fn refuse_another(
    config: &Config,
    log: &LogPlace,
    client: &[Endpoint],
) -> Result<(), Stop> {
    let (Some(owner), LogPlace::Directory(data_dir)) = (&config.owner, log) else {
        return Ok(());
    };
    let folder = directory::wal(data_dir);
    let Some(found) = wal::identity_at(&folder) else {
        return Ok(());
    };
    let Some(why) = mismatch(owner, &found) else {
        return Ok(());
    };
    let why = format!("{}: {why}", data_dir.display());
    tracing::error!("{why}");
    let waiting = Waiting::new(Reason::Foreign, why.clone());
    let mut answering = JoinSet::new();
    for listener in client {
        answering.spawn(admin::serve_waiting(duplicate(listener)?, waiting.clone()));
    }
    while wal::identity_at(&folder).as_ref() == Some(&found) {
        tokio::time::sleep(LOOK_PAUSE).await;
    }
    Err(Stop::Refused(format!("{why}; something else is there now")))
}

fn mismatch(owner: &Owner, found: &wal::Identity) -> Option<String> {
    let wal::Identity {
        cluster,
        member,
        incarnation: _,
        token,
        owner: name,
    } = found;
    let whose = if name.is_empty() {
        format!("member {member} of cluster {cluster}, made without --coord-owner")
    } else {
        format!("{name} (member {member} of cluster {cluster})")
    };
    if *name != owner.name {
        return Some(format!(
            "holds the data of {whose}, and this is {}: it is not served from",
            owner.name
        ));
    }
    if owner.token.as_ref().is_some_and(|wanted| wanted != token) {
        return Some(format!(
            "holds the data of {whose} from an earlier cluster of that name, with another --initial-cluster-token: it \
             is not served from"
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{ClusterId, Incarnation, MemberId};

    fn found(owner: &str, token: &str) -> wal::Identity {
        wal::Identity {
            cluster: ClusterId(0xc1),
            member: MemberId(0xa1),
            incarnation: Incarnation(1),
            token: token.to_owned(),
            owner: owner.to_owned(),
        }
    }

    #[test]
    fn only_the_directory_of_this_member_of_this_cluster_will_do() {
        let owner = Owner {
            name: "shop/demo/demo-1".to_owned(),
            token: Some("t".to_owned()),
        };
        assert_eq!(mismatch(&owner, &found("shop/demo/demo-1", "t")), None);
        for (name, token, part) in [
            ("copy/demo/demo-1", "t", "the data of copy/demo/demo-1"),
            ("shop/demo/demo-0", "t", "the data of shop/demo/demo-0"),
            ("", "t", "made without --coord-owner"),
            ("shop/demo/demo-1", "u", "an earlier cluster of that name"),
        ] {
            let why = mismatch(&owner, &found(name, token)).expect("refused");
            assert!(why.contains(part), "{why}");
        }
    }
}
