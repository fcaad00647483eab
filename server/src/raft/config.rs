//! The settings of a member's Raft, and openraft's settings made of them.

use std::sync::Arc;
use std::time::Duration;

use super::storage::Limits;
use crate::command::{ClusterId, Fault, Incarnation, MemberId};
use crate::network::Network;
use crate::offload::Offload;
use crate::state::StatePlace;

/// The settings of a member's Raft.
#[derive(Clone, Debug)]
pub struct Config {
    /// This member.
    pub id: MemberId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its data directory's.
    pub incarnation: Incarnation,
    /// The token that programs which want to join must know.
    pub token: String,
    /// Where peers reach this member.
    pub peer_urls: Vec<String>,
    /// How often a leader says that it lives.
    pub heartbeat: Duration,
    /// etcd's election timeout: no leader is replaced sooner than 0.4 of it after it was heard.
    pub election: Duration,
    /// Where the state store is.
    pub state: StatePlace,
    /// Whether the alarm CORRUPT is raised for a member that is found to differ; it stops in any case.
    pub raises_corrupt: bool,
    /// How much log is kept.
    pub limits: Limits,
    /// How peers are reached.
    pub network: Network,
    /// Where work that waits for a disk is done.
    pub offload: Offload,
}

/// openraft's configuration.
pub(super) fn core_config(config: &Config) -> Result<Arc<openraft::Config>, Fault> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let election = millis(config.election);
    let election_max = election * 8 / 10;
    let core = openraft::Config {
        cluster_name: config.cluster.to_string(),
        heartbeat_interval: millis(config.heartbeat),
        // openraft's leader lease equals the maximum, so a dead leader is replaced within about 2 x 0.8 of etcd's.
        election_timeout_min: election * 4 / 10,
        election_timeout_max: election_max,
        enable_pre_vote: Some(true),
        // The state store is not synced per entry: a restarted leader must learn anew what is committed.
        enable_leader_restore: Some(false),
        // Or a leader that reaches one bridging member only could hold up a quorum that reaches each other.
        quorum_loss_probe_interval: Some(2 * election_max),
        // The log store bounds a message by bytes.
        max_payload_entries: 2048,
        // `trim` says when, and what goes: openraft would cut all that a snapshot holds, and it cannot count bytes.
        snapshot_policy: openraft::SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        backoff: "20ms 40ms 80ms ...500ms".to_owned(),
        ..openraft::Config::default()
    };
    let core = core.validate().map_err(|error| {
        Fault::Start(format!(
            "--heartbeat-interval and --election-timeout do not fit together: {error}"
        ))
    })?;
    Ok(Arc::new(core))
}
