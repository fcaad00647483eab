//! Before a member has data: waits for its place in a running cluster, or makes sure that it is not taken.

use std::time::Duration;

use tokio::task::JoinSet;

use super::Stop;
use crate::admin::{self, Reason, Waiting};
use crate::command::{ClusterId, MemberId};
use crate::config::{Config, Url};
use crate::failpoints::{self, Bug};
use crate::http::Endpoint;
use crate::network::Network;
use crate::raft::peer::{AskError, Asker, JoinAnswer, ask_membership};
use crate::state::FEATURE_LEVEL;

/// Pause between questions; someone has to add this member by hand or by operator, so seconds do not matter.
const ASK_PAUSE: Duration = Duration::from_millis(500);
/// How long a founder looks for peers that know it already. At a first start nobody answers, so this delays it.
const FOUNDER_ASK_MAX: Duration = Duration::from_secs(1);
/// Questions between two log lines about the wait.
const LOG_EVERY: u32 = 20;

/// The instruction to a member that waited.
pub(super) enum Told {
    /// Take the place that it was given.
    Join(ClusterId, MemberId),
    /// Form a cluster alone.
    Form,
}

/// Asks the places of `--initial-cluster` until one of them lists this member's peer URLs, or until this member is told
/// to form the cluster itself, which only one with a `--coord-owner` can be.
///
/// Meanwhile the client port answers `/livez` with ok, so that nobody kills a member for waiting.
/// Errors: `Refused` if the cluster there is another one than the token says, or if this member has run before. One with
/// a `--coord-owner` goes on waiting then: it is looked after, and may be added under a new id.
pub(super) async fn wait_to_be_added(
    config: &Config,
    network: &Network,
    client: &[Endpoint],
) -> Result<Told, Stop> {
    let own = texts(&config.peer.advertise);
    let places: Vec<String> = config
        .initial
        .cluster
        .iter()
        .flat_map(|(_, urls)| texts(urls))
        .collect();
    let places: Vec<String> = places
        .into_iter()
        .filter(|url| !own.contains(url))
        .collect();
    let token = &config.initial.token;
    let mut shown = Waiting::new(Reason::NotAdded, "waiting to be added to the cluster");
    if config.owner.is_some() {
        shown = shown.with_door(token);
    }
    let mut waiting = JoinSet::new();
    for listener in client {
        waiting.spawn(admin::serve_waiting(duplicate(listener)?, shown.clone()));
    }
    let mut asked = 0u32;
    let (mut told, mut may_form) = (false, true);
    loop {
        // An answer without a leader's word counts only if nobody has one, and nobody remembers more: a member that
        // is behind may not have heard that this member has run.
        let settles = |answer: &JoinAnswer| answer.own.is_some() && answer.is_current;
        let heard = ask_membership(network, &places, token, Asker::At(&own), settles).await;
        match &heard {
            // There is a cluster. A second one beside it, under the same ids, could undo what that acknowledged.
            Ok(_) => {
                shown.shut();
                may_form = false;
            }
            Err(AskError::Unreachable(_)) if told && may_form => {
                waiting.shutdown().await;
                return Ok(Told::Form);
            }
            Err(AskError::Unreachable(_) | AskError::Refused(_)) => {}
        }
        let why = match heard {
            Ok(answer) if answer.level > FEATURE_LEVEL => {
                return Err(Stop::Refused(format!(
                    "cannot join: the cluster is at feature level {}, this version knows {FEATURE_LEVEL}: start a newer \
                     version",
                    answer.level
                )));
            }
            Ok(answer) => match (answer.used_up(), answer.own) {
                (Some(member), _) if answer.is_current && config.owner.is_none() => {
                    return Err(wiped(member));
                }
                (Some(member), _) if answer.is_current => {
                    let why = format!(
                        "member {member} has run before and its data directory is empty now"
                    );
                    shown.set(Reason::Wiped, &why);
                    why
                }
                (Some(member), _) => format!(
                    "these peer URLs are those of member {member}, which has run before, says one that has no leader \
                     now and may be behind"
                ),
                (None, Some(member)) => {
                    waiting.shutdown().await;
                    return Ok(Told::Join(answer.cluster, member));
                }
                (None, None) => {
                    let why = "the cluster does not list this member's peer URLs yet";
                    let said = format!("waiting to be added to the cluster: {why}");
                    shown.set(Reason::NotAdded, &said);
                    why.to_owned()
                }
            },
            Err(AskError::Refused(why)) => {
                return Err(Stop::Refused(format!("cannot join: {why}")));
            }
            Err(AskError::Unreachable(why)) => why,
        };
        if asked.is_multiple_of(LOG_EVERY) {
            tracing::info!(peer_urls = %own.join(","), %why, "waiting to be added to the cluster");
        }
        asked = asked.wrapping_add(1);
        tokio::select! {
            () = tokio::time::sleep(ASK_PAUSE) => {}
            // Asked once more before it is done: the word may have come late.
            () = shown.told() => told = true,
        }
    }
}

/// Refuses to form a cluster that its other founders have formed already: this member was wiped, and a second history
/// under its old id could undo what the first one acknowledged.
pub(super) async fn refuse_second_bootstrap(
    config: &Config,
    network: &Network,
    cluster: ClusterId,
    member: MemberId,
) -> Result<(), Stop> {
    let own = texts(&config.peer.advertise);
    let others: Vec<String> = config
        .initial
        .cluster
        .iter()
        .flat_map(|(_, urls)| texts(urls))
        .filter(|url| !own.contains(url))
        .collect();
    if others.is_empty() || failpoints::has(Bug::NodeIdReused) {
        return Ok(());
    }
    let token = &config.initial.token;
    // The first that knows this member counts, current or not: a run that it has seen took place.
    let settles = |answer: &JoinAnswer| answer.own.is_some();
    let ask = ask_membership(network, &others, token, Asker::At(&own), settles);
    let Ok(Ok(answer)) = tokio::time::timeout(FOUNDER_ASK_MAX, ask).await else {
        return Ok(());
    };
    if answer.cluster == cluster && answer.started.contains(&member) {
        return Err(wiped(member));
    }
    Ok(())
}

/// A member that lost its data cannot know what it promised with it, so its id is used up.
fn wiped(member: MemberId) -> Stop {
    Stop::Refused(format!(
        "member {member} has run before and its data directory is empty now: remove it from the cluster, add it again \
         and start it with --initial-cluster-state=existing"
    ))
}

pub(super) fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(Url::to_string).collect()
}

/// A second handle on a bound address, for the short time before the doors take it over.
pub(super) fn duplicate(endpoint: &Endpoint) -> Result<Endpoint, Stop> {
    endpoint.duplicate().map_err(|source| Stop::Listen {
        url: "a bound address".to_owned(),
        source,
    })
}
