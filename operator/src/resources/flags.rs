//! The flags of a member's server, and since which version a server knows each: one that is older than a flag ends at its
//! start, and a roll back to it would never come up.

use crate::crd::{Bootstrap, quantity};
use crate::model::version::Version;
use crate::model::{Ordinal, names};
use crate::validate::Desired;

/// Below the mount, whose own root may hold a `lost+found`.
const DATA_DIR: &str = "/var/lib/coord/data";
/// The first version that this operator can run.
const FIRST: Version = Version(0, 1, 0);
/// Before any release: a server that has only etcd's own flags.
const ETCDS_OWN: Version = Version(0, 0, 0);

/// A flag with its value.
struct Flag {
    /// The first version that knows it.
    since: Version,
    text: String,
}

/// The flags that the server of `desired` knows. The flags `--initial-*` only matter on an empty disk.
///
/// Alike for every member: on an empty disk each waits. No template says that a pod may form a cluster, or a seed whose
/// disk was emptied under it would form a second one beside the first. The seed is told once to form it, over the wire,
/// after the status says so.
pub(super) fn args(
    desired: &Desired,
    ordinal: Ordinal,
    bootstrap: Option<&Bootstrap>,
) -> Vec<String> {
    known(flags(desired, ordinal, bootstrap), desired.server_version)
}

/// Those of `flags` that a server of `version` knows: all of them if nobody can say which version it is.
fn known(flags: Vec<Flag>, version: Option<Version>) -> Vec<String> {
    let known = flags
        .into_iter()
        .filter(|flag| version.is_none_or(|version| version >= flag.since));
    known.map(|flag| flag.text).collect()
}

fn flags(desired: &Desired, ordinal: Ordinal, bootstrap: Option<&Bootstrap>) -> Vec<Flag> {
    let (cluster, namespace) = (desired.name.as_str(), desired.namespace.as_str());
    let name = names::member(cluster, ordinal);
    let peer_url = names::peer_url(cluster, namespace, ordinal);
    let client_url = names::client_url(cluster, namespace, ordinal);
    let anyone = names::any_peer_url(cluster, namespace);
    let peers = names::peer_service(cluster);
    let (client_port, peer_port) = (names::CLIENT_PORT, names::PEER_PORT);
    let mut flags = Vec::new();
    let mut add = |since, text| flags.push(Flag { since, text });
    add(ETCDS_OWN, format!("--name={name}"));
    add(ETCDS_OWN, format!("--data-dir={DATA_DIR}"));
    add(
        ETCDS_OWN,
        format!("--listen-client-urls=http://0.0.0.0:{client_port}"),
    );
    add(ETCDS_OWN, format!("--advertise-client-urls={client_url}"));
    add(
        ETCDS_OWN,
        format!("--listen-peer-urls=http://0.0.0.0:{peer_port}"),
    );
    add(
        ETCDS_OWN,
        format!("--initial-advertise-peer-urls={peer_url}"),
    );
    add(ETCDS_OWN, "--initial-cluster-state=existing".to_owned());
    add(
        ETCDS_OWN,
        format!("--initial-cluster={name}={peer_url},{peers}={anyone}"),
    );
    add(FIRST, format!("--coord-owner={namespace}/{cluster}/{name}"));
    if let Some(bootstrap) = bootstrap {
        let token = &bootstrap.token;
        add(ETCDS_OWN, format!("--initial-cluster-token={token}"));
    }
    let server = &desired.spec.server;
    if let Some(milliseconds) = server.heartbeat_milliseconds {
        add(ETCDS_OWN, format!("--heartbeat-interval={milliseconds}"));
    }
    if let Some(milliseconds) = server.election_milliseconds {
        add(ETCDS_OWN, format!("--election-timeout={milliseconds}"));
    }
    if let Some(bytes) = server.quota.as_deref().and_then(quantity::parse) {
        add(ETCDS_OWN, format!("--quota-backend-bytes={bytes}"));
    }
    if let Some(level) = server.log_level {
        add(ETCDS_OWN, format!("--log-level={}", level.as_str()));
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_given_no_flag_that_is_newer_than_it() {
        let flags = || {
            let flag = |since, text: &str| Flag {
                since,
                text: text.to_owned(),
            };
            vec![
                flag(FIRST, "--old"),
                flag(Version(0, 2, 0), "--new"),
                flag(Version(1, 0, 0), "--newest"),
            ]
        };
        let given = |version| known(flags(), version);
        assert_eq!(given(Some(Version(0, 1, 9))), ["--old"]);
        assert_eq!(given(Some(Version(0, 2, 0))), ["--old", "--new"]);
        assert_eq!(given(None), ["--old", "--new", "--newest"]);
    }
}
