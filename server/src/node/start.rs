//! Brings the rooms up in order: directory, listeners, identity, log, state, Raft, doors.
//!
//! Why this order: the directory is held before anything is read, and addresses are bound before the member is given an
//! identity, so that a port that is taken leaves no trace on disk.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Node, Platform, Stop, identity, join, owner, rebuild, secure, stored};
use crate::admin::Admin;
use crate::auth::{Passwords, Tokens};
use crate::budget::Budget;
use crate::command::{
    Command, Incarnation, LogPosition, MemberCommand, MemberId, MemberRecord, Unavailable,
};
use crate::config::{Config, InitialState, Invalid, Url};
use crate::coordinator::{Coordinator, Identity, Parts, request_limit};
use crate::http::{self, Endpoint, Router};
use crate::network::Network;
use crate::raft::{self, Raft};
use crate::state::{self, FEATURE_LEVEL};
use crate::wal::{self, Wal};
use crate::watch::Hub;
use crate::{audit, auto_compaction, config, countdown, etcd, metrics};

/// Pause between attempts to publish this member's name and URLs.
const PUBLISH_PAUSE: Duration = Duration::from_millis(200);

/// The initial members, when this start forms a cluster.
type Founders = Option<Vec<(MemberId, Vec<String>)>>;

pub(super) async fn start(config: Config, mut platform: Platform) -> Result<Node, Stop> {
    if config.times_calls {
        metrics::time_calls();
    }
    let audit = open_audit(&config)?;
    let secured = secure::open(&config, &platform.network)?;
    platform.network = secured.network;
    let (clients, peers) = (secured.clients.as_ref(), secured.peers.as_ref());
    let network = &platform.network;
    let mut client_listeners = secure::bind(network, &config.client.listen, clients).await?;
    let http_from = client_listeners.len();
    client_listeners.extend(secure::bind(network, &config.http_listen, clients).await?);
    let page_listeners = secure::bind(network, &config.metrics_listen, clients).await?;
    let peer_listeners = secure::bind(network, &config.peer.listen, peers).await?;
    // Others look for a running member where this one listens, and under one name with it (`demo-peers` on Kubernetes):
    // while it only waits they must be refused there. A client that is let in, and then turned away, asks no other
    // address.
    drop(peer_listeners);
    owner::refuse_another(&config, &platform.log, &client_listeners).await?;
    // Log and state are read side by side: with a million keys each takes a second or so.
    let opening = platform.log.has_log()?.then(|| {
        let place = platform.state.clone();
        tokio::spawn(stored::aside(platform.offload, move || {
            stored::state(&place)
        }))
    });
    let (wal, identity, founders) = open_log(&config, &platform, &client_listeners).await?;
    tracing::info!(
        cluster_id = %identity.cluster,
        member_id = %identity.member,
        data_dir = %config.data_dir.display(),
        "member identity",
    );

    let audit = audit
        .map(|(output, filter)| audit::Log::start(output, filter, identity.member.to_string()));
    let audit = audit.transpose().map_err(unfit_for_audit)?;

    let state = match opening {
        Some(opening) => opening
            .await
            .map_err(|panic| Stop::Ended(format!("the state cannot be read: {panic}")))??,
        None => stored::state(&platform.state)?,
    };
    let state = match stored::gap(&wal, &state) {
        Some((fault, _)) if config.force_new_cluster => return Err(fault.into()),
        Some(gap) => {
            rebuild::rebuild(&config, &platform, &wal, state, gap, &client_listeners).await?
        }
        None => state,
    };
    let wal::Ends { purged, last } = wal.ends();
    let is_new = purged.is_none() && last.is_none() && state.applied().is_none();
    let founders = match founders {
        None if is_new => founders_again(&config, network, identity).await?,
        founders => founders,
    };
    if config.force_new_cluster && !is_new {
        let membership = state.membership().map(|(_, bytes)| bytes);
        let held = (state.applied(), membership, state.feature_level());
        force(&config, &platform, &wal, held, identity.member).await?;
    }
    let hub = Hub::new(state.revision());
    let state = state::Handle::new(state);
    let Identity {
        cluster,
        member,
        incarnation,
    } = identity;
    let ids = (cluster, member, incarnation);
    raft::refuse_older_copy(ids, network, platform.offload, &wal, &state)
        .await
        .map_err(Stop::Refused)?;
    let peer_listeners = secure::bind(network, &config.peer.listen, peers).await?;
    let (lease_changes, lease_changes_in) = mpsc::unbounded_channel();
    let (token_changes, token_changes_in) = mpsc::unbounded_channel();
    let tokens = Tokens::new(&config.auth.token, config.auth.ttl, token_changes_in);
    let tokens = Arc::new(tokens.map_err(|error| Stop::Ended(error.to_string()))?);
    let (inbox, received) = countdown::inbox();
    let peer_urls: Vec<String> = config.peer.advertise.iter().map(Url::to_string).collect();
    let raft_config = raft::Config {
        id: identity.member,
        cluster: identity.cluster,
        incarnation: identity.incarnation,
        token: config.initial.token.clone(),
        peer_urls: peer_urls.clone(),
        heartbeat: config.heartbeat,
        election: config.election,
        state: platform.state.clone(),
        raises_corrupt: config.corruption.raises_alarm,
        limits: platform.limits,
        network: network.clone(),
        offload: platform.offload,
    };
    let raft = Raft::start(
        raft_config,
        wal,
        state.clone(),
        hub.clone(),
        lease_changes,
        token_changes,
        inbox,
    )
    .await?;
    let coordinator = Coordinator::new(Parts {
        identity,
        raft: raft.clone(),
        state: state.clone(),
        hub,
        quota_bytes: config.quota_bytes,
        election: config.election,
        scratch: platform.scratch(),
        tokens: tokens.clone(),
        passwords: Passwords::new(config.auth.bcrypt_cost, platform.offload),
        offload: platform.offload,
    });

    let (closing, closed) = watch::channel(false);
    let client_addresses = addresses(&client_listeners)?;
    let peer_addresses = addresses(&peer_listeners)?;
    let mut tasks = JoinSet::new();
    for listener in peer_listeners {
        tasks.spawn(http::serve_until_dropped(
            listener,
            http::Limits::peers(),
            raft.peer_calls(),
        ));
    }
    if let Some(members) = founders {
        raft.initialize(members)
            .await
            .map_err(|error| Stop::Ended(format!("cannot form the cluster: {error}")))?;
    }
    if config.corruption.compares_first {
        compare_first(&raft, config.election).await?;
    }
    tasks.spawn(async move { tokens.expire().await });
    tasks.spawn(countdown::run(
        raft.clone(),
        state,
        config.election,
        lease_changes_in,
        received,
    ));
    let mut doors = JoinSet::new();
    let budget = Budget::of(platform.memory_bytes);
    let router = Router::new(
        etcd::Services::new(
            coordinator.clone(),
            config.requests,
            audit.clone(),
            config.slow,
            closed.clone(),
        ),
        Admin::new(coordinator.clone()),
    );
    let config::Web {
        has_gateway,
        origins,
        hosts,
    } = config.web.clone();
    let router = router.with_gateway(has_gateway, http::Access { origins, hosts });
    let is_split = client_listeners.len() > http_from;
    for (place, listener) in client_listeners.into_iter().enumerate() {
        let router = match is_split {
            true if place < http_from => router.of_grpc_alone(),
            true => router.of_plain_http_alone(),
            false => router.clone(),
        };
        doors.spawn(http::serve(
            listener,
            http::Limits::clients().with_streams_max(config.streams_max),
            budget.clone(),
            move |share| router.connection(share),
            closed.clone(),
        ));
    }
    let pages = Router::of_pages(Admin::new(coordinator.clone()));
    for listener in page_listeners {
        let pages = pages.clone();
        doors.spawn(http::serve(
            listener,
            http::Limits::clients(),
            budget.clone(),
            move |share| pages.connection(share),
            closed.clone(),
        ));
    }
    if let Some(keep) = config.auto_compaction {
        tasks.spawn(auto_compaction::run(coordinator.clone(), keep));
    }
    tasks.spawn(publish(raft.clone(), record(&config, identity)));
    Ok(Node {
        coordinator,
        raft,
        client_addresses,
        peer_addresses,
        doors,
        tasks,
        closing,
        audit,
        _directory: platform.lock,
    })
}

/// The audit log, if there is to be one.
///
/// Errors: it cannot be opened.
fn open_audit(config: &Config) -> Result<Option<(audit::Output, audit::Filter)>, Stop> {
    let Some(asked) = &config.audit else {
        return Ok(None);
    };
    let output = audit::Output::open(&asked.destination).map_err(unfit_for_audit)?;
    Ok(Some((output, asked.filter.clone())))
}

fn unfit_for_audit(error: std::io::Error) -> Stop {
    let why = format!("it cannot be opened: {error}");
    let flag = "coord-audit-log";
    Stop::Usage(Invalid { flag, why })
}

/// Waits until this member is known to hold what its leader does: etcd's check at the start.
///
/// Errors: it does not.
async fn compare_first(raft: &Raft, election: Duration) -> Result<(), Stop> {
    tracing::info!("starting initial corruption check");
    tokio::select! {
        why = raft.stopped() => Err(Stop::Ended(format!("found data inconsistency with peers: {why}"))),
        () = raft.agreed(request_limit(election)) => {
            tracing::info!("initial corruption checking passed; no corruption");
            Ok(())
        }
    }
}

/// Makes this member the only one of its cluster, as `--force-new-cluster` says.
async fn force(
    config: &Config,
    platform: &Platform,
    wal: &Wal,
    held: (Option<LogPosition>, Option<Bytes>, u32),
    member: MemberId,
) -> Result<(), Stop> {
    let urls = config.peer.advertise.iter().map(Url::to_string).collect();
    let forced = raft::force_new_cluster(wal, held, (member, urls), platform.offload).await?;
    let Some(raft::Forced {
        dropped,
        was_learner,
        at,
    }) = forced
    else {
        tracing::warn!(
            "--force-new-cluster changes nothing: this member is alone; start it without"
        );
        return Ok(());
    };
    let dropped: Vec<String> = dropped.iter().map(MemberId::to_string).collect();
    tracing::warn!(
        dropped = dropped.join(","),
        index = at.index,
        "forced a new cluster of this member alone; the others are refused from now on, start them with an empty --data-dir"
    );
    if was_learner {
        tracing::warn!(
            "this member was a learner: it may lack writes that were acknowledged without it"
        );
    }
    Ok(())
}

/// The addresses that were bound; sockets of the file system have none.
fn addresses(endpoints: &[Endpoint]) -> Result<Vec<std::net::SocketAddr>, Stop> {
    let address = |endpoint: &Endpoint| {
        endpoint.local_address().map_err(|source| Stop::Listen {
            url: "a bound address".to_owned(),
            source,
        })
    };
    let addresses = endpoints.iter().map(address);
    addresses.filter_map(Result::transpose).collect()
}

/// Opens the log that is there, or makes one: as a founder, or as a member that others have added.
async fn open_log(
    config: &Config,
    platform: &Platform,
    client: &[Endpoint],
) -> Result<(Wal, Identity, Founders), Stop> {
    let place = platform.log.clone();
    if let Some(wal) = stored::aside(platform.offload, move || stored::log(&place)).await? {
        let identity = known(wal.identity());
        return Ok((wal, identity, None));
    }
    let (identity, founders) = match config.initial.state {
        InitialState::New => {
            let members = founders(config);
            let ids: Vec<MemberId> = members.iter().map(|(id, _)| *id).collect();
            let own: Vec<String> = config.peer.advertise.iter().map(Url::to_string).collect();
            let member = identity::member_id(&own, &config.initial.token);
            let identity = Identity {
                cluster: identity::cluster_id(&ids),
                member,
                incarnation: new_incarnation(),
            };
            join::refuse_second_bootstrap(config, &platform.network, identity.cluster, member)
                .await?;
            (identity, Some(members))
        }
        InitialState::Existing => {
            let told = join::wait_to_be_added(config, &platform.network, client).await?;
            let (cluster, member, founders) = match told {
                join::Told::Join(cluster, member) => (cluster, member, None),
                join::Told::Form => {
                    let (cluster, founder) = alone(config);
                    (cluster, founder.0, Some(vec![founder]))
                }
            };
            let incarnation = new_incarnation();
            (
                Identity {
                    cluster,
                    member,
                    incarnation,
                },
                founders,
            )
        }
    };
    let (place, stamp) = (platform.log.clone(), stamp(identity, config));
    let wal = stored::aside(platform.offload, move || place.create(stamp)).await?;
    Ok((wal, identity, founders))
}

fn founders(config: &Config) -> Vec<(MemberId, Vec<String>)> {
    let token = &config.initial.token;
    let urls = config
        .initial
        .cluster
        .iter()
        .map(|(_, urls)| urls.iter().map(Url::to_string).collect::<Vec<_>>());
    urls.map(|urls| (identity::member_id(&urls, token), urls))
        .collect()
}

/// The cluster that this member forms alone when it is told to, and its founder.
fn alone(config: &Config) -> (crate::command::ClusterId, (MemberId, Vec<String>)) {
    let own: Vec<String> = config.peer.advertise.iter().map(Url::to_string).collect();
    let member = identity::member_id(&own, &config.initial.token);
    (identity::cluster_id(&[member]), (member, own))
}

/// The founders of a cluster that this member was about to form when it ended: its log is still as empty as it was made.
///
/// Without them it would wait for somebody to form the cluster, and if all founders ended then, for ever.
async fn founders_again(
    config: &Config,
    network: &Network,
    identity: Identity,
) -> Result<Founders, Stop> {
    if config.initial.state != InitialState::New {
        // Ids that are derived are those of a member that was told to form its cluster; a member that joins has a
        // random one.
        let (cluster, founder) = alone(config);
        let is_told =
            config.owner.is_some() && (identity.cluster, identity.member) == (cluster, founder.0);
        return Ok(is_told.then(|| vec![founder]));
    }
    let members = founders(config);
    let ids: Vec<MemberId> = members.iter().map(|(id, _)| *id).collect();
    let Identity {
        cluster, member, ..
    } = identity;
    // Somebody who was added later waits for the cluster.
    if identity::cluster_id(&ids) != cluster || !ids.contains(&member) {
        return Ok(None);
    }
    join::refuse_second_bootstrap(config, network, cluster, member).await?;
    Ok(Some(members))
}

fn new_incarnation() -> Incarnation {
    Incarnation(rand::random::<u64>().max(1))
}

fn known(stamp: &wal::Identity) -> Identity {
    Identity {
        cluster: stamp.cluster,
        member: stamp.member,
        incarnation: stamp.incarnation,
    }
}

fn stamp(identity: Identity, config: &Config) -> wal::Identity {
    let Identity {
        cluster,
        member,
        incarnation,
    } = identity;
    wal::Identity {
        cluster,
        member,
        incarnation,
        token: config.initial.token.clone(),
        owner: config
            .owner
            .as_ref()
            .map(|owner| owner.name.clone())
            .unwrap_or_default(),
    }
}

fn record(config: &Config, identity: Identity) -> MemberRecord {
    MemberRecord {
        id: identity.member,
        incarnation: identity.incarnation,
        name: config.name.clone(),
        client_urls: config.client.advertise.iter().map(Url::to_string).collect(),
        feature_level: FEATURE_LEVEL,
    }
}

/// Tells the cluster this member's name and client URLs, then says that it serves: the line that programs wait for.
async fn publish(raft: Raft, record: MemberRecord) {
    loop {
        match raft
            .propose(Command::Member(MemberCommand::Publish(record.clone())))
            .await
        {
            Ok(outcome) => match outcome.result {
                Ok(_) => break,
                Err(refusal) => {
                    raft.stop_on_fault(format!(
                        "{refusal}: remove this member from the cluster and add it again, then start it with an empty \
                         --data-dir and --initial-cluster-state=existing"
                    ));
                    return;
                }
            },
            Err(Unavailable::Stopped) => return,
            Err(unavailable) => tracing::debug!(%unavailable, "not published yet"),
        }
        tokio::time::sleep(PUBLISH_PAUSE).await;
    }
    tracing::info!(member_id = %record.id, name = record.name, "ready to serve client requests");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Settings;

    /// One member that is alone; nobody needs its ports.
    fn config(dir: &std::path::Path) -> Config {
        let settings = [
            ("data-dir", dir.to_str().unwrap()),
            ("listen-client-urls", "http://127.0.0.1:0"),
            ("advertise-client-urls", "http://127.0.0.1:1"),
            ("listen-peer-urls", "http://127.0.0.1:0"),
        ];
        let settings = settings
            .into_iter()
            .fold(Settings::default(), |all, (name, value)| {
                all.with(name, value)
            });
        Config::resolve(&settings).unwrap()
    }

    #[tokio::test]
    async fn a_founder_that_ended_before_the_cluster_was_formed_forms_it() {
        const LIMIT: Duration = Duration::from_secs(30);
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        let ids: Vec<MemberId> = founders(&config).iter().map(|(id, _)| *id).collect();
        let identity = Identity {
            cluster: identity::cluster_id(&ids),
            member: ids[0],
            incarnation: new_incarnation(),
        };
        // The state left by a start that ended there: an empty log under its name.
        let place = super::super::LogPlace::Directory(dir.path().to_owned());
        drop(place.create(stamp(identity, &config)).unwrap());
        let node = Node::start(config).await.unwrap();
        // A read needs a leader.
        let read = tokio::time::timeout(LIMIT, node.raft.read_barrier()).await;
        read.expect("it leads").unwrap();
    }
}
